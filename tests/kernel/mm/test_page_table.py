import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.mm.page_table import ADDR_MASK, PAGE_PRESENT, PAGE_PSE, PAGE_RW, PAGE_USER, PageTable

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
    assert list(table.ptes) == [0, 0, 0]
    assert table.absent(0, 3, PAGE_PRESENT) == 0


def test_a_range_maps_frame_after_frame():
    table = PageTable(4)
    table.set_range(1, 0x21000, 2, FLAGS)
    assert list(table.ptes) == [0, 0x21007, 0x22007, 0]


def test_runs_are_joined_neighbours():
    assert list(table_of([7, 8, 33, 34, 35, 9]).runs(0, 6)) == [(0x7000, 8192), (0x21000, 12288), (0x9000, 4096)]
    assert list(table_of([7, 8, 33]).runs(1, 3)) == [(0x8000, 4096), (0x21000, 4096)]


@pytest.mark.parametrize("pages", [2, 40])
@pytest.mark.parametrize("less", [PAGE_RW, 0])
def test_neighbours_with_other_rights_do_not_join(pages, less):
    table = PageTable(pages)
    table.set_range(0, 0x100000, pages - 1, FLAGS ^ less)
    table.set_range(pages - 1, 0x100000 + (pages - 1) * 4096, 1, FLAGS ^ PAGE_RW ^ less)
    assert list(table.runs(0, pages)) == [(0x100000, (pages - 1) * 4096), (0x100000 + (pages - 1) * 4096, 4096)]


@pytest.mark.parametrize("pages", [2, 40])
def test_one_frame_twice_does_not_join(pages):
    assert list(table_of([7] * pages).runs(0, pages)) == [(0x7000, 4096)] * pages


def test_the_highest_physical_address_fits_an_entry():
    table = PageTable(2)
    table.set_range(0, 0x000FFFFFFFFFE000, 2, FLAGS)
    assert list(table.runs(0, 2)) == [(0x000FFFFFFFFFE000, 8192)]


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
    assert list(table_of(pfns).runs(0, pages)) == expected


@given(PFNS, st.data())
def test_loop_and_numpy_agree(pfns, data):
    table = table_of(pfns)
    first = data.draw(st.integers(0, len(pfns) - 1))
    last = data.draw(st.integers(first + 1, len(pfns)))
    runs = list(table.runs(first, last))
    assert runs == list(table._runs_by_loop(first, last))
    frames = [addr + at >> 12 for addr, nbytes in runs for at in range(0, nbytes, 4096)]
    assert frames == pfns[first:last]
    assert all(a + n != b for (a, n), (b, _) in itertools.pairwise(runs))
