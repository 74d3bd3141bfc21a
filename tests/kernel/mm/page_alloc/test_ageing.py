import itertools
import math
import tracemalloc

import numpy as np
import pytest

from labkit.errors import BadInput
from labkit.kernel.mm.page_alloc.ageing import AGES, age
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import MOVABLE, UNMOVABLE


def aged(fragmentation, order=0, blocks=256, seed=7, ram=256 << 20):
    """Return the blocks that come next from a machine aged so, and what stays."""
    buddy = Buddy(ram)
    kept = age(buddy, fragmentation, order, blocks, seed)
    return [buddy.alloc_pages(order) for _ in range(blocks)], kept


def joints(pfns, order=0):
    return sum(a + (1 << order) != b for a, b in itertools.pairwise(pfns))


def test_a_fresh_boot_is_contiguous():
    pfns, kept = aged(0.0)
    assert pfns == list(range(4096, 4352))
    assert kept == ()


@pytest.mark.parametrize("order", [0, 4, 9])
def test_at_one_no_two_neighbours_touch(order):
    pfns, _ = aged(1.0, order, blocks=16, seed=3)
    assert joints(pfns, order) == 15
    assert not any(pfn + (1 << order) in pfns for pfn in pfns)


def test_at_one_this_holds_for_a_whole_mebibyte_of_pages_and_any_seed():
    for seed in range(20):
        assert joints(aged(1.0, seed=seed)[0]) == 255


def test_in_between_the_runs_grow_shorter():
    means = [sum(joints(aged(f, blocks=1024, seed=s)[0]) for s in range(5)) for f in (0.05, 0.2, 0.5, 0.8, 1.0)]
    assert means == sorted(means)
    assert means[0] < 5 * 100 < means[-1]


def test_runs_are_as_long_as_the_fragmentation_says_on_average():
    runs = sum(1 + joints(aged(0.25, blocks=1024, seed=seed)[0]) for seed in range(20))
    assert 3.5 < 20 * 1024 / runs < 4.5


def test_the_same_seed_makes_the_same_machine_and_another_makes_another():
    assert aged(0.6, seed=7) == aged(0.6, seed=7)
    assert aged(0.6, seed=7) != aged(0.6, seed=8)


def test_an_age_has_a_name():
    assert AGES == {"fresh boot": 0.0, "a day": 0.2, "a week": 0.6, "months of uptime": 1.0}
    assert list(AGES.values()) == sorted(AGES.values())


def test_what_stays_and_what_comes_next_do_not_overlap():
    pfns, kept = aged(0.7, blocks=4096)
    stays = {frame for first, frames, _kind in kept for frame in range(first, first + frames)}
    assert stays.isdisjoint(pfns)
    assert {kind for _, _, kind in kept} == {"anon", "file", "slab", "pagetable"}


@pytest.mark.parametrize("order", range(11))
def test_every_frame_is_free_or_kept(order):
    buddy = Buddy(256 << 20)
    before = buddy.nr_free
    kept = age(buddy, 0.7, order, max(4, 500 >> order), 1)
    assert len(kept)
    assert buddy.nr_free + sum(frames for _, frames, _ in kept) == before
    buddy.drain_all_pages()
    assert buddy.nr_free + sum(frames for _, frames, _ in kept) == before


@pytest.mark.parametrize("order", [0, 3, 8, 9, 10])
def test_what_cannot_move_lies_in_pageblocks_of_its_own(order):
    buddy = Buddy(1 << 30)
    kept = age(buddy, 0.5, order, 65536 >> order, 1)
    zone = buddy.zones[0]
    fixed = {"slab": UNMOVABLE, "pagetable": UNMOVABLE, "anon": MOVABLE, "file": MOVABLE}
    assert all(
        zone.pageblock_type(pfn) == fixed[kind] for first, n, kind in kept for pfn in range(first, first + n, 512)
    )
    assert set(zone.pageblocks.values()) == {UNMOVABLE}
    assert all(zone.pageblock_type(pfn) == MOVABLE for pfn in zone.aged[order])


def test_unmovable_allocations_get_what_is_free_among_their_own():
    buddy = Buddy(256 << 20)
    age(buddy, 1.0, 0, 4096, 1)
    pfns = [buddy.alloc_pages(0, UNMOVABLE) for _ in range(256)]
    assert joints(pfns) == 255
    assert {buddy.zones[0].pageblock_type(pfn) for pfn in pfns} == {UNMOVABLE}


def test_what_a_cpu_kept_before_is_not_what_comes_next():
    buddy = Buddy(256 << 20)
    buddy.alloc_pages(0)  # leaves a batch of neighbours behind
    age(buddy, 1.0, 0, 256, 1)
    assert joints([buddy.alloc_pages(0) for _ in range(256)]) == 255


def test_a_machine_may_age_again_for_another_order():
    buddy = Buddy(1 << 30)
    before = buddy.nr_free
    kept = age(buddy, 1.0, 0, 1000, 1)
    kept += age(buddy, 1.0, 4, 100, 2)
    kept += age(buddy, 0.5, 0, 1000, 3)
    assert buddy.nr_free + int(kept.frames.sum()) == before
    assert joints([buddy.alloc_pages(4) for _ in range(100)], 4) == 99


@pytest.mark.parametrize("order", [0, 2, 4, 9, 10])
@pytest.mark.parametrize("fragmentation", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("percent", [30, 60, 90])
def test_what_fits_into_a_fresh_machine_fits_into_an_old_one(order, fragmentation, percent):
    buddy = Buddy(512 << 20)
    blocks = (buddy.managed * percent // 100) >> order
    age(buddy, fragmentation, order, blocks, 1)
    assert int(buddy.alloc_bulk(order, blocks)[1].sum()) == blocks << order


def test_a_buffer_of_a_third_of_memory_is_scattered_to_its_end_through_all_zones():
    buddy = Buddy(4 << 30)
    pages = (4 << 30) // 3 >> 12
    age(buddy, 1.0, 0, pages, 1)
    starts, frames = buddy.alloc_bulk(0, pages)
    assert set(np.unique(frames)) == {1}
    assert {int(start) >= 1 << 20 for start in starts} == {True, False}


def test_more_than_there_is_ages_nothing():
    assert age(Buddy(64 << 20), 1.0, 0, 1 << 20, 1) == ()


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_nonsense_is_refused(value):
    with pytest.raises(BadInput, match=rf"^memory: fragmentation={value} is not between 0 and 1 \(-EINVAL\)$"):
        age(Buddy(64 << 20), value, 0, 1, 1)


@pytest.mark.parametrize("value", [1e-9, 1e-3])
def test_next_to_nothing_is_next_to_nothing(value):
    assert joints(aged(value)[0]) <= 2


def test_where_memory_is_short_less_of_it_stays_so_that_more_lies_scattered():
    buddy = Buddy(256 << 20)
    kept = age(buddy, 1.0, 0, 16384, 1)
    assert len(buddy.zones[0].aged[0]) >= 16384
    assert np.mean(kept.frames) < 2.1
    assert np.mean(age(Buddy(1 << 30), 1.0, 0, 16384, 1).frames) > 2.8


def test_a_quarter_of_a_million_scattered_pages_cost_a_few_megabytes():
    buddy = Buddy(8 << 30)
    tracemalloc.start()
    try:
        kept = age(buddy, 1.0, 0, 262144, 1)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) > 262144
    assert now < 10 << 20
    assert peak < 20 << 20
