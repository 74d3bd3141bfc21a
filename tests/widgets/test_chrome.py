"""What stands around the pictures."""

from dataclasses import replace

from labkit.trace.events import MmFilemapAddToPageCache
from labkit.trace.trace import Trace
from labkit.views.journey import journey
from labkit.views.memory import memory
from labkit.widgets.chrome import html


def around(trace):
    trip = journey(trace)
    return html(trace, trip, memory(trace, trip))


def test_where_nobody_looked_memory_is_not_called_free(traces):
    assert '<li class="free">free</li>' in around(traces.SMALL)
    looked = Trace(traces.SMALL.records, traces.SMALL.memory, {**traces.SMALL.meta, "elsewhere": "<not> looked at"})
    assert '<li class="free">&lt;not&gt; looked at</li>' in around(looked)


def test_the_page_cache_is_in_the_legend_where_a_file_has_pages(traces):
    bare = replace(traces.SMALL, memory=replace(traces.SMALL.memory, others=()))
    cached = MmFilemapAddToPageCache(0, 0, 0, 1, 8, ((0x4000_0000, 4096),), "file")
    assert "page cache" not in around(bare)
    assert "page cache" in around(replace(bare, records=(cached, *bare.records)))
