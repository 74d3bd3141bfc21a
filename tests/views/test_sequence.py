from typing import NamedTuple

import pytest

from labkit.views.sequence import sequence
from labkit.widgets.sequence import sample


class Row(NamedTuple):
    kernel_ns: int | None
    kernel: str
    model_ns: int | None
    model: str
    mark: str


class Count(NamedTuple):
    name: str
    kernel: int | None
    model: int | None
    certain: bool = True


def both(t, text):
    return Row(2 * t, text, t, text, "same")


def drawn(picture, role):
    rows = zip(*(picture.shapes[name] for name in ("left", "top", "t1", "t4", "role")), strict=True)
    return [(round(left), round(top), t1, t4) for left, top, t1, t4, found in rows if found == role]


def test_what_both_did_is_joined_from_one_axis_to_the_other():
    picture = sequence([both(0, "block_plug"), both(100, "block_unplug 1")])
    assert picture.bands["role"] == ["mapped", "mapped"]
    assert picture.bands["a0"][0] == picture.bands["b0"][0]  # both begin with the call
    assert [top for _, top, _, _ in drawn(picture, "mapped")] == [34, 118, 34, 118]


def test_what_one_side_did_alone_is_lit_there_and_leads_nowhere():
    rows = [both(0, "a"), Row(50, "block_rq_requeue", None, "", "only"), Row(None, "", 60, "block_split", "only")]
    picture = sequence(rows)
    assert len(picture.bands["role"]) == 1
    assert [top for _, top, _, _ in drawn(picture, "cut")] == [29, 113]
    signs = [text for text in picture.words["text"] if text in {"=", "+", "-", "≠"}]
    assert signs == ["=", "+", "-"]


def test_what_only_one_side_can_tell_is_quiet_and_no_difference():
    rows = [both(0, "a"), Row(None, "", 5, "GupPin ranges=1", "only"), Row(9, "block_io_start", None, "", "only")]
    picture = sequence(rows)
    assert (drawn(picture, "cut"), drawn(picture, "stale"), len(drawn(picture, "vec1"))) == ([], [], 2)
    assert [step.layer for step in picture.steps] == ["both", "model's own", "kernel's own"]


def test_rows_that_are_not_the_same_are_joined_and_lit():
    picture = sequence([Row(10, "block_getrq 0+8", 20, "block_getrq 0+16", "only")])
    assert picture.bands["role"] == ["cut"]
    assert picture.steps[0].text == "The kernel says block_getrq 0+8, the model says block_getrq 0+16."
    assert "≠" in picture.words["text"]


def test_each_step_tells_both_times():
    picture = sequence([Row(21_400, "block_bio_queue 0+8", 9_800, "block_bio_queue 0+8", "same")])
    (step,) = picture.steps
    assert (step.clock, step.layer, step.function) == ("21.40 µs", "both", "block_bio_queue")
    assert step.text == "block_bio_queue 0+8: kernel after 21.40 µs, model after 9.80 µs."


def test_a_count_is_lit_where_the_two_differ_and_not_where_one_is_unknown():
    picture = sequence([both(0, "a")], [Count("bios", 1, 1), Count("requests", 3, 2), Count("pins", None, 256)])
    assert len(drawn(picture, "box")) == 2
    assert len(drawn(picture, "stale")) == 1
    assert {"1 = 1", "3 ≠ 2", "- ? 256"} <= set(picture.words["text"])


def test_a_count_that_need_not_be_equal_is_not_lit_and_a_long_one_is_told_once():
    counts = [Count("plugs", 3, 2, certain=False), Count("bytes", 1048576, 1048576)]
    picture = sequence([both(0, "a")], counts)
    assert (drawn(picture, "stale"), {"3 ≈ 2", "= 1,048,576"} <= set(picture.words["text"])) == ([], True)


def test_a_long_silence_is_folded_on_each_axis_for_itself():
    times = ((0, 0), (100, 100), (1_000_000, 200))
    picture = sequence([Row(kernel, "a", model, "a", "same") for kernel, model in times])
    folds = [y for text, y in zip(picture.words["text"], picture.words["y"], strict=True) if text == "⋯"]
    assert folds == [44, 128, 128]  # one in the kernel's time, two in the model's: it took 200 ns in all


def test_the_list_has_the_page_of_its_step():
    picture = sequence([both(i, f"event {i}") for i in range(20)])
    words = zip(*(picture.words[name] for name in ("text", "t1", "t4", "y")), strict=True)
    shown = {text: (t1, t4, y) for text, t1, t4, y in words}
    assert shown["event 0"][:2] == (0, 14)
    assert shown["event 14"][:2] == (14, 28)
    assert shown["event 0"][2] == shown["event 14"][2]


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    picture = sequence(*sample(), width=width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_no_events_are_an_empty_picture():
    assert sequence([]).steps == []
