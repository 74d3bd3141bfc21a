import itertools
import math

import pytest

from labkit.errors import BadInput
from labkit.kernel.mm.ageing import age
from labkit.kernel.mm.buddy import Buddy


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
    assert kept == []


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


def test_what_stays_and_what_comes_next_do_not_overlap():
    pfns, kept = aged(0.7)
    stays = {frame for first, frames, _kind in kept for frame in range(first, first + frames)}
    assert stays.isdisjoint(pfns)
    assert {kind for _, _, kind in kept} == {"anon", "file", "slab", "pagetable"}


def test_every_frame_is_free_or_kept():
    buddy = Buddy(256 << 20)
    before = buddy.nr_free
    kept = age(buddy, 0.7, 0, 500, 1)
    assert buddy.nr_free + sum(frames for _, frames, _ in kept) == before


def test_half_of_a_zone_stays_young():
    buddy = Buddy(64 << 20)
    age(buddy, 1.0, 0, 1 << 20, 1)
    zone = buddy.zones[0]
    assert zone.end - zone.virgin >= (zone.end - zone.start) // 2


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_nonsense_is_refused(value):
    with pytest.raises(BadInput, match=rf"^memory: fragmentation={value} is not between 0 and 1 \(-EINVAL\)$"):
        age(Buddy(64 << 20), value, 0, 1, 1)


def test_where_memory_is_short_less_of_it_stays_so_that_more_lies_scattered():
    buddy = Buddy(256 << 20)
    zone = buddy.zones[0]
    half = (zone.end - zone.start) // 2
    kept = age(buddy, 1.0, 0, half // 2, 1)
    assert len(zone.pcp[0]) >= half // 2 - 1024
    assert {frames for _pfn, frames, _kind in kept} == {1}
