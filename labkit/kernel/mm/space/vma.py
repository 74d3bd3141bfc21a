"""An address space: mappings in order, each with its rights, its flags, what is behind it, and its page table."""

import errno
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import PAGE_PRESENT, PAGE_RW, PAGE_USER
from labkit.units import PAGE_SHIFT, PAGE_SIZE, TASK_SIZE_MAX, UserAddr, human_bytes

_MMAP_BASE = 0x7F00_0000_0000
_ROOM = 1 << 40
"""Each task maps within a terabyte that is its own, so that an address in a picture is of one program alone."""
_ALIGN = 2 << 20
"""Mappings begin on 2 MiB, so that a PMD leaf fits."""

VM_SHARED, VM_PFNMAP, VM_IO, VM_HUGETLB, VM_MIXEDMAP = 0x8, 0x400, 0x4000, 0x400000, 0x10000000
VM_NORESERVE = 0x200000
"""Flags of a mapping, as include/linux/mm.h has them. NORESERVE: no huge pages are promised to it."""


class VmOps(Protocol):
    """What is behind a mapping: it brings pages when they are missed (struct vm_operations_struct)."""

    kind: str
    """What it is, in a word: anon, file, memfd, gpu, ..."""
    flags: int
    """VM_* that its mappings have."""

    def fault(self, mm: Any, vma: "VMA", first: int, last: int, *, write: bool) -> int:
        """Map entries [first, last), none of which is present, or more around them; return how many folios came.

        Raises SyscallError: EFAULT (what SIGBUS is to a system call), ENOMEM; what came before stays mapped.
        """


@dataclass(slots=True, eq=False)
class VMA:
    """User addresses [start, end) with rights `prot` ('rw-'); faults bring folios of `order` from `ops`."""

    start: int
    end: int
    prot: str
    name: str
    order: int
    table: PageTable
    ops: VmOps
    flags: int = 0
    pgoff: int = 0
    """Where in what is behind it the mapping begins, in pages."""

    @property
    def pte_flags(self) -> int:
        """The bits that this mapping's entries carry when they may be written as the mapping says (PT-2)."""
        return PAGE_PRESENT | PAGE_USER | (PAGE_RW if "w" in self.prot else 0)

    @property
    def pages(self) -> int:
        """Pages of the mapping."""
        return (self.end - self.start) >> PAGE_SHIFT

    @property
    def cow(self) -> bool:
        """Whether a write makes a copy of its own (a private mapping)."""
        return not self.flags & VM_SHARED

    @property
    def may_write(self) -> bool:
        """Whether mprotect may let it be written (VM_MAYWRITE): not where a write would reach what is read-only."""
        return self.cow or bool(getattr(self.ops, "writable", True))

    def page(self, addr: int) -> int:
        """Return which page of the mapping holds `addr`."""
        return (addr - self.start) >> PAGE_SHIFT


class VmaTree:
    """The mappings of one task, by address (mm_mt of struct mm_struct)."""

    def __init__(self, task: int = 0) -> None:
        """Begin empty; `task` counts from 0 the tasks of the machine."""
        self.vmas: list[VMA] = []
        self._starts: list[int] = []
        self._next = _MMAP_BASE - 2 * task * _ROOM
        self._end = self._next + _ROOM

    def place(self, nbytes: int, unit: int, addr: int | None = None) -> tuple[int, int]:
        """Return [start, end) for a new mapping of `nbytes`, rounded up to `unit`: at `addr`, or where there is room.

        Raises BadInput EINVAL for a length below 1 or an address that is no multiple of a page, SyscallError EEXIST
        where something is mapped already (MAP_FIXED_NOREPLACE), ENOMEM where the address space ends.
        """
        if nbytes < 1:
            raise BadInput("mmap", f"length={nbytes}", "is not a positive number of bytes", errno.EINVAL)
        if addr is not None and addr % PAGE_SIZE:
            raise BadInput("mmap", f"addr={addr:#x}", f"is not a multiple of {PAGE_SIZE}", errno.EINVAL)
        length = -(-nbytes // unit) * unit
        start = -(-self._next // unit) * unit if addr is None else addr
        end, limit = start + length, self._end if addr is None else TASK_SIZE_MAX + 1
        if end >= limit:
            raise SyscallError("mmap", human_bytes(nbytes), "does not fit into the address space", errno.ENOMEM)
        if addr is None:
            self._next = -(-(end + PAGE_SIZE) // _ALIGN) * _ALIGN
        elif any(True for _ in self.within(start, end)):
            raise SyscallError("mmap", f"addr={addr:#x}+{length}", "is mapped already", errno.EEXIST)
        return start, end

    def insert(self, vma: VMA) -> VMA:
        """Put `vma` in its place; it overlaps no other."""
        i = bisect_right(self._starts, vma.start)
        self.vmas.insert(i, vma)
        self._starts.insert(i, vma.start)
        return vma

    def find_vma(self, addr: int) -> VMA | None:
        """Return the mapping that holds `addr`, or None."""
        i = bisect_right(self._starts, addr)
        return self.vmas[i - 1] if i and addr < self.vmas[i - 1].end else None

    def within(self, start: int, end: int) -> Iterator[VMA]:
        """Yield the mappings that have a byte in [start, end), by address."""
        i = max(0, bisect_right(self._starts, start) - 1)
        for vma in self.vmas[i:]:
            if vma.start >= end:
                return
            if vma.end > start:
                yield vma

    def split(self, addr: int) -> None:
        """Make a mapping that `addr` lies inside of two, one up to it and one from it on (split_vma)."""
        vma = self.find_vma(addr)
        if vma is None or vma.start == addr:
            return
        left, right = vma.table.halves(vma.page(addr))
        pgoff = vma.pgoff + vma.page(addr)
        other = VMA(addr, vma.end, vma.prot, vma.name, vma.order, right, vma.ops, vma.flags, pgoff)
        vma.end, vma.table = addr, left
        self.insert(other)

    def remove(self, vma: VMA) -> None:
        """Take `vma` out."""
        i = self.vmas.index(vma)
        del self.vmas[i], self._starts[i]

    def adopt(self, other: "VmaTree") -> None:
        """Place further mappings where `other`, whose copy this is, would."""
        self._next, self._end = other._next, other._end  # noqa: SLF001 - its own kind


def page_range(call: str, addr: int, nbytes: int) -> tuple[int, int]:
    """Return [addr, end) in whole pages. Raises BadInput EINVAL for what no such call takes."""
    if addr % PAGE_SIZE:
        raise BadInput(call, f"addr={addr:#x}", f"is not a multiple of {PAGE_SIZE}", errno.EINVAL)
    end = addr + -(-nbytes // PAGE_SIZE) * PAGE_SIZE
    if nbytes < 0 or addr < 0 or end > TASK_SIZE_MAX + 1:
        raise BadInput(call, f"addr={addr:#x}+{nbytes}", "is no range of user addresses", errno.EINVAL)
    return UserAddr(addr), UserAddr(end)
