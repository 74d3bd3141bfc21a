"""Invariants of the buddy allocator: every frame is free once or used, and blocks lie as their order says."""

from collections.abc import Iterator

import numpy as np

from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.zone import Zone
from labkit.machine.invariants.census import Broken, Census, Ints
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT


def check_buddy(buddy: Buddy, used: Census, others: int | None) -> Iterator[Broken]:
    """Yield what is broken of the free lists; `others` frames, if that is known, are neither free nor in `used`.

    No frame is lost between free and used ones; no two free blocks overlap; each is aligned to its size; and
    the lists, the map of free frames and the numbers that the watermarks count agree.
    """
    for zone in buddy.zones:
        yield from check_zone(zone)
    missing = unaccounted(buddy, used)
    if others is not None and missing != others:
        text = f"{buddy.nr_free} frames are free, and {missing} neither free nor of a folio, where {others} should be"
        yield Broken("buddy", text)


def unaccounted(buddy: Buddy, used: Census) -> int:
    """Return how many frames of RAM are neither free nor of a folio in `used`: what the kernel has for itself."""
    ram = np.zeros(len(used.head), np.bool_)
    for zone in buddy.zones:
        ram |= (used.head >= zone.start) & (used.head < zone.end)
    return buddy.managed - buddy.nr_free - int(used.frames[ram].sum())


def set_aside(frames: Frames) -> int:
    """Return how many frames are neither free nor of a folio by design: the zero page, and huge pages in pools."""
    pools = [take_back.__self__ for take_back in frames.hugetlb_pools.values()]  # type: ignore[attr-defined]
    zero = int(frames.folios.zero is not None)
    return zero + sum(int(len(pool.free) << pool.order) for pool in pools)


def check_zone(zone: Zone) -> Iterator[Broken]:
    """Yield what is broken of one zone."""
    first, order = blocks_of(zone)
    size = np.left_shift(1, order)
    for i in np.flatnonzero(first & (size - 1))[:1]:
        yield _block(zone, int(first[i]), int(order[i]), "does not lie on its size (BUD-3)")
    for i in np.flatnonzero((first < zone.start) | (first + size > zone.virgin))[:1]:
        yield _block(zone, int(first[i]), int(order[i]), "lies outside what the zone has given out")
    for i in np.flatnonzero((first + size)[:-1] > first[1:])[:1]:
        yield _block(zone, int(first[i + 1]), int(order[i + 1]), f"overlaps the free block at {first[i]:#x}")
    if int(size.sum()) != zone.nr_free - (zone.end - zone.virgin):
        text = f"zone {zone.name} counts {zone.nr_free} free frames, and its lists have {int(size.sum())} and the tail"
        yield Broken("buddy", text)
    known = sum(block.count(1) for block in zone.map.blocks.values())
    if known != int(size.sum()):
        yield Broken("buddy", f"zone {zone.name} has {int(size.sum())} frames in lists, and its map {known} free ones")


def blocks_of(zone: Zone) -> tuple[Ints, Ints]:
    """Return (first frame, order) of every free block below the untouched tail, by address."""
    rows = [(pfn, order) for order, row in enumerate(zone.free_area) for blocks in row for pfn in blocks]
    rows += [
        (pfn, pindex % 16) for lists in (zone.pcp, zone.aged) for pindex, blocks in lists.items() for pfn in blocks
    ]
    table = np.array(sorted(rows), np.int64).reshape(-1, 2)
    return table[:, 0], np.minimum(table[:, 1], MAX_PAGE_ORDER)


def _block(zone: Zone, pfn: int, order: int, rule: str) -> Broken:
    return Broken(
        "buddy", f"the free block of 2**{order} frames at {pfn:#x} of zone {zone.name} {rule}", pfn << PAGE_SHIFT
    )
