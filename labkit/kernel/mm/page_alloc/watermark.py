"""A zone's size becomes its watermarks, and free frames a yes or no (BUD-9)."""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

ALLOC_WMARK_MIN, ALLOC_WMARK_LOW, ALLOC_WMARK_HIGH, ALLOC_NO_WATERMARKS = 0, 1, 2, 4
ALLOC_OOM, ALLOC_NON_BLOCK, ALLOC_MIN_RESERVE = 0x08, 0x10, 0x20
"""What an allocation may do: which mark it respects (the low two bits), and how far it may go below (mm/internal.h)."""
LOWMEM_RESERVE_RATIO = {"DMA": 256, "DMA32": 256, "Normal": 32, "Movable": 0}
"""sysctl vm.lowmem_reserve_ratio: a zone keeps 1/ratio of what lies above it from those who could go there."""

_WATERMARK_SCALE_FACTOR = 10
"""sysctl vm.watermark_scale_factor: the distance between two marks, in 1/10000 of the zone."""
_MIN_FREE_KBYTES = (128, 262144)
_MOVABLE_MIN = (32, 128)


class Watermarks(NamedTuple):
    """The marks of a zone, in frames, each above the one before."""

    min: int
    low: int
    high: int
    promo: int

    def of(self, flags: int) -> int:
        """Return the mark that an allocation with ALLOC `flags` must stay above, in frames."""
        mark = self[flags & 3]
        if flags & ALLOC_MIN_RESERVE:
            mark -= mark // 2
            if flags & ALLOC_NON_BLOCK:
                mark -= mark // 4
        return mark - mark // 2 if flags & ALLOC_OOM else mark


def min_free_kbytes(managed: int) -> int:
    """Return vm.min_free_kbytes for `managed` frames that are not ZONE_MOVABLE's, in KiB."""
    least, most = _MIN_FREE_KBYTES
    return min(max(isqrt(16 * 4 * managed), least), most)


def setup_per_zone_wmarks(name: str, managed: int, lowmem: int) -> Watermarks:
    """Return the marks of zone `name` with `managed` frames, where all zones but ZONE_MOVABLE have `lowmem`."""
    share = min_free_kbytes(lowmem) // 4 * managed // max(lowmem, 1)
    least, most = _MOVABLE_MIN
    lowest = min(max(managed >> 10, least), most) if name == "Movable" else share
    step = max(share >> 2, managed * _WATERMARK_SCALE_FACTOR // 10_000)
    return Watermarks(lowest, lowest + step, lowest + 2 * step, lowest + 3 * step)


def lowmem_reserve(zones: Sequence[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """Return, for `zones` of (name, managed frames) by address, what each keeps from those whose highest zone is which.

    reserve["DMA32"]["Normal"] frames of DMA32 stay out of reach of an allocation that could have had ZONE_NORMAL.
    """
    table: dict[str, dict[str, int]] = {}
    for i, (name, managed) in enumerate(zones):
        ratio, above, row = LOWMEM_RESERVE_RATIO[name], 0, {name: 0}
        for higher, frames in zones[i + 1 :]:
            above += frames
            row[higher] = above // ratio if ratio and managed else 0
        table[name] = row
    return table


def blocks_above(free: int, mark: int, order: int) -> int:
    """Return how many blocks of 2**`order` frames may go one after another while `free` frames stay above `mark`.

    It is the check before each of them, summed: free - (2**order - 1) > mark.
    """
    return max(0, (free - mark) >> order)
