"""Physical memory becomes tiles: a pageblock each, only those that the IO touches and their neighbours, by zone."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.trace.others import Others
from labkit.trace.snapshot import MemoryMap
from labkit.units import PAGE_SHIFT
from labkit.views.fold import Place
from labkit.views.zorder import COLUMNS, FRAMES, ROWS, blocks, box

KINDS = ("free", "anon", "file", "slab", "pagetable", "nopage")
"""What a cell of the map can be; the last is memory without a struct page."""
OPEN_RIGHT, OPEN_DOWN = 8, 16
"""Flags of a cell: no gap is drawn between it and its neighbour, both being of one block."""
NO_PAGE = "no struct page"

_GRIDS = ((2, 8.0, 12), (3, 5.0, 12), (4, 4.0, 8), (5, 3.0, 8), (6, 2.5, 8), (8, 2.0, 4), (11, 1.5, 3), (14, 1.0, 3))
"""(tiles in a row, pixels of a cell, pixels between tiles), from the roomiest to the densest."""
_HEADING = 22
_CONTEXT = 4
"""Neighbours that are drawn at least, for company."""


class Tile(NamedTuple):
    """A pageblock, and where its top left corner is drawn."""

    block: int
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Tiles:
    """The map: its tiles, the size of a cell, headings of (y, zone), how many blocks were left out."""

    cell: float = 1.0
    tiles: tuple[Tile, ...] = ()
    headings: tuple[tuple[float, str], ...] = ()
    left_out: int = 0
    width: float = 0.0

    def boxes(self, addr: int, nbytes: int) -> list[tuple[float, float, float, float]]:
        """Return (left, top, right, bottom) of the aligned blocks that hold a physical range, where they are drawn."""
        first, last = addr >> PAGE_SHIFT, (addr + nbytes - 1) >> PAGE_SHIFT
        return [self._box(tile, pfn, order) for tile, pfn, order in self.drawn(first, last + 1 - first)]

    def hull(self, addr: int, nbytes: int) -> tuple[float, float, float, float] | None:
        """Return the box around a physical range, None if no frame of it is drawn."""
        found = self.boxes(addr, nbytes)
        if not found:
            return None
        left, top, right, bottom = zip(*found, strict=True)
        return min(left), min(top), max(right), max(bottom)

    def drawn(self, pfn: int, frames: int) -> Iterable[tuple[Tile, int, int]]:
        """Yield (tile, first frame, order) of the blocks of a run of frames that fall on a tile."""
        at = bisect_left(self.tiles, pfn // FRAMES, key=attrgetter("block"))
        for tile in self.tiles[at:]:
            first = tile.block * FRAMES
            lo, hi = max(pfn, first), min(pfn + frames, first + FRAMES)
            if lo >= hi:
                break
            yield from ((tile, *block) for block in blocks(lo, hi - lo))

    def _box(self, tile: Tile, pfn: int, order: int) -> tuple[float, float, float, float]:
        x, y, w, h = (n * self.cell for n in box(pfn, order))
        return tile.left + x, tile.top + y, tile.left + x + w, tile.top + y + h


def zone_of(block: int, memory: MemoryMap) -> str:
    """Return the name of the zone that holds a pageblock, NO_PAGE for one outside all zones of a known memory."""
    pfn = block * FRAMES
    outside = NO_PAGE if memory.zones else ""
    return next((name for name, first, end in memory.zones if first < pfn + FRAMES and pfn < end), outside)


def touched(places: Iterable[Place]) -> list[int]:
    """Return the pageblocks that physical ranges touch, in order."""
    found: set[int] = set()
    for addr, nbytes in places:
        if nbytes:
            found.update(range(addr >> PAGE_SHIFT + 9, (addr + nbytes - 1 >> PAGE_SHIFT + 9) + 1))
    return sorted(found)


def lay_out(want: Sequence[int], memory: MemoryMap, left: float, top: float, bottom: float) -> Tiles:
    """Return the tiles for pageblocks `want` in the roomiest grid that holds them, filled up with neighbours.

    A zone goes down its columns: blocks that follow each other lie one above the other, and ribbons spread.
    """
    for columns, cell, gap in _GRIDS:
        pitch = ROWS * cell + gap
        rows = int((bottom - top + gap - _HEADING * len({zone_of(block, memory) for block in want})) // pitch)
        if len(want) + _CONTEXT <= _room(want, memory, columns, rows):
            break
    keep = _thin(want, columns * (rows - 2))
    shown = _neighbours(keep, memory, columns, rows)
    free = max(0.0, bottom - top + gap - rows * pitch - _HEADING * len({zone_of(block, memory) for block in shown}))
    return _grid(shown, memory, (columns, cell, gap), (left, top + free // 3), len(want) - len(keep))


def _room(want: Sequence[int], memory: MemoryMap, columns: int, rows: int) -> int:
    """Return how many tiles fit, since each zone begins a row of its own."""
    zones = [len(list(group)) for _, group in groupby(want, key=lambda block: zone_of(block, memory))]
    return columns * rows - sum(-n % columns for n in zones[:-1])


def _thin(want: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of `want`, evenly spread."""
    if len(want) <= most:
        return list(want)
    return [want[i * len(want) // most] for i in range(most)]


def _neighbours(want: Sequence[int], memory: MemoryMap, columns: int, rows: int) -> list[int]:
    """Return `want` and the blocks around them, nearest first, as many as fill the grid and lie in the same zones."""
    shown = set(want)
    zones = Counter(zone_of(block, memory) for block in want)
    near = (block + far for far in range(1, columns * rows) for block in want for far in (far, -far))
    for block in near:
        if len(shown) == columns * rows:
            break
        zone = zone_of(block, memory)
        if block < 0 or block in shown or zone not in zones or zone == NO_PAGE:
            continue
        if sum(-(-n // columns) for n in (zones + Counter([zone])).values()) <= rows:
            zones[zone] += 1
            shown.add(block)
    return sorted(shown)


def _grid(
    shown: Sequence[int], memory: MemoryMap, grid: tuple[int, float, int], corner: tuple[float, float], left_out: int
) -> Tiles:
    columns, cell, gap = grid
    (left, y), tiles, headings = corner, [], []
    for zone, group in groupby(shown, key=lambda block: zone_of(block, memory)):
        headings.append((y + _HEADING / 2 - 2, zone))
        y += _HEADING if zone else 0
        found = list(group)
        rows = -(-len(found) // columns)
        for i, block in enumerate(found):
            column, row = divmod(i, rows)
            tiles.append(Tile(block, left + column * (COLUMNS * cell + gap), y + row * (ROWS * cell + gap)))
        y += rows * (ROWS * cell + gap)
    return Tiles(cell, tuple(tiles), tuple(headings), left_out, columns * (COLUMNS * cell + gap) - gap)


def cells(map_: Tiles, memory: MemoryMap) -> NDArray[np.uint8]:
    """Return the code of each cell, a row of 512 for each tile: index into KINDS, OPEN_RIGHT, OPEN_DOWN."""
    out = np.zeros((len(map_.tiles), ROWS, COLUMNS), np.uint8)
    rank = {tile.block: i for i, tile in enumerate(map_.tiles)}
    for tile in map_.tiles:
        if zone_of(tile.block, memory) == NO_PAGE:
            out[rank[tile.block]] = KINDS.index("nopage") | OPEN_RIGHT | OPEN_DOWN
    starts = np.array([tile.block * FRAMES for tile in map_.tiles], np.int64)
    for first, frames, kind in Others.of(memory.others).inside(starts, FRAMES):
        code = KINDS.index(kind) if kind in KINDS else KINDS.index("slab")
        for tile, pfn, order in map_.drawn(first, frames):
            x, y, w, h = box(pfn, order)
            out[rank[tile.block], y : y + h, x : x + w] = code | OPEN_RIGHT | OPEN_DOWN
            out[rank[tile.block], y : y + h, x + w - 1] &= 0xFF ^ OPEN_RIGHT
            out[rank[tile.block], y + h - 1, x : x + w] &= 0xFF ^ OPEN_DOWN
    return out.reshape(len(map_.tiles), FRAMES)
