"""Device addresses handed out and taken back: the IOVA allocator (IOVA-2..4)."""

import errno
from bisect import bisect_left

from labkit.errors import InvariantError, SyscallError
from labkit.units import PAGE_SHIFT

IOVA_MAG_SIZE = 127
"""Ranges in a magazine (IOVA-3)."""
MAX_GLOBAL_MAGS = 4
"""Full magazines that a depot keeps; ours: the kernel lets more of them go every 100 ms, down to one a CPU (IOVA-3)."""
DMA_32BIT_PFN = 1 << (32 - PAGE_SHIFT)

_RCACHE_PAGES = 32
"""Sizes below this are rounded up to a power of two; up to it they are kept for reuse (IOVA-3)."""
_FIRST_PAGE = 1
"""Device address 0 is never given out."""


class Rcache:
    """Ranges of one size that were freed lately: two magazines at hand, full ones in a depot (struct iova_rcache)."""

    def __init__(self) -> None:
        """Begin empty."""
        self.loaded: list[int] = []
        """The magazine from which the next range is popped."""
        self._prev: list[int] = []
        self._depot: list[list[int]] = []

    def refill(self) -> bool:
        """Load another magazine in place of an empty one; return whether there was any."""
        if self._prev:
            self.loaded, self._prev = self._prev, self.loaded
        elif self._depot:
            self.loaded = self._depot.pop()
        return bool(self.loaded)

    def put(self, start: int) -> list[int]:
        """Keep `start`; return a magazine of others that must go, mostly empty."""
        gone: list[int] = []
        if len(self.loaded) == IOVA_MAG_SIZE:
            if not self._prev:
                self.loaded, self._prev = self._prev, self.loaded
            else:
                if len(self._depot) == MAX_GLOBAL_MAGS:
                    gone = self._depot.pop(0)
                self._depot.append(self.loaded)
                self.loaded = []
        self.loaded.append(start)
        return gone

    def drain(self) -> list[int]:
        """Give everything up."""
        every = [*self.loaded, *self._prev, *(start for magazine in self._depot for start in magazine)]
        self.loaded, self._prev, self._depot = [], [], []
        return every


class IovaDomain:
    """Pages of device address space: top-down, below 4 GiB first, aligned to their own size."""

    def __init__(self, limit_pages: int = DMA_32BIT_PFN) -> None:
        """Hand out pages below `limit_pages`."""
        self._limit = limit_pages
        self.pci_32bit_workaround = limit_pages > DMA_32BIT_PFN
        """Whether addresses are sought below 4 GiB first; the first failure there ends it (IOVA-2)."""
        self._starts: list[int] = []
        self._ends: dict[int, int] = {}
        self._cached = [limit_pages, limit_pages]
        """Where the next search begins: at the range that was put in last, below 4 GiB and anywhere."""
        self._max32_alloc_size = DMA_32BIT_PFN
        self._rcaches = [Rcache() for _ in range(_RCACHE_PAGES.bit_length())]
        self._exhausted = False
        self.used = 0
        """Pages that are out: neither free nor kept for reuse."""

    def alloc(self, pages: int) -> int:
        """Return the first of `pages` pages. Raises SyscallError ENOMEM when the space is used up."""
        size = pages
        if pages <= _RCACHE_PAGES:
            order = (pages - 1).bit_length()
            rcache, size = self._rcaches[order], 1 << order
            if rcache.loaded or rcache.refill():
                self.used += size
                return rcache.loaded.pop()
        start = self._fresh(size)
        if start is None:
            raise SyscallError("iommu", f"{pages} pages", "find no room in the device's address space", errno.ENOMEM)
        self.used += size
        return start

    def free(self, start: int, pages: int) -> None:
        """Take `pages` pages at `start` back. Raises InvariantError EINVAL for what was not handed out like that."""
        size = pages if pages > _RCACHE_PAGES else 1 << (pages - 1).bit_length()
        if self._ends.get(start) != start + size:
            raise InvariantError("iova", f"page {start:#x}, {pages} pages", "is not what was handed out", errno.EINVAL)
        self.used -= size
        if size > _RCACHE_PAGES or self._exhausted:
            self._remove(start)
            return
        for old in self._rcaches[size.bit_length() - 1].put(start):
            self._remove(old)

    def reserve(self, start: int, nbytes: int) -> None:
        """Never hand out the pages of `nbytes` at address `start`: a BAR is there. What is out already stays out."""
        at, last = start >> PAGE_SHIFT, (start + nbytes - 1) >> PAGE_SHIFT
        end = min(last + 1, self._limit)
        before = bisect_left(self._starts, at + 1) - 1
        if before >= 0:
            at = max(at, self._ends[self._starts[before]])
        for taken in [other for other in self._starts if at <= other < end]:
            if at < taken:
                self._insert(at, taken)
            at = self._ends[taken]
        if at < end:
            self._insert(at, end)

    def exhaust(self) -> None:
        """Hand out nothing from now on, not even what is freed: for a fault that is asked for."""
        self.free_cached()
        self._exhausted = True

    def free_cached(self) -> None:
        """Let go of everything that is kept for reuse: ranges that touch are one gap again."""
        for rcache in self._rcaches:
            for start in rcache.drain():
                self._remove(start)

    def _fresh(self, size: int) -> int | None:
        """Find room in the tree (IOVA-2); what is kept for reuse goes before this fails."""
        if self._exhausted:
            return None
        if self.pci_32bit_workaround:
            start = self._search(size, DMA_32BIT_PFN)
            if start is not None:
                return start
            self.pci_32bit_workaround = False
        start = self._search(size, self._limit)
        if start is None:
            self.free_cached()
            start = self._search(size, self._limit)
        return start

    def _search(self, size: int, limit: int) -> int | None:
        """Take the highest place below `limit` for `size` pages: below the last one found, or from the top (IOVA-4).

        A size that found no room below 4 GiB is remembered, and refused at once until something there is freed.
        """
        low = limit <= DMA_32BIT_PFN
        if low and size >= self._max32_alloc_size:
            return None
        for begin in (self._cached[not low], limit):
            start = self._below(size, min(begin, limit), limit)
            if start is not None:
                self._insert(start, start + size)
                self._cached[1] = start
                if start < DMA_32BIT_PFN:
                    self._cached[0] = start
                return start
        if low:
            self._max32_alloc_size = size
        return None

    def _below(self, size: int, begin: int, limit: int) -> int | None:
        """Return the highest aligned place of `size` pages below the range that begins at `begin`, None without."""
        align, starts, ends = -(1 << (size - 1).bit_length()), self._starts, self._ends
        at = bisect_left(starts, begin)
        high = min(begin, limit)
        while True:
            new = (high - size) & align
            if new < _FIRST_PAGE:
                return None
            at -= 1
            if at < 0 or new >= ends[starts[at]]:
                return new
            high = min(high, starts[at])

    def _insert(self, start: int, end: int) -> None:
        self._starts.insert(bisect_left(self._starts, start), start)
        self._ends[start] = end

    def _remove(self, start: int) -> None:
        """Take a range out of the tree; a search may begin above it again."""
        at = bisect_left(self._starts, start)
        del self._starts[at]
        del self._ends[start]
        above = self._starts[at] if at < len(self._starts) else self._limit
        if start < DMA_32BIT_PFN:
            self._max32_alloc_size = DMA_32BIT_PFN
            self._cached[0] = max(self._cached[0], above)
        self._cached[1] = max(self._cached[1], above)
