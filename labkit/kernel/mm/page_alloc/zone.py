"""A zone: what a CPU keeps at hand, what an earlier life left, and the free lists, asked in this order."""

from array import array
from collections.abc import MutableSequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.kernel.mm.page_alloc.free_area import MIGRATE_NAMES, MIGRATE_PCPTYPES, MOVABLE, FreeArea
from labkit.kernel.mm.page_alloc.pcp import (
    PCP_ORDERS,
    nr_pcp_alloc,
    order_to_pindex,
    pindex_to_order,
    zone_batchsize,
    zone_highsize,
)
from labkit.kernel.mm.page_alloc.watermark import ALLOC_NO_WATERMARKS, ALLOC_WMARK_LOW, Watermarks, blocks_above
from labkit.units import MAX_PAGE_ORDER, Pfn

_MAX_BLOCK = 1 << MAX_PAGE_ORDER
_MASK = _MAX_BLOCK - 1
Frames = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ZoneInfo:
    """A zone at one instant, in frames: `free` by order and migratetype, in blocks, per-cpu lists not among them."""

    name: str
    start: int
    end: int
    present: int
    managed: int
    free: tuple[tuple[int, ...], ...]
    pageblocks: tuple[int, ...]
    """Pageblocks by migratetype."""
    pcp: int
    batch: int
    high: int
    watermarks: Watermarks
    protection: tuple[int, ...]
    """lowmem_reserve for DMA, DMA32, Normal, Movable."""

    @property
    def nr_free(self) -> int:
        """Free frames outside the per-cpu lists."""
        return sum(sum(row) << order for order, row in enumerate(self.free))


class Zone(FreeArea):
    """One zone. Frames of `ranges` that are not whole blocks of 4 MiB go to the lists at boot, the rest is the tail."""

    def __init__(self, name: str, start: int, end: int, ranges: tuple[tuple[int, int], ...] | None = None) -> None:
        """Take frames [start, end) with RAM in `ranges`, all of them by default."""
        super().__init__(start, end)
        self.name = name
        ranges = ((start, end),) if ranges is None else ranges
        self.managed = sum(last - first for first, last in ranges)
        self.watermarks, self.protection = Watermarks(0, 0, 0, 0), dict[str, int]()
        self.batch, self.high = 1, 4
        self.pcp: dict[int, MutableSequence[int]] = {}
        """Blocks freed lately, by `order_to_pindex`, not merged, the next one last. What is put here for an order that
        has no such list (BUD-8) is taken from it all the same, and never added to."""
        self.aged: dict[int, array[int]] = {}
        """What an earlier life left free, by the same number, not merged, the next one last: ageing.py."""
        self._boot(ranges)

    def setup(self, watermarks: Watermarks, protection: dict[str, int], cpus: int) -> None:
        """Set the marks (frames), what is kept from whom (frames by highest zone), and the per-cpu sizes they give."""
        self.watermarks, self.protection = watermarks, protection
        self.batch = zone_batchsize(self.managed)
        self.high = zone_highsize(watermarks.low, self.batch, cpus)

    @property
    def nr_free_pages(self) -> int:
        """Free frames that the watermarks count: those at hand of a CPU are not among them."""
        return self.listed + self.end - self.virgin

    @property
    def nr_free(self) -> int:
        """Free frames."""
        return self.nr_free_pages + self.nr_pcp

    @property
    def nr_pcp(self) -> int:
        """Frames in the per-cpu lists."""
        return sum(len(blocks) << pindex % 16 for pindex, blocks in self.pcp.items())

    def mark(self, flags: int, highest: str) -> int:
        """Return how many frames an allocation with ALLOC `flags`, whose highest zone is `highest`, leaves here."""
        if flags & ALLOC_NO_WATERMARKS:
            return 0
        return self.watermarks.of(flags) + self.protection.get(highest, 0)

    def rmqueue(
        self, order: int, migratetype: int = MOVABLE, flags: int = ALLOC_WMARK_LOW, highest: str = ""
    ) -> Pfn | None:
        """Take a block of 2**`order` frames that leaves free what `mark` says; None without one.

        The per-cpu list is asked first, and without the mark: it was filled within it.
        """
        pindex = order if migratetype == MOVABLE else order_to_pindex(order, migratetype)
        hot = self.pcp.get(pindex)
        if hot:
            pfn = hot.pop()
        else:
            room = blocks_above(self.nr_free_pages, self.mark(flags, highest), order)
            if not room or (taken := self._refill(pindex, order, migratetype, room)) is None:
                return None
            pfn = taken
        if order:
            self.map.set_used(pfn, 1 << order)
        elif isinstance(known := self.map.blocks.get(pfn >> MAX_PAGE_ORDER), bytearray):
            known[pfn & _MASK] = 0
        return Pfn(pfn)

    def rmqueue_bulk(self, order: int, count: int, migratetype: int, mark: int) -> list[tuple[Frames, Frames]]:
        """Take up to `count` blocks as `rmqueue` would one by one; return (first frames, frames) of runs in pieces."""
        pindex, step = order_to_pindex(order, migratetype), 1 << order
        pieces = [_pop_many(self.pcp, pindex, count, step)]
        count -= len(pieces[0][0])
        count = min(count, blocks_above(self.nr_free_pages, mark, order))
        pieces.append(_pop_many(self.aged, pindex, count, step))
        self.listed -= len(pieces[1][0]) << order
        count -= len(pieces[1][0])
        runs = self._carve(order, count, migratetype)
        self.map.set_blocks_used(np.concatenate((pieces[0][0], pieces[1][0])), order)
        for pfn, frames in runs:
            self.map.set_used(pfn, frames)
        return [*pieces, (np.array([r[0] for r in runs], np.int64), np.array([r[1] for r in runs], np.int64))]

    def free(self, pfn: int, order: int) -> None:
        """Give back an allocated block: to the per-cpu list of its order if there is one, else to the free lists."""
        known = None if order else self.map.blocks.get(pfn >> MAX_PAGE_ORDER)
        if isinstance(known, bytearray):
            known[pfn & _MASK] = 1
        else:
            self.map.set_free(pfn, 1 << order)
        migratetype = self.pageblock_type(pfn)
        if order not in PCP_ORDERS or migratetype >= MIGRATE_PCPTYPES:
            self.free_one_page(pfn, order)
            return
        pindex = order if migratetype == MOVABLE else order_to_pindex(order, migratetype)
        hot = self.pcp.get(pindex)
        if hot is None:
            hot = self.pcp[pindex] = []
        hot.append(pfn)
        if len(hot) << order >= self.high:
            self._drain(hot, order, max(1, self.batch >> order))

    def is_free(self, pfn: int, frames: int) -> bool:
        """Return whether one of `frames` frames from `pfn` on is free: some 0.1 µs for a block."""
        return pfn + frames > self.virgin or self.map.any_free(pfn, frames)

    def drain_pages(self) -> None:
        """Give the per-cpu lists, and what an earlier life left, to the free lists, where they join."""
        for pindex, blocks in self.pcp.items():
            self._drain(blocks, pindex % 16, len(blocks))
        for pindex, old in self.aged.items():
            self.listed -= len(old) << pindex % 16
            self._drain(old, pindex % 16, len(old))

    def drain_list(self, pindex: int) -> None:
        """Give one per-cpu list to the free lists."""
        blocks = self.pcp.get(pindex, [])
        self._drain(blocks, pindex % 16, len(blocks))

    def offline_pages(self) -> int:
        """Take every free frame out of the zone, as memory that is unplugged; return how many went."""
        gone = self.nr_free
        self.managed, self.virgin, self.listed = self.managed - gone, self.end, 0
        self.free_area = [[type(blocks)() for blocks in row] for row in self.free_area]
        self.pcp, self.aged = {}, {}
        self.map.blocks.clear()
        return gone

    def info(self) -> ZoneInfo:
        """Return the zone as it is now, as plain numbers. The untouched tail counts as movable blocks of 4 MiB."""
        free = [[len(blocks) for blocks in row] for row in self.free_area]
        free[MAX_PAGE_ORDER][MOVABLE] += self.end - self.virgin >> MAX_PAGE_ORDER
        for pindex, old in self.aged.items():
            order, migratetype = pindex_to_order(pindex)
            free[order][migratetype] += len(old)
        kinds = [0] * len(MIGRATE_NAMES)
        for migratetype in self.pageblocks.values():
            kinds[migratetype] += 1
        kinds[MOVABLE] = (self.end - self.start >> 9) - sum(kinds)
        return ZoneInfo(
            self.name, self.start, self.end, self.managed, self.managed, tuple(map(tuple, free)), tuple(kinds),
            self.nr_pcp, self.batch, self.high, self.watermarks,
            tuple(self.protection.get(name, 0) for name in ("DMA", "DMA32", "Normal", "Movable")),
        )  # fmt: skip

    def _boot(self, ranges: tuple[tuple[int, int], ...]) -> None:
        """Leave the whole blocks at the end of the last range as the tail, and free all other RAM into the lists."""
        first, last = ranges[-1]
        self.virgin = min(-(-first // _MAX_BLOCK) * _MAX_BLOCK, last)
        for at, end in (*ranges[:-1], (first, self.virgin)):
            self.map.set_free(at, end - at)
            for pfn, order in aligned_blocks(at, end):
                self.free_one_page(pfn, order)

    def _refill(self, pindex: int, order: int, migratetype: int, room: int) -> int | None:
        """Fill an empty per-cpu list within `room` blocks, and return the next block; None where nothing is left."""
        count = min(room, nr_pcp_alloc(self.batch, order)) if order in PCP_ORDERS else 1
        old = self.aged.get(pindex)
        if old:
            hot = old[-count:].tolist()
            del old[-count:]
            self.listed -= len(hot) << order
        else:
            step, runs = 1 << order, self._carve(order, count, migratetype)
            hot = [pfn for first, n in reversed(runs) for pfn in range(first + n - step, first - 1, -step)]
        if not hot:
            return None
        pfn: int = hot.pop()
        if hot:
            self.pcp[pindex] = hot
        return pfn

    def _carve(self, order: int, count: int, migratetype: int) -> list[tuple[int, int]]:
        """Take up to `count` blocks of `order` from the lists; return (first frame, frames) of runs.

        As long as a split block lasts, the next block of its size is the one above: so a run is cut from it at once,
        and a run of the untouched tail where the lists have nothing that suffices.
        """
        runs, need = list[tuple[int, int]](), count << order
        while need > 0 and (found := self.take(order, migratetype)):
            pfn, high = found
            got = min(need, 1 << high)
            if pfn + _MAX_BLOCK == self.virgin and high == MAX_PAGE_ORDER and not self._listed(order, migratetype):
                more = min(need - got, self.end - self.virgin) & ~_MASK
                self.virgin, got = self.virgin + more, got + more
            if got < 1 << high:
                self.give_rest(pfn, high, got)
            runs.append((pfn, got))
            need -= got
        return runs

    def _listed(self, order: int, migratetype: int) -> bool:
        return migratetype != MOVABLE or any(row[migratetype] for row in self.free_area[order:])

    def _drain(self, blocks: MutableSequence[int], order: int, count: int) -> None:
        """Move the `count` blocks that were touched longest ago from a list to the free lists."""
        for pfn in blocks[:count]:
            self.free_one_page(pfn, order)
        del blocks[:count]


def aligned_blocks(at: int, end: int) -> list[tuple[int, int]]:
    """Return (first frame, order) of the largest aligned blocks that make up frames [at, end)."""
    blocks = []
    while at < end:
        order = min((at & -at).bit_length() - 1 if at else MAX_PAGE_ORDER, (end - at).bit_length() - 1, MAX_PAGE_ORDER)
        blocks.append((at, order))
        at += 1 << order
    return blocks


def _pop_many(
    lists: "dict[int, array[int]] | dict[int, MutableSequence[int]]", pindex: int, count: int, step: int
) -> tuple[Frames, Frames]:
    """Take up to `count` blocks from the end of a list, the last first."""
    blocks = lists.get(pindex, [])
    n = min(count, len(blocks))
    firsts = np.array(blocks[len(blocks) - n :], np.int64)[::-1]
    del blocks[len(blocks) - n :]
    return firsts, np.full(n, step, np.int64)
