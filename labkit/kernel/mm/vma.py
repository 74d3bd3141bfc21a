"""An address space: mappings in order, each with its rights, its folio size and its page table."""

import errno
from bisect import bisect_right
from dataclasses import dataclass

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.page_table import PAGE_PRESENT, PAGE_PSE, PAGE_RW, PAGE_USER, PageTable
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, UserAddr, human_bytes

_MMAP_BASE = 0x7F00_0000_0000
_ROOM = 1 << 40
"""Each task maps within a terabyte that is its own, so that an address in a trace is of one task alone."""
_ALIGN = 2 << 20
"""Mappings begin on 2 MiB, so that a PMD leaf fits."""


@dataclass(slots=True, eq=False)
class VMA:
    """User addresses [start, end) with rights `prot` ('rw-'); faults bring folios of `order`."""

    start: int
    end: int
    prot: str
    name: str
    order: int
    table: PageTable

    @property
    def pte_flags(self) -> int:
        """The bits that this mapping's entries carry (PT-2)."""
        leaf = PAGE_PSE if self.order >= PMD_ORDER else 0
        return PAGE_PRESENT | PAGE_USER | leaf | (PAGE_RW if "w" in self.prot else 0)


class MmStruct:
    """The mappings of one task (struct mm_struct)."""

    def __init__(self, task: int = 0) -> None:
        """Begin empty; `task` counts from 0 the tasks of the machine."""
        self.vmas: list[VMA] = []
        self._starts: list[int] = []
        self._next = _MMAP_BASE - 2 * task * _ROOM
        self._end = self._next + _ROOM

    def mmap(self, nbytes: int, prot: str, name: str, order: int) -> VMA:
        """Map `nbytes`, rounded up to whole folios of 2**`order` pages, at an address of its own.

        Raises BadInput for a length below 1, SyscallError ENOMEM where the address space ends.
        """
        if nbytes < 1:
            raise BadInput("mmap", f"length={nbytes}", "is not a positive number of bytes", errno.EINVAL)
        unit = PAGE_SIZE << order
        start, end = self._next, self._next + -(-nbytes // unit) * unit
        if end >= self._end:
            raise SyscallError("mmap", human_bytes(nbytes), "does not fit into the address space", errno.ENOMEM)
        self._next = -(-(end + PAGE_SIZE) // _ALIGN) * _ALIGN
        vma = VMA(start, end, prot, name, order, PageTable((end - start) >> PAGE_SHIFT))
        self.vmas.append(vma)  # addresses only grow, so both lists stay in order
        self._starts.append(start)
        return vma

    def find_vma(self, addr: int) -> VMA | None:
        """Return the mapping that holds `addr`, or None."""
        i = bisect_right(self._starts, addr)
        return self.vmas[i - 1] if i and addr < self.vmas[i - 1].end else None

    def remove(self, addr: UserAddr) -> VMA:
        """Take the mapping that begins at `addr` out. Raises SyscallError EINVAL where none does."""
        vma = self.find_vma(addr)
        if vma is None or vma.start != addr:
            raise SyscallError("munmap", f"addr={addr:#x}", "is not the start of a mapping", errno.EINVAL)
        self.vmas.remove(vma)
        self._starts.remove(addr)
        return vma
