"""Entries of a page table become pages that may be taken: rights first, then faults, then copies (mm/gup.c, 6.18)."""

import errno
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.cow import copy_page, do_wp_page
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.frames.folio import Group
from labkit.kernel.mm.frames.folios import Folios
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PRESENT, PAGE_RW, PAGE_SPECIAL, PAGE_USER
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_IO, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED, VMA
from labkit.scatter.payload import FEW, Ranges
from labkit.scatter.range_array import RangeArray
from labkit.trace.page_flags import PG_anon, PG_anon_exclusive
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PUD_ORDER, TASK_SIZE_MAX

FOLL_WRITE, FOLL_GET, FOLL_DUMP, FOLL_FORCE = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FOLL_NOWAIT, FOLL_NOFAULT, FOLL_HWPOISON, FOLL_ANON = 1 << 4, 1 << 5, 1 << 6, 1 << 7
FOLL_LONGTERM, FOLL_SPLIT_PMD, FOLL_PCI_P2PDMA = 1 << 8, 1 << 9, 1 << 10
FOLL_INTERRUPTIBLE, FOLL_HONOR_NUMA_FAULT = 1 << 11, 1 << 12
FOLL_TOUCH, FOLL_TRIED, FOLL_REMOTE, FOLL_PIN = 1 << 16, 1 << 17, 1 << 18, 1 << 19
FOLL_FAST_ONLY, FOLL_UNLOCKABLE, FOLL_MADV_POPULATE = 1 << 20, 1 << 21, 1 << 22
"""What a caller asks of get_user_pages (MM-2); those from 16 on are internal."""
_OUTSIDE = (1 << 13) - 1
TIGHT_LOOP = 32
"""Pages up to which a plain loop beats numpy."""
_ORDERS = (*range(MAX_PAGE_ORDER + 1), PUD_ORDER)


class Stretch(NamedTuple):
    """Entries [first, last) of one mapping that can be taken."""

    vma: VMA
    first: int
    last: int


class Reached(NamedTuple):
    """How far faulting came: entries up to `last`, `faults` of them missed, and what ended it, if anything did."""

    last: int
    faults: int
    error: SyscallError | None


def is_valid_gup_args(flags: int) -> bool:
    """Return whether `flags` go together, FOLL_PIN or FOLL_GET among them (MM-3)."""
    if flags & ~(_OUTSIDE | FOLL_PIN) or (flags & FOLL_PIN and flags & FOLL_GET):
        return False
    if flags & FOLL_LONGTERM and not flags & FOLL_PIN:
        return False
    return not (flags & FOLL_LONGTERM and flags & FOLL_PCI_P2PDMA)


def gup_range(start: int, nbytes: int, flags: int) -> int:
    """Return where [start, start + nbytes) ends.

    Raises SyscallError EINVAL for flags that do not go together and for less than a byte, EOVERFLOW, EFAULT (MM-3,
    MM-6).
    """
    if not is_valid_gup_args(flags):
        raise SyscallError("gup", f"flags={flags:#x}", "do not go together (MM-3)", errno.EINVAL)
    if nbytes < 1:
        raise SyscallError("gup", f"addr={start:#x}+{nbytes}", "is less than a byte", errno.EINVAL)
    end = start + nbytes
    if end > (1 << 64) - 1:
        raise SyscallError("gup", f"addr={start:#x}+{nbytes}", "ends beyond 64 bits (MM-6)", errno.EOVERFLOW)
    if end > TASK_SIZE_MAX:
        raise SyscallError("gup", f"addr={start:#x}+{nbytes}", "ends beyond user space (MM-6)", errno.EFAULT)
    return end


def check_vma_flags(vma: VMA | None, addr: int, flags: int) -> SyscallError | None:
    """Return why a page of `vma` at `addr` may not be taken, or None: the first reason in the kernel's order.

    A protection key of the architecture, the last of its tests, is not modelled.
    """
    if vma is None:
        return _no(addr, "is not mapped (MM-4)", errno.EFAULT)
    if vma.flags & (VM_IO | VM_PFNMAP):
        return _no(addr, f"lies in {vma.name}, memory of a device without struct pages (MISS-3)", errno.EFAULT)
    return check_rights(vma, addr, flags)


def check_rights(  # noqa: PLR0911 - one return for each test, in the kernel's order
    vma: VMA, addr: int, flags: int
) -> SyscallError | None:
    """Return the same without the first test, which asks for struct pages."""
    kind, anon = vma.ops.kind, vma.ops.kind == "anon"
    if flags & FOLL_ANON and not anon:
        return _no(addr, "is not anonymous memory (FOLL_ANON)", errno.EFAULT)
    if flags & FOLL_LONGTERM and kind == "fsdax":
        return _no(addr, "is storage: no pin for the long term (MM-27)", errno.EOPNOTSUPP)
    if flags & FOLL_SPLIT_PMD and vma.flags & VM_HUGETLB:
        return _no(addr, "is a hugetlb page, which is not split (FOLL_SPLIT_PMD)", errno.EOPNOTSUPP)
    if kind == "secretmem":
        return _no(addr, "lies in secret memory, which the kernel itself may not touch", errno.EFAULT)
    write, forced = flags & FOLL_WRITE, flags & FOLL_FORCE
    if write and flags & FOLL_LONGTERM and kind == "file" and vma.flags & VM_SHARED:
        return _no(addr, "belongs to a file that tracks what is dirty: no pin for the long term", errno.EFAULT)
    if ("w" if write else "r") in vma.prot or (forced and (vma.cow or not write)):
        return None
    what = "write to" if write else "read from"
    return _no(addr, f"lies in {vma.prot} memory: no right to {what} it", errno.EFAULT)


def need_of(flags: int) -> int:
    """Return the bits that an entry must have; FOLL_FORCE does without the right to write."""
    return PAGE_PRESENT | PAGE_USER | (PAGE_RW if flags & (FOLL_WRITE | FOLL_FORCE) == FOLL_WRITE else 0)


def ready_until(mm: Mm, vma: VMA, first: int, last: int, flags: int, *, fast: bool = False) -> int:
    """Return the first entry of [first, last) that cannot be taken as it is, or `last`.

    It is not present, lacks a right, or must be unshared first (MM-18); `fast`: or it is special (MM-8).
    """
    need = need_of(flags)
    stop = first_unlike(vma.table, first, last, need | (PAGE_SPECIAL if fast else 0), need)
    if need & PAGE_RW or not vma.cow:
        return stop  # what may be written is nobody else's
    at = first_unlike(vma.table, first, stop, PAGE_RW, PAGE_RW)
    return _first_shared(mm, vma, at, stop, own=bool(flags & (FOLL_LONGTERM | FOLL_FORCE))) if at < stop else stop


def faultin(mm: Mm, vma: VMA, first: int, last: int, flags: int) -> Reached:
    """Make entries [first, last) ready to be taken, as far as it goes (MM-11).

    FOLL_NOFAULT ends with EFAULT, FOLL_NOWAIT with EAGAIN, where an entry is not ready; else what a fault says.
    """
    at, faults, step = ready_until(mm, vma, first, last, flags), 0, last
    while at < last:
        if flags & (FOLL_NOFAULT | FOLL_NOWAIT):
            return Reached(at, faults, _not_now(vma, at, flags))
        before, was = vma.table.word(at), at
        try:
            faults += _fault(mm, vma, at, min(at + step, last), flags)
        except SyscallError as bad:
            if step == 1:
                return Reached(at, faults, bad)
            step, was = 1, -1  # page by page now, to find the first that fails
        at = ready_until(mm, vma, at, last, flags)
        if at == was and vma.table.word(at) == before:
            return Reached(at, faults, _no(vma.start + at * PAGE_SIZE, "is not there after a fault", errno.EFAULT))
    return Reached(last, faults, None)


def follow_error(mm: Mm, vma: VMA, first: int, last: int, flags: int) -> tuple[int, SyscallError | None]:
    """Return the first entry of [first, last), all present, that the slow way refuses, and why; or (`last`, None).

    ZONE_DEVICE kinds (MM-27): P2PDMA wants FOLL_PCI_P2PDMA (MM-12); coherent memory leaves the device first for a pin
    for the long term; private memory left it in the fault; fsdax and generic are as RAM. A special entry has no page
    (MM-11), unless it is the zero page.
    """
    if vma.ops.kind == "p2pdma" and not flags & FOLL_PCI_P2PDMA and first < last:
        rule = "is memory of a PCI device, for IO among devices alone (MM-12)"
        return first, _no(vma.start + (first << PAGE_SHIFT), rule, errno.EREMOTEIO)
    if vma.ops.kind == "device-coherent" and flags & FOLL_LONGTERM:
        for at in range(first, last):
            copy_page(mm, vma, at)
    if not vma.flags & (VM_MIXEDMAP | VM_PFNMAP | VM_IO):
        return last, None
    stop = first_unlike(vma.table, first, last, PAGE_SPECIAL, 0)
    why = _no(vma.start + (stop << PAGE_SHIFT), "has no struct page (MM-11)", errno.EEXIST) if stop < last else None
    return stop, why


def first_unlike(table: PageTable, first: int, last: int, mask: int, like: int) -> int:
    """Return the first entry in [first, last) whose bits under `mask` are not `like`, or `last`."""
    for lo, hi, leaf in table.pieces(first, last):
        if leaf is not None:
            at = hi if leaf.word & mask == like else lo
        elif not table.ptes:
            at = lo if like else hi
        elif hi - lo <= TIGHT_LOOP:
            ptes = table.ptes
            at = next((i for i in range(lo, hi) if ptes[i] & mask != like), hi)
        else:
            bad = (words(table, lo, hi) & np.uint64(mask)) != np.uint64(like)
            at = lo + int(bad.argmax()) if bad.any() else hi
        if at < hi:
            return at
    return last


def words(table: PageTable, first: int, last: int) -> NDArray[np.uint64]:
    """Return PTEs [first, last) as numbers, without a copy."""
    return np.frombuffer(table.ptes, np.uint64)[first:last]


def taken_leaves(table: PageTable, first: int, last: int) -> int:
    """Return how many entries map [first, last): PTEs, and the leaves that it touches, whole or not."""
    count = 0
    for lo, hi, leaf in table.pieces(first, last):
        if leaf is None:
            count += hi - lo
        else:
            count += (hi - 1 - leaf.first >> leaf.order) - (lo - leaf.first >> leaf.order) + 1
    return count


def table_runs(table: PageTable, first: int, last: int) -> Ranges:
    """Return the physical runs that [first, last) maps, all present: a tuple of few, columns of many."""
    if last - first <= TIGHT_LOOP:
        return tuple(table.few_runs(first, last))
    addrs, lens = table.runs(first, last)
    if len(addrs) > FEW:
        return RangeArray(addrs, lens)
    return tuple(zip(addrs.tolist(), lens.tolist(), strict=True))


def zero_pages(vma: VMA, first: int, last: int) -> int:
    """Return how many entries of [first, last) map the zero page: special ones, where no others are."""
    if not vma.table.ptes or vma.flags & (VM_MIXEDMAP | VM_PFNMAP | VM_IO):
        return 0
    return sum(
        int(np.count_nonzero(words(vma.table, lo, hi) & np.uint64(PAGE_SPECIAL)))
        for lo, hi, leaf in vma.table.pieces(first, last)
        if leaf is None
    )


def group_of(folios: Folios, pfn: int) -> Group | None:
    """Return the folios that `pfn` is in, as they are kept: looking does not take one out of its batch."""
    for order in _ORDERS:
        folio = folios.by_head.get(pfn >> order << order)
        if folio is not None and folio.order >= order:
            return folio
    return next((batch for batch in folios.batches if batch.find(pfn) >= 0), None)


def _fault(mm: Mm, vma: VMA, at: int, last: int, flags: int) -> int:
    """Take the faults that page `at` and those after it need; return how many."""
    need = need_of(flags)
    if vma.table.word(at) & need == need:
        do_wp_page(mm, vma, at, unshare=True)
        return 1
    missing = sum(hi - lo for lo, hi in vma.table.gaps(at, last))
    came = handle_mm_fault(mm, vma, at, last, write=bool(need & PAGE_RW))
    return came or max(missing, 1)


def _first_shared(mm: Mm, vma: VMA, first: int, last: int, *, own: bool) -> int:
    """Return the first page of [first, last) that a read pin must have copied before (gup_must_unshare, MM-18).

    That is an anonymous page which is not this mapping's alone; `own`: also the zero page, and a page of a file.
    """
    table = vma.table
    if last - first > TIGHT_LOOP and not own and not any(map(_shared, _groups(mm.folios))):
        return last
    for at in range(first, last):
        word = table.word(at)
        if word & PAGE_RW:
            continue
        group = None if word & PAGE_SPECIAL else group_of(mm.folios, (word & ADDR_MASK) >> PAGE_SHIFT)
        if _shared(group) if group is not None and group.flags & PG_anon else own:
            return at
    return last


def _groups(folios: Folios) -> tuple[Group, ...]:
    return (*folios.batches, *folios.by_head.values())


def _shared(group: Group) -> bool:
    return group.flags & (PG_anon | PG_anon_exclusive) == PG_anon


def _no(addr: int, rule: str, code: int) -> SyscallError:
    return SyscallError("gup", f"addr={addr:#x}", rule, code)


def _not_now(vma: VMA, at: int, flags: int) -> SyscallError:
    addr = vma.start + at * PAGE_SIZE
    if flags & FOLL_NOFAULT:
        return _no(addr, "needs a fault, and none may be taken (FOLL_NOFAULT)", errno.EFAULT)
    return _no(addr, "needs a fault, and nobody may wait for one (FOLL_NOWAIT)", errno.EAGAIN)
