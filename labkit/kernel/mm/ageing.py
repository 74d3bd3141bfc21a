"""A fresh boot becomes a machine that has been up for a while: its next free blocks lie scattered.

Ours. The kernel's fragmentation comes from months of work; this makes as much of it as is asked for, at once.
"""

import errno
from collections.abc import Iterator

import numpy as np

from labkit.errors import BadInput
from labkit.kernel.mm.buddy import Buddy, Zone
from labkit.units import MAX_PAGE_ORDER

Kept = tuple[int, int, str]
"""(first frame, frames, kind) that stay allocated."""

_KINDS, _WEIGHTS = ("anon", "file", "slab", "pagetable"), (0.4, 0.4, 0.15, 0.05)
_MEAN_KEPT = 3.0
"""Mean length, in pages, of what stays between two freed runs, where memory is plentiful; else one block stays."""


def age(buddy: Buddy, fragmentation: float, order: int, blocks: int, seed: int) -> list[Kept]:
    """Leave the next `blocks` free blocks of 2**`order` frames in runs of 1/`fragmentation` blocks on average.

    An earlier life fills whole 4 MiB blocks, then lets go of runs of random length, in random order, never two that
    touch; so at 1.0 no two neighbours in the order of allocation are neighbours in memory, and at 0.0 nothing is aged.
    At most half of each zone is aged: what a larger buffer takes beyond that lies as on a fresh boot. Returns what
    stays allocated. Deterministic for a seed. Raises BadInput outside [0, 1].
    """
    if not 0 <= fragmentation <= 1:
        raise BadInput("memory", f"fragmentation={fragmentation}", "is not between 0 and 1", errno.EINVAL)
    if fragmentation == 0:
        return []
    rng = np.random.default_rng(seed)
    kept: list[Kept] = []
    for zone in buddy.zones:
        blocks -= _age_zone(zone, fragmentation, order, blocks, rng, kept)
        if blocks <= 0:
            break
    return kept


def _age_zone(zone: Zone, fraction: float, order: int, want: int, rng: np.random.Generator, kept: list[Kept]) -> int:
    """Age `zone` until `want` blocks are free in runs, or half of it is used up; return how many are."""
    runs: list[range] = []
    freed, reserve = 0, (zone.end - zone.start) // 2
    stays = _MEAN_KEPT if order == 0 and want * (_MEAN_KEPT * fraction + 1) < reserve else 1.0
    while freed < want and zone.end - zone.virgin > reserve and (start := zone.take_virgin()) is not None:
        for run in _earlier_life(start, fraction, order, stays, rng, kept):
            runs.append(run)
            freed += len(run)
    hot = zone.pcp.setdefault(order, [])
    for i in rng.permutation(len(runs)):
        hot.extend(reversed(runs[i]))
    return freed


def _earlier_life(
    start: int, fraction: float, order: int, stays: float, rng: np.random.Generator, kept: list[Kept]
) -> Iterator[range]:
    """Yield the runs of blocks that one 4 MiB block lets go of; note in `kept` what it does not."""
    step, at, end = 1 << order, start, start + (1 << MAX_PAGE_ORDER)
    while at < end:
        stay = min(int(rng.geometric(1 / stays)), (end - at) // step)
        kept.append((at, stay * step, _KINDS[int(rng.choice(len(_KINDS), p=_WEIGHTS))]))
        at += stay * step
        run = min(int(rng.geometric(fraction)), (end - at) // step)
        if run:
            yield range(at, at + run * step, step)
        at += run * step
