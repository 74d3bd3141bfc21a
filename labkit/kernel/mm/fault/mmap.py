"""System calls of memory: mappings come, change and go."""

import errno

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.fault.anon import ANON_OPS
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import PAGE_RW
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_IO, VM_PFNMAP, VM_SHARED, VMA, VmOps, page_range
from labkit.units import PAGE_SHIFT, PAGE_SIZE, UserAddr

MADV_NORMAL, MADV_WILLNEED, MADV_DONTNEED = 0, 3, 4
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
"""Advice that does something here (uapi/asm-generic/mman-common.h)."""
_PROTS = frozenset("".join(bits) for bits in (f"{r}{w}{x}" for r in "r-" for w in "w-" for x in "x-"))


def do_mmap(
    mm: Mm, nbytes: int, prot: str = "rw-", name: str = "anon", order: int = 0, *, ops: VmOps = ANON_OPS,
    flags: int = 0, pgoff: int = 0, addr: int | None = None,
) -> UserAddr:  # fmt: skip
    """Map `nbytes` of what `ops` has, in folios of 2**`order` pages where it makes them itself; return the address.

    Nothing is allocated before it is touched. The length is rounded up to whole folios. Raises BadInput EINVAL for a
    length or rights that make no sense, SyscallError EEXIST for an `addr` that is taken, ENOMEM without room.
    """
    if prot not in _PROTS:
        raise BadInput("mmap", f"prot={prot!r}", "is not three of r, w, x, each or -", errno.EINVAL)
    unit = PAGE_SIZE << order
    start, end = mm.space.place(nbytes, unit, addr)
    table = PageTable((end - start) >> PAGE_SHIFT)
    vma = mm.space.insert(VMA(start, end, prot, name, order, table, ops, flags | ops.flags, pgoff))
    mm.emit("Mmap", start, end - start, prot, name, mm.task, ops.kind)
    if vma.flags & (VM_PFNMAP | VM_IO):
        try:
            ops.fault(mm, vma, 0, vma.pages, write="w" in prot)  # remap_pfn_range: all of it, at once
        except SyscallError:
            do_munmap(mm, start, end - start)
            raise
    return UserAddr(start)


def do_munmap(mm: Mm, addr: int, nbytes: int) -> None:
    """Unmap [addr, addr + nbytes), in whole pages; a folio that is pinned stays until it is let go of.

    What is not mapped is passed over. Raises BadInput EINVAL for an address inside a page, a length below 1, or half
    a hugetlb page.
    """
    if nbytes < 1:
        raise BadInput("munmap", f"length={nbytes}", "is not a positive number of bytes", errno.EINVAL)
    start, end = page_range("munmap", addr, nbytes)
    _whole_hugetlb(mm, "munmap", start, end)
    for vma in _cut_out(mm, start, end):
        mm.unmap(vma)


def do_mprotect(mm: Mm, addr: int, nbytes: int, prot: str) -> None:
    """Give [addr, addr + nbytes) the rights `prot`. What is refused changes nothing.

    Raises BadInput EINVAL for what are no rights, no range, or half a hugetlb page; SyscallError ENOMEM where something
    of it is not mapped, EACCES for writing where nobody may ever write (VM_MAYWRITE).
    """
    if prot not in _PROTS:
        raise BadInput("mprotect", f"prot={prot!r}", "is not three of r, w, x, each or -", errno.EINVAL)
    start, end = page_range("mprotect", addr, nbytes)
    _all_mapped(mm, "mprotect", start, end)
    _whole_hugetlb(mm, "mprotect", start, end)
    fixed = next((vma for vma in mm.space.within(start, end) if not vma.may_write), None)
    if "w" in prot and fixed is not None:
        raise SyscallError("mprotect", fixed.name, "may never be written by this mapping", errno.EACCES)
    for vma in _cut_out(mm, start, end):
        vma.prot = prot
        if "w" in prot and vma.flags & VM_SHARED and not getattr(vma.ops, "backed", False):  # a device's: at the store
            vma.table.change(0, vma.pages, put=PAGE_RW)
        elif "w" not in prot:
            vma.table.change(0, vma.pages, take=PAGE_RW)
        mm.emit("Mprotect", vma.start, vma.end - vma.start, prot, mm.task)


def do_madvise(mm: Mm, addr: int, nbytes: int, advice: int) -> None:
    """Take `advice` for [addr, addr + nbytes): DONTNEED empties it, POPULATE_* faults it in, others change nothing.

    Raises SyscallError ENOMEM where something of it is not mapped, EINVAL for DONTNEED on device memory and for
    POPULATE_* where GUP refuses the mapping (faultin_page_range); EFAULT and ENOMEM as a fault does.
    """
    start, end = page_range("madvise", addr, nbytes)
    if advice not in {MADV_NORMAL, MADV_WILLNEED, MADV_DONTNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE}:
        raise BadInput("madvise", f"advice={advice}", "is not known", errno.EINVAL)
    _all_mapped(mm, "madvise", start, end)
    for vma in tuple(mm.space.within(start, end)):
        first, last = vma.page(max(start, vma.start)), vma.page(min(end, vma.end))
        if advice == MADV_DONTNEED:
            if vma.flags & VM_PFNMAP:
                raise SyscallError("madvise", vma.name, "is memory of a device, and stays", errno.EINVAL)
            mm.zap(vma, first, last)
        elif advice in {MADV_POPULATE_READ, MADV_POPULATE_WRITE}:
            _faultin_page_range(mm, vma, first, last, write=advice == MADV_POPULATE_WRITE)


def mm_populate(mm: Mm, addr: int, nbytes: int) -> None:
    """Fault in what was just mapped, writable where it may be (MAP_POPULATE); errors are kept quiet, as upstream."""
    vma = mm.space.find_vma(addr)
    if vma is not None:
        try:
            handle_mm_fault(
                mm, vma, vma.page(addr), -(-(addr + nbytes - vma.start) // PAGE_SIZE), write="w" in vma.prot
            )
        except SyscallError:
            return


def _faultin_page_range(mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> None:
    """Fault in pages [first, last). Raises SyscallError EINVAL where check_vma_flags says EFAULT; else as a fault."""
    if vma.flags & (VM_PFNMAP | VM_IO) or vma.ops.kind == "secretmem" or ("w" if write else "r") not in vma.prot:
        rule = f"is not memory that can be made ready to be {'written' if write else 'read'}"
        raise SyscallError("madvise", vma.name, rule, errno.EINVAL)
    handle_mm_fault(mm, vma, first, last, write=write)


def _cut_out(mm: Mm, start: int, end: int) -> tuple[VMA, ...]:
    """Return the mappings in [start, end), cut so that none reaches beyond it."""
    for edge in (start, end):
        vma = mm.space.find_vma(edge)
        if vma is not None and vma.start < edge:
            mm.split_across(vma, vma.page(edge))
            mm.space.split(edge)
    return tuple(mm.space.within(start, end))


def _all_mapped(mm: Mm, call: str, start: int, end: int) -> None:
    at = start
    for vma in mm.space.within(start, end):
        if vma.start > at:
            break
        at = vma.end
    if at < end:
        raise SyscallError(call, f"addr={at:#x}", "is not mapped", errno.ENOMEM)


def _whole_hugetlb(mm: Mm, call: str, start: int, end: int) -> None:
    for vma in mm.space.within(start, end):
        size = PAGE_SIZE << vma.order
        lo, hi = max(start, vma.start) - vma.start, min(end, vma.end) - vma.start
        if vma.flags & VM_HUGETLB and (lo % size or hi % size):
            raise BadInput(call, f"addr={start:#x}+{end - start}", "cuts a hugetlb page in two", errno.EINVAL)
