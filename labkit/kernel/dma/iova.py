"""Device addresses handed out and taken back: the IOVA allocator (IOVA-2..4)."""

import errno

from labkit.errors import SyscallError
from labkit.units import PAGE_SHIFT

_RCACHE_PAGES = 32
"""Sizes below this are rounded up to a power of two, and reused last in, first out (IOVA-3)."""
_FIRST_PAGE = 1
"""Device address 0 is never given out."""


class IovaDomain:
    """Pages of device address space: top-down from 4 GiB (IOVA-2), aligned to their own size (IOVA-4)."""

    def __init__(self, limit_pages: int = 1 << (32 - PAGE_SHIFT)) -> None:
        """Hand out pages below `limit_pages`."""
        self._top = limit_pages
        self._freed: dict[int, list[int]] = {}

    def alloc(self, pages: int) -> int:
        """Return the first of `pages` pages. Raises SyscallError ENOMEM when the space is used up."""
        size = self._size(pages)
        freed = self._freed.get(size)
        if freed:
            return freed.pop()
        align = 1 << (size - 1).bit_length()
        start = (self._top - size) // align * align
        if start < _FIRST_PAGE:
            raise SyscallError("iommu", f"{pages} pages", "find no room in the device's address space", errno.ENOMEM)
        self._top = start
        return start

    def free(self, start: int, pages: int) -> None:
        """Take `pages` pages at `start` back for a request of the same size."""
        self._freed.setdefault(self._size(pages), []).append(start)

    @staticmethod
    def _size(pages: int) -> int:
        return 1 << (pages - 1).bit_length() if pages < _RCACHE_PAGES else pages
