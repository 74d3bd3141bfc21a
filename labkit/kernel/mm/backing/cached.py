"""Frames become pages of a file: its folios by index, of any order side by side (mm/filemap.c, i_pages)."""

import errno
from collections.abc import Callable, Sequence

import numpy as np

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.xarray import Ints, XArray
from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.frames.frames import Frames
from labkit.scatter.payload import Ranges, ranges_of, run_length
from labkit.trace.page_flags import PG_uptodate
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, Pfn, PhysAddr

AtOnce = Callable[[int, Ranges], None]
"""Move bytes between memory (physical ranges) and a file, from a byte of it on, at once."""


class CachedPages:
    """The folios of one file. The file holds a reference for each page of a folio.

    A file that is memory alone (shmem) gets folios of `order` by the hundred, and they are kept as groups. One that is
    `backed` by a device has its folios one by one, since IO locks, dirties and cleans each by itself.
    """

    def __init__(self, frames: Frames, name: str, order: int, *, backed: bool) -> None:
        """Begin with none."""
        self.frames, self.name, self.order, self.backed = frames, name, order, backed
        self.fill: AtOnce | None = None
        """What brings bytes that a fault wants, or that lie in the inode; None: they are zeros."""
        self.drain: AtOnce | None = None
        """What takes bytes that lie in the inode back there; None: they go nowhere."""
        self.i_pages = XArray()

    @property
    def nrpages(self) -> int:
        """Pages that are cached."""
        return self.i_pages.nrpages

    @property
    def heads(self) -> Ints:
        """The first frame of each folio, in the order of the file."""
        return np.array([entry.pfn for entry in self.i_pages.entries(0, self._end)], np.int64)

    def find(self, index: int) -> Folio | None:
        """Return the folio that holds page `index`, or None (filemap_get_folio)."""
        entry = self.i_pages.find(index)
        return self._folio(entry.pfn) if entry is not None else None

    def folios(self, first: int, last: int) -> Sequence[Folio]:
        """Return the folios that have a page of [first, last), in order (filemap_get_folios)."""
        return [self._folio(entry.pfn) for entry in self.i_pages.entries(first, last)]

    def add_folio(self, index: int, order: int, flags: int = 0, io: int = 0) -> Folio | None:
        """Make a folio of 2**`order` pages, with `flags`, pages `index` and on of the file (filemap_add_folio).

        Returns None where one of these pages has a folio already (EEXIST). Raises SyscallError ENOMEM.
        """
        if self.i_pages.words(index, index + (1 << order)).any():
            return None
        folio = self.frames.folios.add(self.frames.buddy.alloc_pages(order), order, 1 << order, flags, self)
        folio.index = index
        self.i_pages.store(index, folio.pfn, order)
        self._tell(order, flags, folio.runs, io)
        return folio

    def add(self, first: int, last: int) -> int:
        """Let the folios of pages [first, last) be there; return how many came. Raises SyscallError ENOMEM.

        Folios of the file's own order come where there is room for them, and single pages between others.
        """
        step = 1 << self.order
        lo, hi = first & -step, -(-last // step) * step
        taken = self.i_pages.words(lo, hi).reshape(-1, step) != 0
        free = np.flatnonzero(~taken.any(axis=1)) * step + lo
        partly = np.flatnonzero(taken.any(axis=1) & ~taken.all(axis=1))
        came = self._add_all(free, self.order)
        for at in partly.tolist():
            came += self._add_all(np.flatnonzero(~taken[at]) + lo + at * step, 0)
        return came

    def runs(self, first: int, last: int) -> Ranges:
        """Return (physical address, bytes) of pages [first, last), which are there, joined where they touch."""
        pfns = self.i_pages.pfns(first, last)
        return run_length(ranges_of(pfns << PAGE_SHIFT, np.full(len(pfns), PAGE_SIZE, np.int64)))

    def replace(self, old: Pfn, new: Pfn) -> None:
        """Let the folio that begins at frame `old` begin at `new`: it has migrated (replace_page_cache_folio)."""
        self.i_pages.move(old, new)

    def forget(self, first: int) -> None:
        """Take every folio from page `first` on out of the file; one that is pinned lives on as an orphan."""
        gone = list(self.i_pages.entries(first, self._end))
        for index, _, order in gone:
            self.i_pages.erase(index, order)
        for order in sorted({entry.order for entry in gone}):
            heads = np.sort(np.array([entry.pfn for entry in gone if entry.order == order], np.int64))
            runs = run_length(ranges_of(heads << PAGE_SHIFT, np.full(len(heads), PAGE_SIZE << order)))
            for group, _ in list(self.frames.folios.groups(runs)):
                self.frames.forget(group, 1 << order)

    def phys_to_folio(self, addr: PhysAddr) -> Folio | None:
        """Return the folio that holds the byte at `addr`, or None: not all memory has one (D-17)."""
        return self.frames.folios.phys_to_folio(addr)

    def wipe(self, addr: int, nbytes: int) -> None:
        """Set `nbytes` bytes at physical `addr` to zero."""
        self.frames.wipe(addr, nbytes)

    def release_orphans(self) -> None:
        """Free what left the file while somebody counted on it, and nobody does any more."""
        self.frames.release_orphans()

    @property
    def _end(self) -> int:
        """The first page that no folio can hold."""
        return (max(self.i_pages.nodes, default=-1) + 1) << 10

    def _folio(self, pfn: int) -> Folio:
        folio = self.frames.folios.phys_to_folio(PFN_PHYS(Pfn(pfn)))
        if folio is None:
            raise SyscallError("filemap", f"pfn={pfn:#x}", f"is in {self.name} and no folio", errno.EIO)
        return folio

    def _add_all(self, indices: Ints, order: int) -> int:
        """Add a folio of `order` at each of `indices`, sorted; return how many. Raises SyscallError ENOMEM."""
        came = len(indices)
        while len(indices):
            count = 1 if self.backed else len(indices)
            runs, n, groups = self.frames.alloc(order, count, PG_uptodate, self)
            self.i_pages.store_all(indices[:n], _heads(runs, order), order)
            for at, group in zip(indices.tolist(), groups, strict=False):  # many folios are one group
                group.refcount = 1 << order
                if isinstance(group, Folio):
                    group.index = at
            try:
                if self.fill is not None:
                    self.fill(int(indices[0]) << PAGE_SHIFT, runs)
            finally:
                self._tell(order, PG_uptodate, runs)
            indices = indices[n:]
        return came

    def _tell(self, order: int, flags: int, runs: Ranges, io: int = 0) -> None:
        now = self.frames.now()
        self.frames.emit(("MmFilemapAddToPageCache", now, io, order, 1 << order, flags, runs, self.name))


def _heads(runs: Ranges, order: int) -> Ints:
    """Return the first frame of each folio of `order` in `runs`, in their order."""
    step = 1 << order
    return np.concatenate([np.arange(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT, step) for a, n in runs])
