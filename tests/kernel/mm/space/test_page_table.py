import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.mm.space.leaves import Leaf
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_DIRTY, PAGE_PRESENT, PAGE_PSE, PAGE_RW, PAGE_USER
from labkit.scatter.payload import run_length
from labkit.scatter.range_array import RangeArray

FLAGS = PAGE_PRESENT | PAGE_RW | PAGE_USER
PFNS = st.lists(st.integers(1, 60), min_size=1, max_size=70)


def table_of(pfns, flags=FLAGS):
    table = PageTable(len(pfns))
    for i, pfn in enumerate(pfns):
        table.set_range(i, pfn << 12, 1, flags)
    return table


def test_the_bits_are_those_of_x86():
    assert (PAGE_PRESENT, PAGE_RW, PAGE_USER, PAGE_PSE) == (1, 2, 4, 128)
    assert ADDR_MASK == 0x000FFFFFFFFFF000


def test_a_table_begins_with_nothing_present():
    table = PageTable(3)
    assert [table.word(at) for at in range(3)] == [0, 0, 0]
    assert table.gaps(0, 3) == [(0, 3)]
    assert table.present(0, 3) == []
    assert table.absent(0, 3, PAGE_PRESENT) == 0


def test_a_range_maps_frame_after_frame():
    table = PageTable(4)
    table.set_range(1, 0x21000, 2, FLAGS)
    assert list(table.ptes) == [0, 0x21007, 0x22007, 0]


def test_runs_are_joined_neighbours():
    assert list(table_of([7, 8, 33, 34, 35, 9]).ranges(0, 6)) == [(0x7000, 8192), (0x21000, 12288), (0x9000, 4096)]
    assert list(table_of([7, 8, 33]).ranges(1, 3)) == [(0x8000, 4096), (0x21000, 4096)]


@pytest.mark.parametrize("pages", [2, 40])
@pytest.mark.parametrize("less", [PAGE_RW, 0])
def test_neighbours_with_other_rights_do_not_join(pages, less):
    table = PageTable(pages)
    table.set_range(0, 0x100000, pages - 1, FLAGS ^ less)
    table.set_range(pages - 1, 0x100000 + (pages - 1) * 4096, 1, FLAGS ^ PAGE_RW ^ less)
    assert list(table.ranges(0, pages)) == [(0x100000, (pages - 1) * 4096), (0x100000 + (pages - 1) * 4096, 4096)]


@pytest.mark.parametrize("pages", [2, 40])
def test_one_frame_twice_does_not_join(pages):
    assert list(table_of([7] * pages).ranges(0, pages)) == [(0x7000, 4096)] * pages


def test_the_highest_physical_address_fits_an_entry():
    table = PageTable(2)
    table.set_range(0, 0x000FFFFFFFFFE000, 2, FLAGS)
    assert list(table.ranges(0, 2)) == [(0x000FFFFFFFFFE000, 8192)]


@pytest.mark.parametrize("pages", range(28, 37))
@pytest.mark.parametrize("hole", [None, 0, 15, 27])
def test_the_first_entry_that_lacks_a_right_is_found_around_the_length_where_the_way_changes(pages, hole):
    table = PageTable(pages)
    table.set_range(0, 0x100000, pages, FLAGS)
    if hole is not None:
        table.set_range(hole, 0x9000, 1, PAGE_PRESENT | PAGE_USER)
    assert table.absent(0, pages, PAGE_PRESENT | PAGE_USER) == pages
    assert table.absent(0, pages, FLAGS) == (pages if hole is None else hole)


@pytest.mark.parametrize("pages", range(28, 37))
def test_loop_and_numpy_agree_around_the_length_where_the_way_changes(pages):
    pfns = [50 + i + (i > 5) + 3 * (i > 30) for i in range(pages)]
    expected = [(50 << 12, 6 << 12), (57 << 12, (pages - 6 if pages <= 31 else 25) << 12)]
    if pages > 31:
        expected.append((85 << 12, (pages - 31) << 12))
    assert list(table_of(pfns).ranges(0, pages)) == expected


@given(PFNS, st.data())
def test_loop_and_numpy_agree(pfns, data):
    table = table_of(pfns)
    first = data.draw(st.integers(0, len(pfns) - 1))
    last = data.draw(st.integers(first + 1, len(pfns)))
    runs = table.ranges(first, last)
    assert list(run_length(runs)) == table.few_runs(first, last)
    frames = [addr + at >> 12 for addr, nbytes in runs for at in range(0, nbytes, 4096)]
    assert frames == pfns[first:last]
    assert all(a + n != b for (a, n), (b, _) in itertools.pairwise(runs))


def leafy():
    """Map 4 PTEs, a gap of 508, then two 2 MiB leaves side by side."""
    table = PageTable(1536)
    table.set_range(0, 0x9000, 4, FLAGS)
    table.set_leaves(512, 0x4000000, 512, FLAGS, 9)
    table.set_leaves(1024, 0x4200000, 512, FLAGS, 9)
    return table


def test_leaves_that_go_on_are_one_range_and_every_page_has_a_word():
    table = leafy()
    assert list(table._leaves) == [Leaf(512, 1024, 0x4000087, 9)]
    assert [table.word(at) for at in (3, 4, 512, 513, 1535)] == [0xC007, 0, 0x4000087, 0x4001087, 0x43FF087]
    assert list(table.ranges(512, 1536)) == [(0x4000000, 4 << 20)]
    assert table.entries(0, 4) == 4
    assert table.entries(500, 1536) == 12 + 2


def test_what_is_mapped_and_what_is_not():
    table = leafy()
    assert table.gaps(0, 1536) == [(4, 512)]
    assert table.present(2, 600) == [(2, 4, None), (512, 600, 9)]
    assert table.absent(512, 1536, PAGE_RW) == 1536
    assert table.absent(0, 1536, PAGE_RW) == 4


def test_rights_change_in_the_middle_of_a_leaf_range_alone():
    table = leafy()
    table.change(1024, 1536, take=PAGE_RW)
    assert (table.word(1023) & PAGE_RW, table.word(1024) & PAGE_RW) == (PAGE_RW, 0)
    assert list(table.ranges(512, 1536)) == [(0x4000000, 2 << 20), (0x4200000, 2 << 20)]
    table.change(0, 6, put=PAGE_DIRTY)
    assert [table.word(at) for at in (0, 3, 4)] == [0x9047, 0xC047, 0]


def test_a_leaf_that_is_split_maps_the_same_by_512_entries():
    table = leafy()
    assert table.split_leaf(600) == (512, 1024)
    assert (table.leaf(600), table.word(600), table.entries(512, 1536)) == (None, 0x4058007, 513)
    table.clear(600, 601)
    assert table.gaps(512, 1536) == [(600, 601)]
    assert table.split_leaf(3) == (3, 3)


def test_two_halves_map_what_the_whole_did():
    left, right = leafy().halves(1024)
    assert (left.pages, right.pages) == (1024, 512)
    assert (left.word(3), left.word(512), right.word(0), right.word(511)) == (0xC007, 0x4000087, 0x4200087, 0x43FF087)


def test_a_long_walk_is_remembered_until_an_entry_changes():
    table = PageTable(4096)
    table.set_range(0, 0x1000000, 2048, FLAGS)
    table.set_range(2048, 0x9000000, 2048, FLAGS)
    assert list(table.ranges(0, 4096)) == [(0x1000000, 8 << 20), (0x9000000, 8 << 20)]
    assert list(table.ranges(1, 2050)) == [(0x1001000, (8 << 20) - 4096), (0x9000000, 8192)]
    assert list(table.ranges(2048, 2049)) == [(0x9000000, 4096)]
    table.set_range(1, 0x7000, 1, FLAGS)
    assert list(table.ranges(0, 3)) == [(0x1000000, 4096), (0x7000, 4096), (0x1002000, 4096)]


def test_many_runs_are_set_at_once():
    runs = RangeArray([0x1000 * (i * 3 + 1) for i in range(100)], [8192] * 100)
    table = PageTable(210)
    table.set_runs(5, runs, FLAGS)
    assert [table.word(at) for at in (4, 5, 6, 7, 204, 205)] == [0, 0x1007, 0x2007, 0x4007, 0x12B007, 0]
    assert run_length(table.ranges(5, 205)) == tuple(runs)


def test_a_change_of_no_entry_leaves_the_leaf_around_it_whole():
    table = PageTable(1024)
    table.set_leaves(0, 4 << 20, 1024, 0x67, 9)
    for at in (0, 5, 512, 1024):
        table.change(at, at, take=2)
    assert table.present(0, 1024) == [(0, 1024, 9)]
    table.change_but(0, 1024, range(512), take=2)
    assert [(lo, hi, table.word(lo) & 2) for lo, hi, _ in table.present(0, 1024)] == [(0, 512, 2), (512, 1024, 0)]
