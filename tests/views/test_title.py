from labkit.trace.events import CopyFolio, MmPageAlloc, SysEnter, SysExit
from labkit.trace.trace import Trace
from labkit.views.journey import journey
from labkit.views.title import title


def told(trace):
    return title(trace, journey(trace))


def test_one_read(small):
    assert told(small).head == "One 12 KiB direct read, two physical ranges"
    assert told(small).under == (
        "Pinned as whole ranges, one request to nvme0n1, 12,288 bytes in 72.40 µs of simulated time. "
        "System phyr, IOMMU lazy, folios of 4 KiB."
    )


def test_many_ios_are_counted(small):
    again = (small.records[2]._replace(io=2), small.records[3]._replace(io=2, token=2))
    assert told(Trace((*small.records, *again))).head == "Two direct reads, 24 KiB, four physical ranges"


def test_a_failure_is_the_headline(traces):
    assert told(traces.FAILED).head == "One 12 KiB direct read, ended by -EFAULT"
    assert told(traces.FAILED).under.startswith("The system call stopped short: an address of the buffer")


def test_nothing_is_said_to_be_nothing(small, traces):
    assert told(traces.EMPTY).head == "Nothing happened yet"
    assert told(Trace(small.records[:2])).under == "It holds two records, and no system call."


def test_a_recording_is_said_to_be_one(small):
    made = {"recorded": {"date": "2026-11-22", "kernel": "6.18.44"}}
    trace = Trace(small.records, small.memory, {**small.meta, **made})
    assert told(trace).under.endswith("folios of 4 KiB. Recorded on 2026-11-22, Linux 6.18.44.")
    assert "ecorded" not in told(small).under
    undated = Trace(small.records, small.memory, {**small.meta, "recorded": {"kernel": "7.3.4"}})
    assert told(undated).under.endswith("Recorded, Linux 7.3.4.")


def test_a_failure_is_told_in_the_words_of_the_layer_that_refused(traces):
    said = "gup: addr=0x7e0000000000 is not mapped (MM-4) (-EFAULT)"
    trace = Trace(traces.FAILED.records, traces.FAILED.memory, {**traces.FAILED.meta, "error": said})
    assert told(trace).under.startswith(f"The system call stopped short: {said}")


def test_the_folios_are_those_that_came_whatever_the_scenario_asked_for(small):
    large = tuple(rec._replace(order=4) if isinstance(rec, MmPageAlloc) else rec for rec in small.records)
    assert "folios of 64 KiB." in told(Trace(large, small.memory, small.meta)).under
    none = tuple(rec for rec in small.records if not isinstance(rec, MmPageAlloc))
    assert "folios" not in told(Trace(none, small.memory, small.meta)).under


def test_what_goes_through_the_page_cache_is_not_called_direct():
    trace = Trace((
        SysEnter(0, 1, "pread64", 3, 0x7000, 4096, 0), CopyFolio(5, 1, 0, 4096, write=False),
        SysExit(9, 1, "pread64", 4096),
    ))  # fmt: skip
    assert title(trace, journey(trace)).head == "One 4 KiB buffered read, through the page cache"
