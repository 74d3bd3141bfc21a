"""Anonymous memory: a fault brings fresh folios, whole folios at a time, or the zero page."""

from labkit.errors import SyscallError
from labkit.kernel.mm.frames.folio import map_refs
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VMA
from labkit.scatter.payload import run_length
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class Anon:
    """What is behind anonymous mappings: nothing, until somebody writes."""

    kind, flags = "anon", 0

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:
        """Map fresh folios for a write; for a read, the zero page (do_anonymous_page, MM-15)."""
        if write:
            return populate(mm, vma, first, last)
        zero = mm.frames.zero_page()
        for at in range(first, last):
            vma.table.set_range(at, zero, 1, vma.pte_flags & ~PAGE_RW | PAGE_SPECIAL | PAGE_ACCESSED)
        runs = ((zero, PAGE_SIZE),) * (last - first)
        mm.emit("SetPtes", vma.start + first * PAGE_SIZE, 0, runs, mm.task)
        return 0


ANON_OPS = Anon()


def populate(mm: Mm, vma: VMA, first: int, last: int) -> int:
    """Back [first, last) of `vma` by fresh folios of its order, writable; return how many came.

    A folio lies on an address that is a multiple of its size; where it would stick out of the mapping or lie over
    pages that are there, or where no block of that size is free, pages of order 0 come instead (alloc_anon_folio).
    Raises SyscallError ENOMEM where memory ends; what came before stays.
    """
    came = 0
    while first < last:
        first, n = _some(mm, vma, first, last)
        came += n
    return came


def _some(mm: Mm, vma: VMA, at: int, last: int) -> tuple[int, int]:
    """Take care of the stretch from page `at` on that gets folios of one order; return (page after it, folios)."""
    size, base = 1 << vma.order, vma.start >> PAGE_SHIFT
    first = ((base + at) & -size) - base
    count = _room(vma, first, -(-(last - first) // size)) if vma.order else last - at
    if not count:
        stop = min(last, first + size)
        return stop, _take(mm, vma, at, stop - at, 0)
    try:
        came = _take(mm, vma, first, count, vma.order)
    except SyscallError:
        if not vma.order:
            raise
        stop = min(last, first + size)
        return stop, _take(mm, vma, at, stop - at, 0)
    return first + came * size, came


def _room(vma: VMA, first: int, count: int) -> int:
    """Return how many folios from page `first` on, of at most `count`, fit into the mapping and over nothing."""
    size = 1 << vma.order
    if first < 0:
        return 0
    end = min(first + count * size, vma.pages)
    gaps = vma.table.gaps(first, end)
    return (gaps[0][1] - first) // size if gaps and gaps[0][0] == first else 0


def _take(mm: Mm, vma: VMA, at: int, count: int, order: int) -> int:
    """Map up to `count` fresh folios of `order` from page `at` on; return how many. Raises SyscallError ENOMEM."""
    runs, came, groups = mm.frames.alloc(order, count)
    refs = map_refs(order)
    mm.map_runs(vma, at, runs, order, vma.pte_flags | PAGE_ACCESSED | PAGE_DIRTY)
    mm.frames.map((group, refs) for group in groups)
    mm.emit("MmPageAlloc", vma.start + at * PAGE_SIZE, order, refs, run_length(runs), mm.task)
    if not order and came < count:
        return came + _take(mm, vma, at + came, count - came, order)
    return came
