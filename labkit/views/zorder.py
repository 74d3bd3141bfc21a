"""Frames become boxes: a pageblock of 512 frames is drawn as 32 x 16 cells in Z-order (Morton).

In that order every naturally aligned power-of-two block, and so every folio, is a square or a 2:1 box.
"""

from collections.abc import Iterator
from functools import cache

from labkit.units import PMD_ORDER

COLUMNS, ROWS = 32, 16
"""Cells of a pageblock, across and down."""
FRAMES = COLUMNS * ROWS
"""Frames of a pageblock."""


@cache
def cell(frame: int) -> tuple[int, int]:
    """Return (column, row) of a frame within its pageblock: even bits of the index go right, odd bits down."""
    x = sum((frame >> 2 * bit & 1) << bit for bit in range(5))
    y = sum((frame >> 2 * bit + 1 & 1) << bit for bit in range(4))
    return x, y


def blocks(pfn: int, frames: int) -> Iterator[tuple[int, int]]:
    """Yield (first frame, order) of the fewest aligned blocks, none larger than a pageblock, that make up a run."""
    end = pfn + frames
    while pfn < end:
        order = PMD_ORDER
        while pfn & (1 << order) - 1 or pfn + (1 << order) > end:
            order -= 1
        yield pfn, order
        pfn += 1 << order


def box(pfn: int, order: int) -> tuple[int, int, int, int]:
    """Return (column, row, columns, rows) of an aligned block of 2**order frames within its pageblock."""
    x, y = cell(pfn % FRAMES)
    return x, y, 1 << (order + 1) // 2, 1 << order // 2
