"""A walk, its entries and counters typed out for five pages, a leaf of 2 MiB and a page without a struct page."""

from labkit.scatter.range_array import RangeArray
from labkit.views.steps import NARROW
from labkit.views.walk import MOST_STEPS, Cost, headline, walk
from labkit.views.walk_layout import counted, lay

VA = 0x7F00_0000_0000
ROWS = ((VA, 0x4000_0000, 8192, 0), (VA + 8192, 0x4000_5000, 4096, 0), (VA + 12288, 0x4000_6000, 8192, 0))
"""Three rows as Snapshot.pages has them: the second goes on in the third."""


def levels(addr):
    upper = (("PGD", 254, 7), ("PUD", addr >> 30 & 511, 7))
    if addr >= VA + (4 << 20):
        return (*upper, ("PMD", addr >> 21 & 511, 7), ("PTE", addr >> 12 & 511, 0x20_0000_0000 | 0x267))
    return (*upper, ("PMD", addr >> 21 & 511, 0x1_4000_0000 | 0xE7))


BIG = ((VA + (2 << 20), 0x1_4000_0000, 2 << 20), (VA + (4 << 20), 0x20_0000_0000, 4096))


def test_each_page_is_an_entry_and_neighbours_are_one_phyr():
    found = walk(ROWS)
    assert [(entry.va - VA, entry.pa, entry.nbytes, entry.phyr) for entry in found.entries] == [
        (0, 0x4000_0000, 4096, 0), (4096, 0x4000_1000, 4096, 0), (8192, 0x4000_5000, 4096, 1),
        (12288, 0x4000_6000, 4096, 1), (16384, 0x4000_7000, 4096, 1),
    ]  # fmt: skip
    assert found.phyrs == [(0x4000_0000, 8192), (0x4000_5000, 12288)]
    assert found.whole == (5, 2, 20480)


def test_an_address_is_four_indexes_of_nine_bits():
    assert walk(((0x7F3A_BFE0_8000, 4096, 4096),)).entries[0].indexes == (254, 234, 511, 8)


def test_what_today_counts_page_by_page_a_phyr_counts_once():
    assert walk(ROWS).costs == [
        Cost(1, 1, 1, 1, 16, 16), Cost(2, 2, 1, 2, 32, 16), Cost(3, 3, 2, 3, 48, 32), Cost(4, 4, 2, 4, 64, 32),
        Cost(5, 5, 2, 5, 80, 32),
    ]  # fmt: skip


def test_a_leaf_of_2_mib_is_one_entry_and_the_walk_ends_a_level_earlier():
    (leaf, _) = walk(BIG, levels).entries
    assert (leaf.order, leaf.nbytes, len(leaf.words)) == (9, 2 << 20, 3)


def test_today_ends_where_there_is_no_struct_page_and_phyr_goes_on():
    found = walk(BIG, levels)
    assert found.costs == [Cost(1, 1, 1, 512, 16, 16), Cost(2, 1, 2, 512, 16, 32, 1)]
    assert found.steps[1].text == (
        "PGD[254], PUD[0], PMD[2], PTE[0] maps a page: frame 0x2000000, no neighbour of the last, so phyr 1 begins. "
        "It is SPECIAL, without a struct page: today's way ends with -EFAULT, a phyr takes the address."
    )
    assert found.steps[1][3:] == ("gup_fast_pte_range", "proposed")


def test_each_entry_is_a_sentence_with_its_function():
    found = walk(ROWS)
    way = "PGD[254], PUD[0], PMD[0], PTE[1] maps a page: frame 0x40001, the next one in a row"
    text = f"{way}, and phyr 0 grows to 8 KiB."
    assert found.steps[1] == ("0x7f00_0000_1000", "page 1", text, "gup_fast_pte_range", "upstream")
    assert headline(found) == (
        "Five pages become two phyrs",
        "20 KiB of user memory; five page table entries walked, and neighbours in memory told of together.",
    )


def test_a_long_range_is_counted_whole_and_walked_in_part():
    found = walk(((VA, 0, 8 << 20),))
    assert len(found.entries) == MOST_STEPS
    assert found.whole == (2048, 1, 8 << 20)
    assert headline(found)[1].endswith("The first 2 MiB are walked through here.")


def test_rows_may_be_made_of_a_range_array():
    ranges = RangeArray([0x4000_0000, 0x4000_5000], [8192, 12288])
    rows = [(VA + (0, 8192)[i], pa, n) for i, (pa, n) in enumerate(ranges)]
    assert walk(rows).phyrs == [(0x4000_0000, 8192), (0x4000_5000, 12288)]


def test_frames_lie_by_address_and_phyrs_in_the_order_of_the_io():
    rows = ((VA, 0x9000, 4096), (VA + 4096, 0x1000, 4096))
    for width in (NARROW, 1568):
        blocks = lay(walk(rows), width).blocks
        assert blocks["frames"]["top"][0] > blocks["frames"]["top"][1]
        assert blocks["phyrs"]["top"][0] < blocks["phyrs"]["top"][1]
        assert max(blocks["phyrs"]["right"]) <= width


def test_bars_are_as_long_as_what_is_counted():
    columns = counted(walk(ROWS).costs)
    assert columns["values"] == [
        [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 1, 2, 2, 2], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0],
        [16, 32, 48, 64, 80], [16, 16, 32, 32, 32],
    ]  # fmt: skip
    assert columns["most"] == [5, 5, 5, 80]


def test_nothing_mapped_is_said():
    assert headline(walk(()))[0] == "Nothing is mapped here"
