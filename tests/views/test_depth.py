import pytest

from labkit.trace.trace import Trace
from labkit.views.depth import depth, headline
from labkit.views.loads import load
from labkit.widgets.depth import sample


def rows(picture, *roles):
    names = ("left", "right", "top", "bottom", "t1", "role")
    return [row[:5] for row in zip(*(picture.shapes[name] for name in names), strict=True) if row[5] in roles]


def test_the_curve_is_as_high_as_there_are_requests():
    tops = {round(top) for _, _, top, _, _ in rows(depth(sample()), "area")}
    assert min(tops) == 34  # eight of eight
    assert max(tops) == 136  # one of eight


def test_a_request_that_waits_stands_above_those_with_the_driver():
    picture = depth(sample())
    first = min(rows(picture, "waits"))
    assert (round(first[2]), round(first[3])) == (136, 150)


def test_each_request_has_a_bar_in_the_row_of_its_unit():
    picture = depth(sample())
    tops = [round(top) for _, _, top, _, _ in rows(picture, "cached", "full")]
    assert [tops.count(round(177.5 + 14 * row)) for row in range(4)] == [3, 3, 3, 3]
    assert len(rows(picture, "full")) == 1  # the one that fails


def test_of_many_requests_a_row_tells_how_busy_its_units_are():
    base = [rec for rec in sample().records if getattr(rec, "rq", 0) in range(1, 12)]
    many = [rec._replace(t=rec.t + 200_000 * i, rq=rec.rq + 100 * i) for i in range(60) for rec in base]
    picture = depth(Trace(tuple(sorted(many, key=lambda rec: rec.t))))
    assert rows(picture, "cached") == []
    assert 4 * 100 < len(rows(picture, "share")) < 4 * 160
    assert len(picture.shapes["left"]) < 2_000


def test_where_nothing_happens_time_is_folded_and_says_how_long():
    assert "⋯ 30.00 s ⋯" in depth(sample()).words["text"]
    assert not [text for text in depth(Trace(sample().records[:30])).words["text"] if text.startswith("⋯")]


def test_what_breaks_is_marked_and_told():
    picture = depth(sample())
    assert {"timeout", "abort"} <= set(picture.words["text"])
    assert "Something breaks (timeout): the drive forgets a command." in [step.text for step in picture.steps]


def test_each_step_counts():
    steps = depth(sample()).steps
    idle = "no requests with the driver, no units of the device busy"
    assert steps[0].text == f"One request in the queue, {idle}; 0 of 12 done."
    assert steps[-1].text == f"{idle.capitalize()}; 12 of 12 done."


def test_percentiles_stand_over_the_histogram():
    texts = depth(sample()).words["text"]
    assert {"p50 119.30 µs", "p99 137.30 µs"} <= set(texts)


def test_the_headline_tells_depth_latency_and_failures():
    head, under = headline(load(sample()))
    assert head == "12 requests, up to 8 at once"
    assert under.startswith("From tag to end: p50 119.30 µs, ")
    assert "one request failed" in under


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    picture = depth(sample(), width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_without_requests_there_are_no_steps():
    assert depth(Trace(())).steps == []
    assert headline(load(Trace(())))[0] == "No request"
