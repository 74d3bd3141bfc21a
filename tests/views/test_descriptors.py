import pytest

from labkit.trace.events import NvmeSetupCmd, VirtqueueAdd
from labkit.trace.trace import Trace
from labkit.views.descriptors import MOST_FIELDS, commands, descriptors, headline
from labkit.widgets.descriptors import sample

(PRP,) = sample().records


def test_each_field_is_a_step_and_says_what_it_means():
    steps = descriptors(PRP).steps
    assert len(steps) == 14
    assert steps[5][:3] == (
        "bytes 24 to 31", "where in memory", "PRP1 is 0xffff_8200: page 0xffff8, byte 512 of it: up to 3.5 KiB.",
    )  # fmt: skip
    assert {step.function for step in steps} == {"nvme_setup_cmd"}


def test_every_byte_is_spelled_in_its_place():
    words = descriptors(PRP).words
    found = [word for word, align in zip(words["text"], words["align"], strict=True) if align == "center"]
    assert "".join(found) == PRP.sqe + PRP.lists.partition(":")[2]


def test_a_field_is_framed_on_both_sides_while_it_is_told_of():
    shapes = descriptors(PRP).shapes
    rows = zip(*(shapes[name] for name in ("role", "t1", "t4", "left")), strict=True)
    framed = [(t1, t4, left) for role, t1, t4, left in rows if role == "window" and t1 == 5]
    assert [row[:2] for row in framed] == [(5, 6), (5, 6)]
    assert framed[0][2] < framed[1][2]


def test_a_field_over_two_lines_has_two_boxes():
    shapes = descriptors(PRP).shapes
    wide = [t1 for role, t1 in zip(shapes["role"], shapes["t1"], strict=True) if role == "window"]
    assert wide.count(4) == 3  # bytes 8 to 23 lie on two lines, and there is the row of the meaning


def test_a_long_list_is_cut_and_says_so():
    long = PRP._replace(lists=f"0x1000:{bytes(8 * 64).hex()}")
    picture = descriptors(long)
    assert len(picture.steps) == 11 + MOST_FIELDS
    assert [step.text.partition(" is ")[0] for step in picture.steps[-5:]] == [
        "entry 15", "entry 60", "entry 61", "entry 62", "entry 63",
    ]  # fmt: skip
    assert {"0x070", "0x1e0"} <= set(picture.words["text"])
    assert "44 more fields before the last ones" in picture.words["text"]


def test_pointing_tells_name_value_meaning_and_place():
    hot = descriptors(PRP).hot
    assert ("NLB", "23", "24 blocks: the field is one less", "bytes 48 to 49") in hot["tip"]


@pytest.mark.parametrize(
    ("rec", "head"),
    [
        (PRP, "NVMe command 7: 12 KiB by PRPs"),
        (PRP._replace(encoding="sgl"), "NVMe command 7: 12 KiB by an SGL"),
        (
            VirtqueueAdd(0, 1, 3, 5, 8, 8192, True, 4, 64, "", ""),
            "virtio-blk request 3: 8 KiB in four descriptors",
        ),
        (None, "No command"),
    ],
)
def test_the_headline_says_what_the_command_is(rec, head):
    assert headline(rec, 1)[0] == head


def test_commands_are_those_that_hold_bytes():
    assert commands(Trace((PRP,))) == [PRP]
    assert commands(Trace(())) == []


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    picture = descriptors(PRP, width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_without_bytes_there_are_no_steps():
    assert descriptors(None).steps == []
    assert descriptors(NvmeSetupCmd(0, 1, 1, 0, 0, 4096, 0, 0, 1, 0, "")).steps == []
