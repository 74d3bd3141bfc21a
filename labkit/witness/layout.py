"""The buffer of a capture: which physical page was behind each user page, and which folio that page is of."""

import errno
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labkit.errors import BadInput, SyscallError
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_LOW = PAGE_SIZE - 1
PCI_HOLE = (3 << 30, 4 << 30)
"""Where an emulated machine of this kind has its BARs, in bytes."""


class Got(NamedTuple):
    """Pages that were found: physical (address, bytes), and how many."""

    runs: tuple[Range, ...]
    nr: int


class NoPins:
    """The ledger of memory in which nothing is ever pinned."""

    held: frozenset[int] = frozenset()


class Layout:
    """User pages to physical pages, and large folios. It stands in for mm where there is only a record of it."""

    def __init__(
        self, rows: Iterable[Sequence[int]], folios: Iterable[Sequence[int]] = (), *, bars: bool = False
    ) -> None:
        """Take rows (user address, first PFN or -1, pages), and folios (first PFN, pages).

        `bars`: pages between 3 and 4 GiB are a device's. Raises BadInput EINVAL for rows that overlap.
        """
        self.rows = sorted((int(va), int(pfn) << PAGE_SHIFT, int(n)) for va, pfn, n in rows if pfn >= 0 and n > 0)
        self._starts = [va for va, _, _ in self.rows]
        for (va, _, n), following in zip(self.rows, self._starts[1:], strict=False):
            if va + (n << PAGE_SHIFT) > following:
                raise BadInput("capture", f"layout at {following:#x}", "has two pages at one address", errno.EINVAL)
        self._folios = sorted((int(pfn) << PAGE_SHIFT, int(n) << PAGE_SHIFT) for pfn, n in folios)
        self._heads = [head for head, _ in self._folios]
        self.bars = bars
        """Whether a device's memory may be among them."""
        self.task, self.ledger = 0, NoPins()

    def extract(self, addr: int, want: int) -> Got:
        """Return up to `want` pages from the page of user address `addr` on, as pinning would. Raises EFAULT."""
        at = addr & ~_LOW
        i = bisect_right(self._starts, at) - 1
        runs: list[Range] = []
        nr = 0
        while nr < want and 0 <= i < len(self.rows):
            va, pa, n = self.rows[i]
            skip = at - va
            left = (n << PAGE_SHIFT) - skip
            if skip < 0 or left <= 0:
                break
            take = min(left, (want - nr) << PAGE_SHIFT)
            runs.append((pa + skip, take))
            at, nr, i = at + take, nr + (take >> PAGE_SHIFT), i + 1
        if not nr:
            raise SyscallError("gup", f"addr={addr:#x}", "is not mapped (MM-4)", errno.EFAULT)
        return Got(tuple(runs), nr)

    def reachable(self, pieces: Iterable[Range]) -> int:
        """Return how many bytes of `pieces` come before the first page that is not there."""
        done = 0
        for addr, length in pieces:
            at = addr
            while at < addr + length:
                try:
                    got = self.extract(at, -(-((at & _LOW) + addr + length - at) // PAGE_SIZE))
                except SyscallError:
                    return done
                came = min(addr + length - at, got.nr * PAGE_SIZE - (at & _LOW))
                at, done = at + came, done + came
        return done

    def folio(self, addr: int) -> Range:
        """Return (address, bytes) of the folio that holds physical `addr`: of one page, where nothing else is told."""
        i = bisect_right(self._heads, addr) - 1
        if i >= 0 and addr < sum(self._folios[i]):
            return self._folios[i]
        return addr & ~_LOW, PAGE_SIZE

    def folio_end(self, addr: int) -> int:
        """Return where the folio that holds physical `addr` ends."""
        return sum(self.folio(addr))

    def is_bar(self, addr: int) -> bool:
        """Return whether physical `addr` is a device's memory."""
        return self.bars and PCI_HOLE[0] <= addr < PCI_HOLE[1]
