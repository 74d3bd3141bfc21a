"""Free memory becomes frames: the buddy allocator (BUD-1..6), a zone at a time."""

import errno
from collections.abc import Iterator

from labkit.errors import BadInput, SyscallError
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, Pfn, human_bytes

_MAX_BLOCK = 1 << MAX_PAGE_ORDER
_DMA32_START = 16 << 20
_HOLE = (3 << 30, 4 << 30)
"""Where a PC keeps its PCI BARs: no RAM between 3 and 4 GiB."""


class Zone:
    """Frames [start, end) of one zone: free blocks by order, and an untouched tail kept as one number.

    A free list is a dict: insertion order makes `popitem` the LIFO of BUD-4's head placement, and a buddy is found
    in one look-up. The tail from `virgin` on costs nothing however large it is.
    """

    def __init__(self, name: str, start: int, end: int) -> None:
        """Take frames [start, end), both multiples of 1024."""
        self.name, self.start, self.end, self.virgin = name, start, end, start
        self.free_area: list[dict[int, None]] = [{} for _ in range(MAX_PAGE_ORDER + 1)]
        self.pcp: dict[int, list[int]] = {}
        """Blocks freed lately, by order, not merged, the next one last. BUD-8 keeps orders 0 to 3 and 9 so; here any
        order may be, since an aged machine is told apart by this list alone."""

    @property
    def nr_free(self) -> int:
        """Free frames."""
        listed = sum(len(blocks) << order for order, blocks in enumerate(self.free_area))
        return listed + sum(len(blocks) << order for order, blocks in self.pcp.items()) + self.end - self.virgin

    def rmqueue(self, order: int) -> Pfn | None:
        """Take a block of 2**`order` frames: the hot list, else the smallest that suffices (BUD-6), else None."""
        hot = self.pcp.get(order)
        if hot:
            return Pfn(hot.pop())
        for high in range(order, MAX_PAGE_ORDER + 1):
            if self.free_area[high]:
                return self.expand(self.free_area[high].popitem()[0], high, order)
        block = self.take_virgin()
        return None if block is None else self.expand(block, MAX_PAGE_ORDER, order)

    def take_virgin(self) -> int | None:
        """Take a block of the greatest order from the untouched tail."""
        if self.virgin + _MAX_BLOCK > self.end:
            return None
        block, self.virgin = self.virgin, self.virgin + _MAX_BLOCK
        return block

    def expand(self, pfn: int, high: int, low: int) -> Pfn:
        """Halve a block of order `high` down to `low`: the upper half goes back each time, the lower stays (BUD-5)."""
        while high > low:
            high -= 1
            self.free_area[high][pfn + (1 << high)] = None
        return Pfn(pfn)

    def free_one_page(self, pfn: int, order: int) -> None:
        """Give back a block, and join it with its buddy as long as that is free too (BUD-3)."""
        while order < MAX_PAGE_ORDER:
            buddy = pfn ^ (1 << order)
            if buddy not in self.free_area[order]:
                break
            del self.free_area[order][buddy]
            pfn &= buddy
            order += 1
        self.free_area[order][pfn] = None


class Buddy:
    """All the RAM of a machine: ZONE_NORMAL first, ZONE_DMA32 when it is empty (BUD-1, one node)."""

    def __init__(self, nbytes: int) -> None:
        """Lay out `nbytes` of RAM: up to 3 GiB below the PCI hole, the rest from 4 GiB on."""
        if nbytes < 64 << 20:
            raise BadInput("memory", f"ram={human_bytes(nbytes)}", "is less than the 64 MiB that boot", errno.EINVAL)
        low, high = min(nbytes, _HOLE[0]), max(0, nbytes - _HOLE[0])
        spans = (("Normal", _HOLE[1], _HOLE[1] + high), ("DMA32", _DMA32_START, low))
        self.zones = [Zone(name, *map(_whole_blocks, span)) for name, *span in spans if span[1] - span[0] >= 4 << 20]
        self.phys_end = max(zone.end for zone in self.zones) << PAGE_SHIFT

    def alloc_pages(self, order: int) -> Pfn:
        """Return the first frame of a free block of 2**`order` frames. Raises SyscallError ENOMEM without one."""
        pfn = self._rmqueue(order)
        if pfn is None:
            self.drain_all_pages()
            pfn = self._rmqueue(order)
        if pfn is not None:
            return pfn
        raise SyscallError(
            "mm", f"a block of {human_bytes(PAGE_SIZE << order)}", "is not to be had in any zone", errno.ENOMEM
        )

    def drain_all_pages(self) -> None:
        """Give the hot lists back to the free lists, where they merge: what the kernel does before it gives up."""
        for zone in self.zones:
            for order, blocks in zone.pcp.items():
                while blocks:
                    zone.free_one_page(blocks.pop(), order)

    def _rmqueue(self, order: int) -> Pfn | None:
        return next((pfn for zone in self.zones if (pfn := zone.rmqueue(order)) is not None), None)

    def free_pages(self, pfn: Pfn, order: int) -> None:
        """Give back the block of 2**`order` frames at `pfn`."""
        next(zone for zone in self.zones if zone.start <= pfn < zone.end).free_one_page(pfn, order)

    @property
    def nr_free(self) -> int:
        """Free frames of the machine."""
        return sum(zone.nr_free for zone in self.zones)

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, first frame, frame past the end) of each zone, by address."""
        for zone in sorted(self.zones, key=lambda zone: zone.start):
            yield zone.name, zone.start, zone.end


def _whole_blocks(addr: int) -> int:
    """Return the frame at `addr`, rounded down to a block of the greatest order."""
    return addr >> PAGE_SHIFT & ~(_MAX_BLOCK - 1)
