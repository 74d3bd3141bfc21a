import pytest

from labkit.trace.events import IomapIterDstmap
from labkit.trace.trace import Trace
from labkit.views.extents import extents, headline
from labkit.views.file_steps import file_story
from labkit.views.journey import NEVER
from labkit.widgets.extents import sample


def drawn(picture, role):
    shapes = picture.shapes
    rows = zip(*(shapes[name] for name in ("left", "right", "t1", "t4", "role")), strict=True)
    return [(round(left), round(right), t1, t4) for left, right, t1, t4, found in rows if found == role]


def test_bytes_of_the_file_are_to_scale():
    picture = extents(sample())
    file = drawn(picture, "mapped")[0]
    hole = drawn(picture, "hole")[0]
    assert file[:3] == (116, 596, 2)  # 32 of 96 KiB, from where it is told of
    assert (hole[0], hole[1] - hole[0]) == (596, 360)


def test_a_hole_leads_nowhere_and_everything_else_has_a_ribbon():
    picture = extents(sample())
    assert picture.bands["role"] == ["mapped", "unwritten", "shared"]
    assert all(y0 < y1 for y0, y1 in zip(picture.bands["y0"], picture.bands["y1"], strict=True))


def test_a_bio_stands_under_the_extent_that_it_is_for():
    picture = extents(sample())
    bios, mapped, shared = drawn(picture, "bio"), drawn(picture, "mapped"), drawn(picture, "shared")
    assert bios[0][:2] == mapped[1][:2]
    assert bios[1][:2] == shared[1][:2]
    assert bios[0][2:] == (3, 12)  # the step that queues it, the step that completes its request


def test_zeros_are_marked_where_nothing_was_read():
    assert [row[2:] for row in drawn(extents(sample()), "zero")] == [(5, NEVER), (7, NEVER)]


def test_the_same_extent_is_drawn_once_however_often_it_is_told():
    lie = IomapIterDstmap(0, 1, 12, 65536, 0, 8192, "mapped")
    trace = Trace((lie, lie._replace(t=5), lie._replace(t=9, addr=69632, offset=4096, length=4096)))
    assert extents(trace).bands["role"] == ["mapped"]


def test_there_is_a_step_and_a_sentence_for_each_record():
    picture = extents(sample())
    assert len(picture.steps) == 16
    assert picture.steps[4].text == "24 KiB of the file from byte 32,768 on are a hole, no blocks at all."


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    shapes = extents(sample(), width=width).shapes
    assert min(shapes["left"]) >= 0
    assert max(shapes["right"]) <= width
    assert min(shapes["top"]) >= 0
    assert max(shapes["bottom"]) <= extents(sample(), width=width).height


def test_the_headline_counts_what_there_is():
    head, under = headline(sample(), file_story(sample()))
    assert head == "Four extents of a file of 96 KiB, two bios"
    assert (
        under == "32 KiB mapped; 24 KiB hole; 16 KiB unwritten; 24 KiB shared; 40 KiB zeroed by the CPU; rules of 7.3."
    )


def test_an_empty_trace_is_an_empty_picture():
    assert extents(Trace(())).steps == []
