"""Free memory becomes frames: the page allocator of one node, zone after zone."""

import errno
from collections.abc import Iterator

import numpy as np

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.kernel.mm.page_alloc.free_area import MIGRATE_PCPTYPES, MOVABLE, UNMOVABLE
from labkit.kernel.mm.page_alloc.memblock import PCI_HOLE, Memblock
from labkit.kernel.mm.page_alloc.watermark import (
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    lowmem_reserve,
    setup_per_zone_wmarks,
)
from labkit.kernel.mm.page_alloc.zone import Frames, Zone, ZoneInfo, aligned_blocks
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, Pfn, human_bytes

__all__ = ["MOVABLE", "UNMOVABLE", "Buddy", "Zone"]

_MAX_BLOCK = 1 << MAX_PAGE_ORDER


class Buddy:
    """All the RAM of a machine. ZONE_MOVABLE first for what can move, then ZONE_NORMAL, ZONE_DMA32, ZONE_DMA (BUD-1).

    One task runs at a time, so one set of per-cpu lists stands for those of `cpus` CPUs and holds one CPU's share.
    """

    def __init__(self, nbytes: int, *, movablecore: int = 0, cpus: int = 2, pci_hole: int = PCI_HOLE) -> None:
        """Boot with `nbytes` of RAM, `movablecore` of it for what can move. Errors: Memblock; EINVAL without a CPU.

        `pci_hole`: the address from which on there are BARs and no RAM, up to 4 GiB.
        """
        if cpus < 1:
            raise BadInput("mm", f"cpus={cpus}", "is not a positive number of CPUs", errno.EINVAL)
        self.memblock = Memblock(nbytes, movablecore, pci_hole)
        self.phys_end = self.memblock.phys_end
        zones = [
            Zone(r.name, r.start >> PAGE_SHIFT, r.end >> PAGE_SHIFT, self.memblock.free_frames(r))
            for r in self.memblock.zones
        ]
        lowmem = sum(zone.managed for zone in zones if zone.name != "Movable")
        reserve = lowmem_reserve([(zone.name, zone.managed) for zone in zones])
        for zone in zones:
            zone.setup(setup_per_zone_wmarks(zone.name, zone.managed, lowmem), reserve[zone.name], cpus)
        self.zones = zones[::-1]
        """The zonelist: in the order in which they are asked."""
        self._kernel = [zone for zone in self.zones if zone.name != "Movable"]

    def alloc_pages(self, order: int, migratetype: int = MOVABLE, flags: int = ALLOC_WMARK_LOW, below: int = 0) -> Pfn:
        """Return the first frame of a free block of 2**`order` frames for use as `migratetype`.

        `below`: not from a zone that ends above that physical address, 0 for any; the lowest is asked in any case.

        Above the low watermark first, then above the one that ALLOC `flags` say or the minimum, then once more when
        every CPU has given back what it keeps (BUD-9). Raises SyscallError ENOMEM when that is not enough either, and
        at once beyond the greatest order: that is alloc_contig's. BadInput EINVAL for a negative order, or a
        migratetype that nobody allocates for.
        """
        if order < 0 or not 0 <= migratetype < MIGRATE_PCPTYPES:
            raise _no_such(order, migratetype)
        zones = self.zones if migratetype == MOVABLE else self._kernel
        if below:
            zones = [zone for zone in zones if zone.end << PAGE_SHIFT <= below] or zones[-1:]
        for zone in zones:
            pfn = zone.rmqueue(order, migratetype, flags, zones[0].name)
            if pfn is not None:
                return pfn
        return self._slowpath(zones, order, migratetype, flags & ~3 | ALLOC_WMARK_MIN)

    def alloc_bulk(self, order: int, count: int, migratetype: int = MOVABLE) -> tuple[Frames, Frames]:
        """Return (first frame, frames) of the runs that `count` calls of alloc_pages would give, in their order.

        Ascending neighbours are one run. When memory ends there are fewer blocks than `count`, and none raises.
        Raises BadInput EINVAL for a negative order or count, or a migratetype that nobody allocates for.
        """
        if order < 0 or count < 0 or not 0 <= migratetype < MIGRATE_PCPTYPES:
            raise _no_such(order, migratetype, count)
        zones = self.zones if migratetype == MOVABLE else self._kernel
        pieces: list[tuple[Frames, Frames]] = []
        for flags in (ALLOC_WMARK_LOW, ALLOC_WMARK_MIN, None) if order <= MAX_PAGE_ORDER else ():
            if flags is None and count:
                self.drain_all_pages()
            for zone in zones:
                mark = zone.mark(flags or ALLOC_WMARK_MIN, zones[0].name)
                got = zone.rmqueue_bulk(order, count, migratetype, mark) if count else []
                count -= sum(int(frames.sum()) for _, frames in got) >> order
                pieces += got
        return _joined(pieces)

    def alloc_contig(self, frames: int) -> Pfn:
        """Return the first of `frames` frames in a row, aligned to their size: a folio beyond the greatest order.

        `frames` is a power of two above 1024 (hugetlb: 1 GiB). The lowest place of the first zone that has one.
        Raises SyscallError ENOMEM without one, BadInput for another size.
        """
        if frames <= _MAX_BLOCK or frames & frames - 1:
            raise BadInput("mm", f"{frames} frames", "is not a power of two above 1024", errno.EINVAL)
        for _ in range(2):
            for zone in self.zones:
                if (pfn := _contig(zone, frames, zone.mark(ALLOC_WMARK_MIN, self.zones[0].name))) is not None:
                    return pfn
            self.drain_all_pages()
        raise _enomem(frames)

    def drain_all_pages(self) -> None:
        """Give the per-cpu lists back to the free lists, where they join: what the kernel does before it gives up."""
        for zone in self.zones:
            zone.drain_pages()

    def free_pages(self, pfn: Pfn, order: int) -> None:
        """Give back the block of 2**`order` frames at `pfn`; beyond the greatest order, one of alloc_contig.

        Raises BadInput for a block that is misaligned or of no zone, InvariantError for one of which a frame is free;
        nothing changes then. The check takes some 0.2 µs.
        """
        if order > MAX_PAGE_ORDER:
            self.free_bulk(np.array([pfn]), np.array([1 << order]), order)
        else:
            self._zone_to_free(pfn, 1 << max(order, 0), order).free(pfn, order)

    def free_bulk(self, starts: Frames, frames: Frames, order: int) -> None:
        """Give back runs of blocks of 2**`order` frames, past the per-cpu lists, so that they join at once.

        Errors: as free_pages, for the first run that is wrong, before any goes.
        """
        firsts, sizes = np.asarray(starts, np.int64), np.asarray(frames, np.int64)
        mixed = np.argsort(firsts, kind="stable")
        twice = np.flatnonzero((firsts + sizes)[mixed][:-1] > firsts[mixed][1:])
        if len(twice):
            raise _twice(int(firsts[mixed[twice[0] + 1]]))
        runs = list(zip(firsts.tolist(), sizes.tolist(), strict=True))
        zones = [self._zone_to_free(pfn, n, order) for pfn, n in runs]
        for zone, (pfn, n) in zip(zones, runs, strict=True):
            zone.map.set_free(pfn, n)
            for first, size in aligned_blocks(pfn, pfn + n):
                zone.free_one_page(first, size)

    @property
    def nr_free(self) -> int:
        """Free frames of the machine."""
        return sum(zone.nr_free for zone in self.zones)

    @property
    def managed(self) -> int:
        """Frames of the machine, free or not."""
        return sum(zone.managed for zone in self.zones)

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, first frame, frame past the end) of each zone, by address."""
        for zone in reversed(self.zones):
            yield zone.name, zone.start, zone.end

    def info(self) -> tuple[ZoneInfo, ...]:
        """Return every zone as it is now, by address."""
        return tuple(zone.info() for zone in reversed(self.zones))

    def _slowpath(self, zones: list[Zone], order: int, migratetype: int, flags: int) -> Pfn:
        for last in (False, True) if order <= MAX_PAGE_ORDER else ():
            if last:
                self.drain_all_pages()
            for zone in zones:
                pfn = zone.rmqueue(order, migratetype, flags, zones[0].name)
                if pfn is not None:
                    return pfn
        raise _enomem(1 << order)

    def _zone_to_free(self, pfn: int, frames: int, order: int) -> Zone:
        """Return the zone of `frames` allocated frames from `pfn` on. Raises as free_pages says."""
        if order < 0:
            raise BadInput("mm", f"order={order}", "is negative", errno.EINVAL)
        if (pfn | frames) & (1 << order) - 1:
            raise BadInput("mm", f"pfn={pfn:#x}", f"begins no block of {1 << order} frames", errno.EINVAL)
        for zone in self.zones:
            if zone.start <= pfn and pfn + frames <= zone.end:
                if zone.is_free(pfn, frames):
                    raise _twice(pfn)
                return zone
        raise BadInput("mm", f"pfn={pfn:#x}", "is a frame of no zone", errno.EINVAL)


def _contig(zone: Zone, frames: int, mark: int) -> Pfn | None:
    """Take the lowest `frames` frames of `zone` that are free and aligned to their size; None without them."""
    if zone.nr_free_pages - frames < mark:
        return None
    whole = {pfn: blocks for blocks in zone.free_area[MAX_PAGE_ORDER] for pfn in blocks}
    for first in range(-(-zone.start // frames) * frames, zone.end - frames + 1, frames):
        span = range(first, first + frames, _MAX_BLOCK)
        if all(pfn >= zone.virgin or pfn in whole for pfn in span):
            for pfn in range(zone.virgin, first + frames, _MAX_BLOCK):
                zone.take_virgin()
                if pfn < first:
                    zone.map.set_free(pfn, _MAX_BLOCK)
                    zone.free_one_page(pfn, MAX_PAGE_ORDER)
            for pfn in whole.keys() & set(span):
                del whole[pfn][pfn]
                zone.listed -= _MAX_BLOCK
            zone.map.set_used(first, frames)
            zone.set_pageblock_type(first, frames, MOVABLE)
            return Pfn(first)
    return None


def _joined(pieces: list[tuple[Frames, Frames]]) -> tuple[Frames, Frames]:
    """Return the runs of `pieces` with each one glued to its predecessor where they touch."""
    starts = np.concatenate([np.zeros(0, np.int64), *(piece[0] for piece in pieces)])
    frames = np.concatenate([np.zeros(0, np.int64), *(piece[1] for piece in pieces)])
    if not len(starts):
        return starts, frames
    begins = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1] + frames[:-1]]))
    return starts[begins], np.add.reduceat(frames, begins)


def _enomem(frames: int) -> SyscallError:
    what = f"a block of {human_bytes(PAGE_SIZE * frames)}"
    return SyscallError("mm", what, "is not to be had in any zone", errno.ENOMEM)


def _no_such(order: int, migratetype: int, count: int = 1) -> BadInput:
    rule = f"is no request: 0 or more of each, and one of {MIGRATE_PCPTYPES} migratetypes"
    return BadInput("mm", f"{count} blocks of order {order}, migratetype {migratetype},", rule, errno.EINVAL)


def _twice(pfn: int) -> InvariantError:
    return InvariantError("mm", f"pfn={pfn:#x}", "is given back, and was free already", errno.EFAULT)
