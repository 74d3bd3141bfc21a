"""A fresh boot becomes a machine that has been up for a while: its next free blocks lie scattered.

Ours. The kernel's fragmentation comes from months of work; this makes as much of it as is asked for, at once.
"""

import errno
from array import array

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadInput
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import MOVABLE, PAGEBLOCK_ORDER, UNMOVABLE
from labkit.kernel.mm.page_alloc.pcp import order_to_pindex
from labkit.kernel.mm.page_alloc.watermark import ALLOC_WMARK_LOW
from labkit.kernel.mm.page_alloc.zone import Frames, Zone
from labkit.trace.others import Others
from labkit.units import MAX_PAGE_ORDER

AGES = {"fresh boot": 0.0, "a day": 0.2, "a week": 0.6, "months of uptime": 1.0}
"""Names for fragmentation. Ours: how fast memory scatters depends on the work, not on the calendar."""
KINDS = ("anon", "file", "slab", "pagetable")
"""What stays; the last two cannot move, and lie in pageblocks of their own."""

_WEIGHTS, _MOVES = (0.4, 0.4, 0.15, 0.05), 2
_MEAN_KEPT = 3.0
"""Mean length, in pages, of what stays between two freed runs, where memory is plentiful; else one block stays."""
_MAX_BLOCK = 1 << MAX_PAGE_ORDER
_AT_ONCE = 128
"""Blocks of 4 MiB that are aged at a time, which bounds the memory that it takes."""


def age(buddy: Buddy, fragmentation: float, order: int, blocks: int, seed: int) -> Others:
    """Leave the next `blocks` free movable blocks of 2**`order` frames in runs of 1/`fragmentation` blocks on average.

    An earlier life fills whole 4 MiB blocks, then lets go of runs of random length, in random order, never two that
    touch; so at 1.0 no two neighbours in the order of allocation are neighbours in memory, and at 0.0 nothing is aged.
    Each pageblock is movable (anon, file) or not (slab, pagetable), and what is free of it is for its own kind.
    Something must stay between two runs, so memory ends sooner: no more is aged than leaves room for `blocks`, and what
    a buffer of more than some 40 % of memory takes last lies as on a fresh boot. Returns what stays allocated; a seed
    makes the same machine each time. Raises BadInput outside [0, 1].
    """
    if not 0 <= fragmentation <= 1:
        raise BadInput("memory", f"fragmentation={fragmentation}", "is not between 0 and 1", errno.EINVAL)
    kept = Others.of(())
    if fragmentation == 0:
        return kept
    rng = np.random.default_rng(seed)
    room = {zone: _room(buddy, zone) for zone in buddy.zones}
    stays, budget = _budget(sum(room.values()), fragmentation, order, blocks)
    for zone in (zone for zone in buddy.zones if room[zone]):
        zone.drain_list(order_to_pindex(order))
        while blocks > 0 and (area := min(budget, _need(zone, fragmentation, order, blocks, stays))) > 0:
            used, freed, more = _earlier_life(zone, area, fragmentation, order, blocks, stays, rng)
            blocks, budget, kept = blocks - freed, budget - used, kept + more
    return kept


def _room(buddy: Buddy, zone: Zone) -> int:
    """Return how many frames of the untouched tail the marks let a task have."""
    return max(0, zone.end - zone.virgin - zone.mark(ALLOC_WMARK_LOW, buddy.zones[0].name))


def _budget(room: int, fraction: float, order: int, blocks: int) -> tuple[float, int]:
    """Return how many blocks stay between two runs on average, and how many 4 MiB blocks may be aged at most.

    Of what is aged a share can be taken again, of the rest of `room` frames everything: they must hold `blocks`.
    """
    want = blocks << order
    stays = _MEAN_KEPT if order == 0 and want * (_MEAN_KEPT * fraction + 1) < room // 2 else 1.0
    share = (1.0 if order >= PAGEBLOCK_ORDER else sum(_WEIGHTS[:_MOVES])) / (stays * fraction + 1)
    if want <= 0.9 * share * room:
        return stays, room
    return stays, max(0, int(min(room, 0.9 * (room - want) / (1 - share)))) >> MAX_PAGE_ORDER


def _need(zone: Zone, fraction: float, order: int, want: int, stays: float) -> int:
    """Return how many 4 MiB blocks of the tail to age for `want` blocks: some more than are needed on average."""
    need = int((want << order) * (stays * fraction + 1) * 1.35) // _MAX_BLOCK + 2
    return min(need, _AT_ONCE, zone.end - zone.virgin >> MAX_PAGE_ORDER)


def _earlier_life(
    zone: Zone, area: int, fraction: float, order: int, want: int, stays: float, rng: np.random.Generator
) -> tuple[int, int, Others]:
    """Age `area` 4 MiB blocks of the tail, or as many as give `want` blocks of 2**`order` frames.

    Returns how many were aged, how many blocks they give, and what stays.
    """
    units = area << MAX_PAGE_ORDER - order
    free, kind = _lives(units, fraction, stays, rng), _kinds(units, order, rng)
    if order >= PAGEBLOCK_ORDER:
        kind[free] = 0
    hot = free & (kind < _MOVES)
    given = hot.reshape(area, -1).sum(axis=1).cumsum()
    used = min(area, int(np.searchsorted(given, want)) + 1)
    units = used << MAX_PAGE_ORDER - order
    first = zone.virgin
    zone.virgin += used << MAX_PAGE_ORDER
    _mark(zone, first, free[:units], kind[:units], order)
    _stack(zone, MOVABLE, order, first, hot[:units], rng)
    _stack(zone, UNMOVABLE, order, first, free[:units] & ~hot[:units], rng)
    return used, int(given[used - 1]), _kept(first, free[:units], kind[:units], order)


def _lives(units: int, fraction: float, stays: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return for each of `units` blocks whether it is let go of: a stay, a run, a stay, a run, to the end."""
    pairs = int(units / (stays + 1 / fraction) * 1.2) + 64
    lengths = np.empty(2 * pairs, np.int64)
    done = np.zeros(0, np.bool_)
    while len(done) < units:
        lengths[::2], lengths[1::2] = rng.geometric(1 / stays, pairs), rng.geometric(fraction, pairs)
        most = np.minimum(lengths, units)
        done = np.concatenate((done, np.repeat(np.arange(2 * pairs) % 2 == 1, most)[: units - len(done)]))
    return done


def _kinds(units: int, order: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what would stay in each of `units` blocks: one kind of mobility for a pageblock."""
    group = 1 << max(0, PAGEBLOCK_ORDER - order)
    kind = rng.choice(len(KINDS), units, p=_WEIGHTS).astype(np.uint8)
    moves = np.repeat(kind[::group] < _MOVES, group)
    which = rng.random(units)
    movable, fixed = np.where(which < 0.5, 0, 1), np.where(which < 0.75, 2, 3)  # noqa: PLR2004 - as _WEIGHTS
    return np.where(moves, movable, fixed).astype(np.uint8)


def _mark(zone: Zone, first: int, free: NDArray[np.bool_], kind: NDArray[np.uint8], order: int) -> None:
    """Tell the zone which frames are free now, and of which type the pageblocks are."""
    flags = np.repeat(free.astype(np.uint8), 1 << order).tobytes()
    for at in range(0, len(flags), _MAX_BLOCK):
        zone.map.blocks[first + at >> MAX_PAGE_ORDER] = bytearray(flags[at : at + _MAX_BLOCK])
    for at in np.flatnonzero(kind[:: 1 << max(0, PAGEBLOCK_ORDER - order)] >= _MOVES).tolist():
        step = 1 << max(order, PAGEBLOCK_ORDER)
        zone.set_pageblock_type(first + at * step, step, UNMOVABLE)
    zone.listed += int(free.sum()) << order


def _stack(
    zone: Zone, migratetype: int, order: int, first: int, free: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Put the runs of `free` blocks on what the zone gives out next: in random order, each from its first block on."""
    starts, lengths = _runs(free)
    mixed = rng.permutation(len(starts))
    starts, lengths = starts[mixed], lengths[mixed]
    before = np.cumsum(lengths) - lengths
    blocks = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
    pfns = first + (blocks[::-1] << order)
    zone.aged.setdefault(order_to_pindex(order, migratetype), array("q")).frombytes(pfns.astype(np.int64).tobytes())


def _kept(first: int, free: NDArray[np.bool_], kind: NDArray[np.uint8], order: int) -> Others:
    """Return the runs that stay, cut where the pageblocks change: each of the kind of its first block."""
    group = np.arange(len(free)) >> max(0, PAGEBLOCK_ORDER - order)
    starts, lengths = _runs(~free, group)
    frames = (lengths << order).astype(np.int32)
    return Others(first + (starts << order), frames, kind[starts], KINDS)


def _runs(there: NDArray[np.bool_], group: Frames | None = None) -> tuple[Frames, Frames]:
    """Return (first, length) of the runs of True in `there`, cut where `group` changes."""
    inner = there[:-1] & there[1:]
    if group is not None:
        inner &= group[:-1] == group[1:]
    begins = np.flatnonzero(there & ~np.concatenate(([False], inner)))
    ends = np.flatnonzero(there & ~np.concatenate((inner, [False])))
    return begins, ends - begins + 1
