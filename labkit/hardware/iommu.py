"""The translating bus: device addresses become physical ones through a page table, and an IOTLB that remembers it."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from labkit.errors import BadInput, InvariantError
from labkit.hardware.device import Bus, BusFault
from labkit.scatter.payload import Range, Ranges, run_length
from labkit.units import PAGE_SHIFT, PAGE_SIZE, human_bytes

READ, WRITE = 1, 2
"""The permission bits of an entry: the device may read memory, or write to it (VT-d)."""
LEAVES = (30, 21, 12)
"""What an entry may lead to: 1 GiB, 2 MiB or 4 KiB (IOVA-6), as shifts."""
IOTLB_ENTRIES, IOTLB_LARGE = 64, 32
"""Translations that the IOTLB remembers, of 4 KiB pages and of larger ones; ours: no maker tells."""

_LOW = PAGE_SIZE - 1


class Fills(NamedTuple):
    """What the IOTLB did since it was asked last: device ranges that it learned and forgot, and how often it knew."""

    filled: Ranges
    evicted: Ranges
    hits: int
    misses: int


class Iommu:
    """One domain: its page table, and what the IOTLB remembers of it.

    An unmapped page stays reachable while the IOTLB remembers it: that is the window of lazy mode (IOVA-7).
    """

    def __init__(self, bus: Bus, *, largest: int = 1 << 30, entries: int = IOTLB_ENTRIES) -> None:
        """Translate for devices that reach memory through `bus`, which takes physical addresses.

        `largest`: bytes of the largest leaf; `entries`: 4 KiB pages that the IOTLB holds. BadInput for another leaf.
        """
        if largest not in {1 << shift for shift in LEAVES} or entries < 1:
            what = f"leaves of {human_bytes(largest)}, {entries} entries"
            raise BadInput("iommu", what, "are not 4 KiB, 2 MiB or 1 GiB, and at least one (IOVA-6)", errno.EINVAL)
        self._bus, self._entries = bus, entries
        sizes = [shift for shift in LEAVES[:-1] if 1 << shift <= largest]
        self._large = tuple((shift, dict[int, int](), dict[int, int]()) for shift in sizes)
        """Of each size above 4 KiB, largest first: its shift, its entries, and what the IOTLB has of them."""
        self._leaves, self._learned = 0, False
        """How many of those entries there are; whether the IOTLB knows any of them."""
        self.ioptes: dict[int, int] = {}
        """Entries of 4 KiB: device page to physical address and permission bits, as the hardware has them."""
        self.iotlb: dict[int, int] = {}
        """The same of what is remembered, the one used last at the end."""
        self.hits = self.misses = 0
        self._told = 0, 0
        self._filled: list[Range] = []
        self._evicted: list[Range] = []

    @property
    def mapped(self) -> int:
        """Return the bytes that are mapped."""
        return (len(self.ioptes) << PAGE_SHIFT) + sum(len(table) << shift for shift, table, _ in self._large)

    def map(self, iova: int, phys: int, nbytes: int, perm: int = READ | WRITE) -> int:
        """Let `nbytes` at `iova` lead to `phys`; both begin equally deep in their page. Return the entries written.

        Raises InvariantError EINVAL for pages that are mapped already; nothing is mapped then.
        """
        page, entry = iova >> PAGE_SHIFT, (phys & ~_LOW) | perm
        end = (iova + nbytes + _LOW) >> PAGE_SHIFT
        if end - page == 1:
            shift, table = self._leaf(page)
            if shift == PAGE_SHIFT and page not in table:
                table[page] = entry
                return 1
        if not self.ioptes.keys().isdisjoint(range(page, end)) or (self._leaves and self._in_large(page, end)):
            raise InvariantError("iommu", f"{iova:#x}+{nbytes}", "is mapped already", errno.EINVAL)
        if end - page < 1 << 9:
            entries = range(entry, entry + ((end - page) << PAGE_SHIFT), PAGE_SIZE)
            self.ioptes.update(zip(range(page, end), entries, strict=True))
            return end - page
        written = 0
        while page < end:
            shift, table = self._pgsize(page | (entry >> PAGE_SHIFT), end - page)
            table[page >> (shift - PAGE_SHIFT)] = entry
            page, entry, written = page + (1 << (shift - PAGE_SHIFT)), entry + (1 << shift), written + 1
        self._leaves = sum(len(table) for _, table, _ in self._large)
        return written

    def unmap(self, iova: int, nbytes: int) -> int:
        """Take the entries of `nbytes` at `iova` out; the IOTLB is not told. Return how many there were.

        Raises InvariantError EINVAL where a page is not mapped, or where a larger leaf would be cut; nothing goes then.
        """
        page, end = iova >> PAGE_SHIFT, (iova + nbytes + _LOW) >> PAGE_SHIFT
        if end - page == 1 and self.ioptes.pop(page, None) is not None:
            return 1
        gone: list[tuple[dict[int, int], int]] = []
        while page < end:
            shift, table = self._leaf(page)
            size = 1 << (shift - PAGE_SHIFT)
            if page % size or page + size > end:
                table = {}
            if page // size not in table:
                raise InvariantError("iommu", f"{iova:#x}+{nbytes}", "is not mapped as a whole", errno.EINVAL)
            gone.append((table, page // size))
            page += size
        for table, key in gone:
            del table[key]
        if self._leaves:
            self._leaves = sum(len(table) for _, table, _ in self._large)
        return len(gone)

    def protect(self, iova: int, nbytes: int, perm: int) -> None:
        """Let the entries of `nbytes` at `iova` allow `perm` alone, 0 for nothing, and the IOTLB forget what it knew.

        Raises InvariantError EINVAL for a page that is not mapped.
        """
        at, end = iova, iova + nbytes
        while at < end:
            _, rest = self.lookup(at)
            shift, table = self._leaf(at >> PAGE_SHIFT)
            table[at >> shift] = table[at >> shift] & ~(READ | WRITE) | perm
            at += rest
        self.invalidate(iova, nbytes)

    def lookup(self, addr: int) -> tuple[int, int]:
        """Return the physical address that the page table has for `addr`, and bytes to the end of the leaf.

        Raises InvariantError EINVAL where it has none.
        """
        shift, table = self._leaf(addr >> PAGE_SHIFT)
        entry = table.get(addr >> shift)
        if entry is None:
            raise InvariantError("iommu", f"{addr:#x}", "is not mapped", errno.EINVAL)
        deep = addr & ((1 << shift) - 1)
        return (entry & ~_LOW) + deep, (1 << shift) - deep

    def invalidate(self, iova: int, nbytes: int) -> None:
        """Let the IOTLB forget `nbytes` at `iova`."""
        first, end = iova >> PAGE_SHIFT, (iova + nbytes + _LOW) >> PAGE_SHIFT
        tlb = self.iotlb
        if end - first == 1:
            tlb.pop(first, None)
        else:
            for page in range(first, end) if end - first < len(tlb) else [page for page in tlb if first <= page < end]:
                tlb.pop(page, None)
        for shift, _, large in self._large if self._learned else ():
            for key in [key for key in large if key << shift < iova + nbytes and (key + 1) << shift > iova]:
                del large[key]

    def invalidate_all(self) -> None:
        """Let the IOTLB forget everything."""
        self.iotlb.clear()
        for _, _, large in self._large:
            large.clear()
        self._learned = False

    def fills(self) -> Fills | None:
        """Return what the IOTLB did since this was asked last; None if it was not used."""
        hits, misses = self.hits - self._told[0], self.misses - self._told[1]
        if not hits and not misses:
            return None
        self._told = self.hits, self.misses
        filled, evicted = self._filled, self._evicted
        if not filled:
            return Fills((), (), hits, misses)
        self._filled, self._evicted = [], []
        return Fills(run_length(filled), run_length(evicted), hits, misses)

    def views(self, addr: int, nbytes: int, write: bool = False) -> Sequence[memoryview]:
        """Return views of the memory that `nbytes` at device address `addr` lead to; neighbours are one view.

        Raises BusFault with the first page that is not mapped, or not for that direction.
        """
        pa, rest = self._translate(addr, write)
        if nbytes <= rest:
            return self._bus.views(pa, nbytes, write)
        runs = self._runs(pa, rest, addr + rest, addr + nbytes, write)
        return [view for run in runs for view in self._bus.views(*run, write)]

    def _translate(self, addr: int, write: bool) -> Range:
        """Return where `addr` leads to, and bytes to the end of the leaf. Raises BusFault."""
        tlb, page, shift = self.iotlb, addr >> PAGE_SHIFT, PAGE_SHIFT
        entry = tlb.pop(page, 0)
        if entry:
            tlb[page] = entry
            self.hits += 1
        else:
            shift, entry = self._walk(addr)
        if not entry & (WRITE if write else READ):
            raise BusFault(addr & ~_LOW, write)
        deep = addr & ((1 << shift) - 1)
        return (entry & ~_LOW) + deep, (1 << shift) - deep

    def _walk(self, addr: int) -> tuple[int, int]:
        """Return shift and entry of the leaf of `addr`, which the IOTLB knows from now on; entry 0 without one."""
        for shift, _, tlb in self._large:
            if entry := tlb.pop(addr >> shift, 0):
                tlb[addr >> shift] = entry
                self.hits += 1
                return shift, entry
        self.misses += 1
        shift, table = self._leaf(addr >> PAGE_SHIFT)
        entry = table.get(addr >> shift, 0)
        if entry and shift == PAGE_SHIFT:
            self._remember(self.iotlb, addr >> shift, entry, shift, self._entries)
        elif entry:
            tlb = next(tlb for size, _, tlb in self._large if size == shift)
            self._remember(tlb, addr >> shift, entry, shift, IOTLB_LARGE)
            self._learned = True
        return shift, entry

    def _remember(self, tlb: dict[int, int], key: int, entry: int, shift: int, most: int) -> None:
        """Put `entry` into `tlb`; the one that was used longest ago makes room."""
        if len(tlb) >= most:
            oldest = next(iter(tlb))
            del tlb[oldest]
            self._evicted.append((oldest << shift, 1 << shift))
        tlb[key] = entry
        self._filled.append((key << shift, 1 << shift))

    def _runs(self, start: int, size: int, addr: int, end: int, write: bool) -> list[Range]:
        """Return `size` bytes at physical `start`, and what [addr, end) leads to, joined where ranges touch.

        Raises BusFault.
        """
        runs: list[Range] = []
        while addr < end:
            pa, rest = self._translate(addr, write)
            if pa != start + size:
                runs.append((start, size))
                start, size = pa, 0
            rest = min(rest, end - addr)
            addr, size = addr + rest, size + rest
        return [*runs, (start, size)]

    def _leaf(self, page: int) -> tuple[int, dict[int, int]]:
        """Return the shift and the table of the leaf that device `page` is in; of 4 KiB where it is in none."""
        for shift, table, _ in self._large:
            if table and page >> (shift - PAGE_SHIFT) in table:
                return shift, table
        return PAGE_SHIFT, self.ioptes

    def _in_large(self, page: int, end: int) -> bool:
        """Return whether a larger leaf has any of the pages [page, end)."""
        return any(
            key in table
            for shift, table, _ in self._large
            if table
            for key in _keys(page, end, shift - PAGE_SHIFT, table)
        )

    def _pgsize(self, joint: int, pages: int) -> tuple[int, dict[int, int]]:
        """Return the largest leaf for `pages` pages whose numbers have the bits of `joint` (iommu_pgsize, IOVA-6)."""
        for shift, table, _ in self._large:
            size = 1 << (shift - PAGE_SHIFT)
            if size <= pages and not joint & (size - 1):
                return shift, table
        return PAGE_SHIFT, self.ioptes


def _keys(page: int, end: int, order: int, table: dict[int, int]) -> Iterable[int]:
    """Return the leaves of 2**`order` pages in `table` that pages [page, end) might meet."""
    first, last = page >> order, (end - 1) >> order
    return range(first, last + 1) if last - first < len(table) else (key for key in table if first <= key <= last)


def physical(iommu: Iommu, ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield the physical ranges behind device `ranges`, by the page table. Raises InvariantError."""
    for addr, nbytes in ranges:
        at, end = addr, addr + nbytes
        while at < end:
            pa, rest = iommu.lookup(at)
            take = min(rest, end - at)
            yield pa, take
            at += take
