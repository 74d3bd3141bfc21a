"""fork: an address space becomes two, which share their pages until one of them writes."""

import errno

import numpy as np

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.cow import copy_page
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_RW
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_NORESERVE, VM_PFNMAP, VMA
from labkit.scatter.payload import Range, Ranges
from labkit.trace.page_flags import PG_anon_exclusive
from labkit.units import PAGE_SHIFT


def dup_mmap(parent: Mm, child: Mm) -> int:
    """Give `child`, which is empty, all that `parent` has mapped; return how many pages were copied at once.

    Private pages become read-only in both and are no longer exclusive, except those that look pinned: of these the
    child gets a copy now, and the parent keeps its page as it is (MM-19, invariant 10); a hugetlb page is copied whole,
    and counts as one. Raises SyscallError ENOMEM where a copy finds no frame, or no huge page that is promised to
    nobody; the child is empty again then.
    """
    child.space.adopt(parent.space)
    parent.emit("DupMmap", parent.task, child.task)
    pairs = [(vma, child.space.insert(_twin(vma))) for vma in parent.space.vmas]
    for vma, twin in pairs:
        if (i_mmap := getattr(vma.ops, "i_mmap", None)) is not None:
            i_mmap[child.task] = child  # whoever cuts the file unmaps it here too (vma_interval_tree_insert_after)
        for first, last, order in vma.table.present(0, vma.pages):
            runs = vma.table.ranges(first, last)
            parent.frames.map([(group, pages >> (order or 0)) for group, pages in parent.folios.groups(runs)])
            twin.table.copy_from(vma.table, first, last)
    try:
        return sum(_share(parent, child, vma, twin) for vma, twin in pairs if vma.cow and not vma.flags & VM_PFNMAP)
    except SyscallError as bad:
        exit_mmap(child)
        raise SyscallError(
            "fork", f"task {parent.task}", f"is not copied: {bad.what} {bad.rule}", errno.ENOMEM
        ) from bad


def exit_mmap(mm: Mm) -> None:
    """Unmap everything: what the end of a task does to its memory."""
    for vma in tuple(mm.space.vmas):
        mm.unmap(vma)


def _twin(vma: VMA) -> VMA:
    table = type(vma.table)(vma.pages)
    flags = vma.flags | (VM_NORESERVE if vma.flags & VM_HUGETLB else 0)
    return VMA(vma.start, vma.end, vma.prot, vma.name, vma.order, table, vma.ops, flags, vma.pgoff)


def _share(parent: Mm, child: Mm, vma: VMA, twin: VMA) -> int:
    """Make what is private read-only on both sides, but for what looks pinned; return how many copies were made."""
    copied = 0
    for first, last, _ in vma.table.present(0, vma.pages):
        held = _clear_exclusive(parent, vma.table.ranges(first, last))
        twin.table.change(first, last, take=PAGE_RW)
        own = _pages_of(vma, first, last, held)
        huge = bool(vma.flags & VM_HUGETLB)
        for at in () if huge else own:
            parent.split_leaf(vma, at)
            child.split_leaf(twin, at)
        vma.table.change_but(first, last, own, take=PAGE_RW)
        copied += sum(_copy(child, twin, at) for at in (own[:: 1 << vma.order] if huge else own))
    return copied


def _copy(child: Mm, twin: VMA, at: int) -> int:
    """Give `child` a copy of its own of the entry at page `at`; return 1. Raises SyscallError ENOMEM, EFAULT."""
    if twin.flags & VM_HUGETLB:
        return int(twin.ops.hugetlb_wp(child, twin, at))  # type: ignore[attr-defined] # no other mapping has the flag
    return copy_page(child, twin, at)


def _clear_exclusive(mm: Mm, runs: Ranges) -> list[Range]:
    """Make the exclusive folios of `runs` shared, but for those that look pinned, which are returned (MM-19)."""
    held: list[Range] = []
    for group, _ in list(mm.folios.groups(runs)):
        for part, pinned in mm.frames.parts(group, pinned=True) if group.flags & PG_anon_exclusive else ():
            if pinned and mm.has_pinned:
                held.extend(part.runs)
            else:
                part.flags &= ~PG_anon_exclusive
                mm.emit("FolioFlags", part.runs, 0, PG_anon_exclusive)
    return held


def _pages_of(vma: VMA, first: int, last: int, held: list[Range]) -> list[int]:
    """Return which pages of [first, last) map memory in `held`."""
    if not held:
        return []
    pfns = np.concatenate([np.arange(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT) for a, n in vma.table.ranges(first, last)])
    kept = np.concatenate([np.arange(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT) for a, n in held])
    return [first + int(i) for i in np.flatnonzero(np.isin(pfns, kept))]
