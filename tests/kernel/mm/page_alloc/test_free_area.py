import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.mm.page_alloc.free_area import CMA, HIGHATOMIC, ISOLATE, MOVABLE, RECLAIMABLE, UNMOVABLE, FreeArea


def area(*blocks, frames=1024):
    """Return frames [0, frames) of which only `blocks` (first frame, order) are free."""
    made = FreeArea(0, frames)
    made.virgin = frames
    for pfn, order in blocks:
        made.free_one_page(pfn, order)
    return made


def lists(made, migratetype=MOVABLE):
    return {order: sorted(row[migratetype]) for order, row in enumerate(made.free_area) if row[migratetype]}


def get(made, order, migratetype=MOVABLE):
    """Take a block of just this order."""
    found = made.take(order, migratetype)
    if found is None:
        return None
    made.give_rest(*found, 1 << order)
    return found[0]


def test_worked_vector_v4():
    made = area((0, 2), (4, 1))
    assert lists(made) == {1: [4], 2: [0]}
    made.free_one_page(6, 1)
    assert lists(made) == {3: [0]}


def test_a_buddy_is_one_bit_away_so_neighbours_may_stay_apart():
    assert lists(area((1, 0), (2, 0))) == {0: [1, 2]}


def test_a_split_keeps_the_lower_half():
    made = FreeArea(1024, 2048)
    assert get(made, 0) == 1024
    assert lists(made) == {0: [1025], 1: [1026], 2: [1028], 3: [1032], 4: [1040], 5: [1056], 6: [1088], 7: [1152],
                           8: [1280], 9: [1536]}  # fmt: skip


def test_blocks_do_not_join_beyond_the_greatest_order():
    assert lists(area((0, 10), (1024, 10), frames=2048)) == {10: [0, 1024]}


def test_the_block_freed_last_is_taken_first():
    made = area((8, 1), (4, 1), (16, 1))
    assert [get(made, 1) for _ in range(3)] == [16, 4, 8]


def test_a_block_whose_pair_is_likely_to_join_goes_to_the_tail():
    made = area((8, 0), (6, 1), (4, 0))  # 4 and 5 would join to a buddy of 6
    assert [get(made, 0) for _ in range(2)] == [8, 4]


def test_the_smallest_block_that_suffices_is_split():
    made = area((1024, 10), (512, 3), frames=4096)
    assert get(made, 1) == 512
    assert lists(made) == {1: [514], 2: [516], 10: [1024]}


def test_the_lists_come_before_the_untouched_tail():
    made = FreeArea(0, 2048)
    made.virgin = 1024
    made.free_one_page(8, 0)
    assert [get(made, 0), get(made, 0)] == [8, 1024]


def test_an_unmovable_block_claims_the_largest_movable_one_with_its_pageblocks():
    made = FreeArea(0, 2048)
    assert get(made, 0, UNMOVABLE) == 0
    assert lists(made, UNMOVABLE) == {n: [1 << n] for n in range(10)}
    assert [made.pageblock_type(pfn) for pfn in (0, 511, 512, 1023, 1024)] == [UNMOVABLE] * 4 + [MOVABLE]
    assert get(made, 0) == 1024
    assert get(made, 0, UNMOVABLE) == 1


@pytest.mark.parametrize(
    ("migratetype", "first", "second"),
    [(UNMOVABLE, RECLAIMABLE, MOVABLE), (MOVABLE, RECLAIMABLE, UNMOVABLE), (RECLAIMABLE, UNMOVABLE, MOVABLE)],
)
def test_each_type_falls_back_to_the_others_in_its_own_order(migratetype, first, second):
    made = area(frames=4096)
    for at, kind in ((0, first), (1024, second)):
        made.set_pageblock_type(at, 1024, kind)
        made.free_one_page(at, 10)
    assert [get(made, 10, migratetype) for _ in range(3)] == [0, 1024, None]


def test_a_pageblock_is_claimed_when_half_of_it_is_free():
    made = area((256, 8), (16, 3))
    assert get(made, 3, UNMOVABLE) == 16
    assert made.pageblock_type(0) == UNMOVABLE
    assert lists(made, UNMOVABLE) == {8: [256]}
    assert lists(made) == {}


def test_else_one_block_is_stolen_and_the_pageblock_stays_what_it_is():
    made = area((256, 7), (16, 3))
    assert get(made, 0, UNMOVABLE) == 16
    assert made.pageblock_type(0) == MOVABLE
    assert lists(made) == {0: [17], 1: [18], 2: [20], 7: [256]}
    made.free_one_page(16, 0)
    assert lists(made) == {3: [16], 7: [256]}


def test_a_movable_block_claims_no_pageblock_for_less_than_16_frames():
    made = area()
    made.set_pageblock_type(0, 512, UNMOVABLE)
    for pfn in range(0, 512, 16):
        made.free_one_page(pfn, 3)
    assert get(made, 0, MOVABLE) == 496
    assert made.pageblock_type(0) == UNMOVABLE


@pytest.mark.parametrize("migratetype", [HIGHATOMIC, CMA, ISOLATE])
def test_pageblocks_that_do_not_join_are_not_borrowed_either(migratetype):
    made = area()
    made.set_pageblock_type(512, 512, migratetype)
    made.free_one_page(0, 9)
    made.free_one_page(512, 9)
    assert lists(made) == {9: [0]}
    assert lists(made, migratetype) == {9: [512]}
    assert get(made, 9) == 0
    assert get(made, 9) is None
    assert get(made, 9, UNMOVABLE) is None
    assert get(made, 9, migratetype) == 512


def test_pageblocks_of_two_types_that_join_become_one():
    made = area()
    made.set_pageblock_type(512, 512, UNMOVABLE)
    made.free_one_page(512, 9)
    made.free_one_page(0, 9)
    assert lists(made) == {10: [0]}
    assert made.pageblock_type(512) == MOVABLE


@given(st.lists(st.tuples(st.sampled_from([UNMOVABLE, MOVABLE, RECLAIMABLE]), st.integers(0, 10), st.integers(0, 9))))
def test_a_free_block_stands_in_the_list_of_its_pageblock_whatever_is_borrowed(steps):
    made, held = FreeArea(0, 4096), []
    for migratetype, order, which in steps:
        if which < 4 and held:
            made.free_one_page(*held.pop(which % len(held)))
        elif (pfn := get(made, order, migratetype)) is not None:
            held.append((pfn, order))
        free = 0
        for size, row in enumerate(made.free_area):
            for kind, blocks in enumerate(row):
                free += len(blocks) << size
                assert all(made.pageblock_type(pfn) == kind for pfn in blocks)
        assert free == made.listed
        assert free + made.end - made.virgin + sum(1 << order for _, order in held) == 4096
