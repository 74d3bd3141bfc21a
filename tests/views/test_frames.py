import pytest

from labkit.views.frame_units import MOST
from labkit.views.frames import frames
from labkit.widgets.frames import sample

VA = 0x7F00_0000_0000


def drawn(picture, *roles):
    rows = zip(*(picture.shapes[name] for name in ("left", "right", "top", "role")), strict=True)
    return [(round(a), round(b), round(top)) for a, b, top, role in rows if role in roles]


def scattered(pages):
    return [(VA + (i << 12), 5000 + 7919 * i % 50021 * 2, 1) for i in range(pages)]


def test_user_pages_are_to_scale_and_runs_that_go_on_are_one():
    picture = frames([(VA, 10, 1), (VA + 4096, 11, 1), (VA + 8192, 40, 2)])
    user = [row[:2] for row in drawn(picture, "mapped") if row[2] == 26]
    assert user == [(116, 836), (836, 1556)]


def test_each_run_has_a_ribbon_down_to_its_frames():
    picture = frames([(VA, 40, 2), (VA + 8192, 10, 2)])
    there = [(row[0], row[1]) for row in drawn(picture, "mapped") if row[2] == 158]
    assert there[0][0] > there[1][1]  # the first run of user memory lies higher up
    bands = zip(picture.bands["a0"], picture.bands["b0"], strict=True)
    assert [(round(a), round(b)) for a, b in bands] == [(116, there[0][0]), (836, there[1][0])]


def test_pages_without_a_frame_are_hatched_and_lead_nowhere():
    picture = frames([(VA, -1, 4), (VA + 16384, 7, 4)])
    assert drawn(picture, "absent") == [(116, 836, 26)]
    assert len(picture.bands["role"]) == 1
    assert "not there" in picture.words["text"]
    assert picture.steps[0].text == "Four pages without a frame: not there, or nothing that can be pinned."


def test_a_folio_is_outlined_as_a_whole_where_the_buffer_has_a_part_of_it():
    picture = frames([(VA, 512 + 256, 256)], [(512, 512, ["THP"])])
    assert drawn(picture, "folio") == [(115, 1557, 151)]
    assert drawn(picture, "mapped")[1] == (836, 1556, 158)
    assert "order 9" in picture.words["text"]
    assert "256 of its pages are the buffer's" in [line for tip in picture.hot["tip"] for line in tip]


def test_a_bio_is_as_wide_as_its_bytes_and_its_frames_have_its_look():
    picture = frames(*sample())
    assert [step.layer for step in picture.steps[-2:]] == ["bio 1 of 2", "bio 2 of 2"]
    boxes = [row for row in drawn(picture, "rq0", "rq1") if row[2] == 262]
    assert [(right - left) for left, right, _ in boxes] == [735, 702]  # 88 and 84 of 172 KiB
    user = [role for role, top in zip(picture.shapes["role"], picture.shapes["top"], strict=True) if top == 26]
    assert user == ["rq0"] * 5 + ["absent"] + ["rq1"] * 3


def test_a_run_that_several_bios_took_is_grey_and_so_is_one_that_none_of_them_did():
    bios = [[0, [[10 << 12, 4096]]], [8, [[11 << 12, 4096], [20 << 12, 4096]]]]
    picture = frames([(VA, 10, 2), (VA + 8192, 20, 1), (VA + 12288, 30, 1)], (), bios)
    user = [role for role, top in zip(picture.shapes["role"], picture.shapes["top"], strict=True) if top == 26]
    assert user == ["vec0", "rq1", "vec0"]


def test_the_step_of_a_bio_lights_the_ribbons_from_its_frames():
    picture = frames(*sample())
    last = len(picture.steps) - 1
    lit = [y0 for y0, t1 in zip(picture.bands["y0"], picture.bands["t1"], strict=True) if t1 == last]
    assert len(lit) == 3  # the second bio has three vectors


def test_a_vector_that_lies_in_no_frame_of_the_buffer_has_no_ribbon():
    picture = frames([(VA, 10, 1)], (), [[0, [[999 << 12, 4096]]]])
    assert len(picture.bands["role"]) == 1


@pytest.mark.parametrize("pages", [MOST, MOST + 1, 4096])
def test_however_many_runs_there_are_no_more_than_1500_shapes_are_drawn(pages):
    rows = scattered(pages)
    bios = [[8 * at, [[pfn << 12, 4096] for _, pfn, _ in rows[at : at + 256]]] for at in range(0, pages, 256)]
    picture = frames(rows, (), bios)
    edges = picture.shapes["role"].count("edge")  # those of the step alone are seen
    assert len(picture.shapes["role"]) - edges + len(picture.bands["role"]) <= 1500
    assert len(picture.steps) <= MOST + len(bios)


def test_a_bundle_says_how_many_runs_it_stands_for():
    picture = frames(scattered(601))
    assert (picture.steps[0].layer, picture.steps[1].layer) == ("runs 1 to 3", "runs 4 to 6")
    assert picture.steps[0].text == "3 runs of 3 pages in all; the first lies at PFN 0x1388."
    assert "3 runs, a ribbon to the first" in picture.words["text"]


def test_the_zero_page_behind_every_page_is_one_frame():
    picture = frames([(VA + (i << 12), 77, 1) for i in range(4)])
    assert {row[:2] for row in drawn(picture, "mapped") if row[2] == 158} == {(116, 1556)}


@pytest.mark.parametrize("width", [1568, 668])
@pytest.mark.parametrize("rows", [sample()[0], scattered(2048), [(VA, -1, 1)]], ids=["sample", "scattered", "none"])
def test_nothing_leaves_the_page(rows, width):
    picture = frames(rows, sample()[1], width=width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height
    assert max(picture.words["y"]) <= picture.height


def test_no_memory_is_an_empty_picture():
    assert frames([]).steps == []
