import pytest

from labkit.views.zorder import blocks, box, cell


@pytest.mark.parametrize(
    ("frame", "place"),
    [(0, (0, 0)), (1, (1, 0)), (2, (0, 1)), (3, (1, 1)), (4, (2, 0)), (64, (8, 0)), (128, (0, 8)), (511, (31, 15))],
)
def test_frames_go_right_down_right_down(frame, place):
    assert cell(frame) == place


def test_every_frame_of_a_pageblock_has_a_cell_of_its_own():
    assert {cell(frame) for frame in range(512)} == {(x, y) for x in range(32) for y in range(16)}


@pytest.mark.parametrize(
    ("pfn", "order", "expected"),
    [
        (0x40000, 0, (0, 0, 1, 1)),
        (0x40006, 1, (2, 1, 2, 1)),
        (0x40000, 2, (0, 0, 2, 2)),
        (0x40010, 4, (4, 0, 4, 4)),
        (0x40080, 7, (0, 8, 16, 8)),
        (0x40200, 9, (0, 0, 32, 16)),
    ],
)
def test_an_aligned_block_is_a_square_or_twice_as_wide_as_tall(pfn, order, expected):
    assert box(pfn, order) == expected


@pytest.mark.parametrize("order", range(10))
def test_the_cells_of_a_block_fill_its_box(order):
    pfn = 512 - (1 << order)
    x, y, w, h = box(pfn, order)
    inside = {(x + i, y + j) for i in range(w) for j in range(h)}
    assert {cell(frame) for frame in range(pfn, pfn + (1 << order))} == inside


def test_a_run_of_frames_is_its_fewest_aligned_blocks():
    assert list(blocks(5, 14)) == [(5, 0), (6, 1), (8, 3), (16, 1), (18, 0)]


def test_no_block_is_larger_than_a_pageblock():
    assert list(blocks(0, 1024)) == [(0, 9), (512, 9)]
