import json

import pytest

from labkit.views.memory import memory
from labkit.widgets.memory import figure
from labkit.widgets.page import standalone
from labkit.widgets.picture import picture

ALL = ("SMALL", "FAILED", "HOSTILE", "EMPTY")


@pytest.mark.parametrize("name", ALL)
def test_every_trace_has_a_picture_of_plain_json(traces, name):
    value = picture(getattr(traces, name))
    assert json.loads(json.dumps(value))["html"]


def test_an_empty_trace_has_one_sentence_and_no_document(traces):
    value = picture(traces.EMPTY)
    assert value["item"] is None
    assert "This trace holds no records" in value["html"]


def test_markup_in_a_trace_is_escaped(traces):
    page = standalone(traces.HOSTILE)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in picture(traces.HOSTILE)["html"]


def test_the_picture_of_one_mebibyte_is_small(traces):
    assert len(json.dumps(picture(traces.scattered(256)))) < 1_200_000


def test_a_page_of_a_thousand_events_is_no_more_than_three_megabytes(traces):
    trace = traces.scattered(900, per_request=8)
    assert len(trace) > 1000
    assert len(standalone(trace)) < 3_000_000


def test_a_page_asks_nobody_for_anything(traces):
    head, _, rest = standalone(traces.SMALL).partition("<script>")
    assert "http" not in head
    assert 'src="' not in head + rest[-60_000:]


def test_a_figure_is_drawn_as_it_is_at_the_record_that_is_asked_for(traces):
    fig = figure(memory(traces.SMALL), at=3)
    shapes = {renderer.data_source.name: renderer.data_source.data for renderer in fig.renderers}
    assert shapes["memory"]["alpha"] == [1.0, 1.0]
    assert shapes["memory"]["edge"] == [1.0, 1.0]
    assert shapes["bus"]["alpha"] == [0.0, 0.0]
    assert shapes["pins"]["alpha"] == [1.0, 1.0]


def test_the_figure_says_what_it_is_where_it_cannot_be_seen(traces):
    fig = figure(memory(traces.SMALL), at=0)
    assert fig.html_attributes["role"] == "img"
    assert fig.html_attributes["aria-label"].startswith("User memory, physical memory")
