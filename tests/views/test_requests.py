from labkit.trace.events import BlockBioQueue
from labkit.trace.trace import Trace
from labkit.views.journey import NEVER
from labkit.views.pieces import pieces
from labkit.views.requests import MOST, requests, summary
from labkit.widgets.requests import sample


def boxes(picture, *roles):
    rows = zip(*(picture.shapes[name] for name in ("left", "right", "top", "t1", "t4", "role")), strict=True)
    return [(round(a), round(b), round(top), t1, t4) for a, b, top, t1, t4, role in rows if role in roles]


def test_all_systems_share_one_axis_and_one_time():
    picture = requests(sample())
    ends = [(min(box[0] for box in row), max(box[1] for box in row)) for row in (
        [box for box in boxes(picture, "bio") if box[2] < 200], [box for box in boxes(picture, "bio") if box[2] > 200]
    )]  # fmt: skip
    assert ends == [(116, 1556), (116, 1556)]
    assert len(picture.steps) == 22
    assert [step.clock for step in picture.steps[:4]] == ["0 ns", "0 ns", "50 ns", "60 ns"]
    assert {step.layer for step in picture.steps} == {"page", "phyr"}


def test_each_cut_is_drawn_where_it_is_and_says_its_rule():
    picture = requests(sample())
    assert [box[:2] for box in boxes(picture, "cut")] == [(655, 657), (1195, 1197)]
    assert [text for text in picture.words["text"] if text.startswith("SPLIT")] == ["SPLIT-3d", "SPLIT-3d"]


def test_what_is_merged_is_clasped_together():
    picture = requests({"phyr": sample()["phyr"]})
    assert [box[:2] for box in boxes(picture, "card")] == [(651, 661), (1191, 1201)]


def test_a_plug_is_there_until_it_is_pulled():
    ((_, _, _, begin, end),) = boxes(requests({"phyr": sample()["phyr"]}), "plug")
    assert (begin, end) == (2, 7)


def test_a_request_waits_then_is_with_the_driver_then_is_done():
    picture = requests({"page": sample()["page"]})
    first = boxes(picture, "rq0")
    assert [(t1, t4) for *_, t1, t4 in first] == [(2, 3), (3, 9)]


def test_of_very_many_vectors_neighbours_are_drawn_as_one():
    picture = requests({"page": Trace((BlockBioQueue(0, 1, 1, 0, 8 * 2000, 2000, -1),))})
    drawn = len(boxes(picture, "vec0", "vec1"))
    assert MOST / 2 <= drawn <= MOST
    assert "vectors 0 to 3" in [tip[0] for tip in picture.hot["tip"]]


def test_the_words_count_what_is_drawn():
    assert summary(pieces(sample()["page"])) == "16 vectors, one bio, three requests, two cuts"
    assert summary(pieces(sample()["phyr"])) == "four vectors, three bios, one request, two merges"


def test_what_never_comes_is_never_drawn_as_done():
    picture = requests({"page": Trace(sample()["page"].records[:3])})
    assert all(t4 == NEVER for *_, t4 in boxes(picture, "bio"))


def test_no_trace_and_an_empty_one_are_empty_pictures():
    assert requests({}).steps == []
    assert requests({"page": Trace(())}).steps == []
