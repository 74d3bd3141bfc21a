"""User addresses become pinned struct pages: pin_user_pages of Linux 6.18, by its fast way and its slow way."""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.gup.follow import (
    FOLL_LONGTERM,
    FOLL_PCI_P2PDMA,
    FOLL_PIN,
    FOLL_WRITE,
    Stretch,
    check_vma_flags,
    faultin,
    follow_error,
    gup_range,
    need_of,
    ready_until,
    table_runs,
    taken_leaves,
    zero_pages,
)
from labkit.kernel.mm.gup.longterm import leave_movable
from labkit.kernel.mm.pin.tally import tally
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_RW, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_IO, VM_PFNMAP, VMA
from labkit.scatter.page import Page
from labkit.scatter.payload import Range, Ranges, join, run_length
from labkit.scatter.range_array import RangeArray
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, Pfn, UserAddr

_PAGE_LOW = PAGE_SIZE - 1
_MAY_KEEP = frozenset({"anon", "memfd", "shmem", "hugetlb"})
"""Memory that the fast way pins for the long term (gup_fast_folio_allowed)."""


class Pages(NamedTuple):
    """What pin_user_pages took: `nr` pages in `runs` (physical, whole pages), and what it cost.

    `ptes`: entries read, leaves among them; `atomics`: locked operations, one a PTE and one a leaf (MM-9); `fast` and
    `slow`: pages by the way that took them; `faults`: folios, or pages, that were missed and came; `cache_lines`:
    lines of struct pages that the count is written to: for each folio run one, of a large folio two (MM-13, MM-14).
    """

    runs: Ranges
    nr: int
    ptes: int
    atomics: int
    fast: int
    slow: int = 0
    faults: int = 0
    cache_lines: int = 0

    @property
    def stores(self) -> int:
        """Page pointers that are written: one for each page, under a leaf too (MM-9)."""
        return self.nr

    @property
    def pages(self) -> list[Page]:
        """A handle for each page, as the kernel's array has it."""
        return [Page(Pfn(pfn)) for a, n in self.runs for pfn in range(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT)]


def pin_user_pages(
    mm: Mm, addr: UserAddr, nr_pages: int, *, write: bool, flags: int = 0, mms: Sequence[Mm] = ()
) -> Pages:
    """Pin up to `nr_pages` pages from the page of `addr` on, one struct page for each (upstream, Linux 6.18).

    `flags` are FOLL_*. An error after the first page ends the list early (MM-10); at the first page it is raised:
    SyscallError EINVAL (no page is asked for, too), EFAULT, ENOMEM, EAGAIN (FOLL_NOWAIT; FOLL_NOFAULT is EFAULT,
    MM-11), EOPNOTSUPP, EREMOTEIO, EEXIST, in the order of check_vma_flags. The pins are counted last, so that nothing
    is held whatever goes wrong. For FOLL_LONGTERM `leave_movable` comes before, with its errors; `mms` are all
    address spaces that may map the pages (MM-21).
    """
    flags |= FOLL_PIN | (FOLL_WRITE if write else 0)
    start = addr & ~_PAGE_LOW
    end = gup_range(start, nr_pages << PAGE_SHIFT, flags)
    mm.has_pinned = True
    if nr_pages == 1 and not flags & FOLL_LONGTERM and (one := _one_page(mm, start, flags)) is not None:
        return one
    found, fast, faults = _follow(mm, start, end, flags)
    if flags & FOLL_LONGTERM and leave_movable(mm, join([table_runs(s.vma.table, *s[1:]) for s in found]), mms):
        found, fast, faults = _follow(mm, start, end, flags)
    return _grab(mm, found, fast, faults)


def _follow(mm: Mm, start: int, end: int, flags: int) -> tuple[list[Stretch], int, int]:
    """Find the pages of [start, end), the fast way and then the slow; return them, how many came fast, and faults."""
    found, at = _gup_fast(mm, start, end, flags)
    fast, faults = (at - start) >> PAGE_SHIFT, 0
    if at < end:
        slow, faults, error = _gup_slow(mm, at, end, flags)
        found += slow
        if error is not None and not found:
            raise error
    return found, fast, faults


def unpin_user_pages(mm: Mm, runs: Sequence[Range] | Sequence[Page]) -> int:
    """Let go of `runs` (physical, whole pages), or of pages: one locked operation for each folio of a run (MM-26).

    Return how many operations. The zero page is nobody's, and passed over (MM-15). What was unmapped meanwhile, and is
    held by nobody now, is free.
    """
    if isinstance(runs, RangeArray):
        done = mm.folios.pin(runs, -1)
    else:
        plain = run_length([(each[0] << PAGE_SHIFT, PAGE_SIZE) if len(each) == 1 else each for each in runs])
        one = len(plain) == 1 and plain[0][1] == PAGE_SIZE
        done = _pin_one(mm, plain[0][0], -1) if one else mm.folios.pin(plain, -1)
    mm.frames.release_orphans()
    return done


def _one_page(mm: Mm, start: int, flags: int) -> Pages | None:
    """Take one page that is there for the asking, as short as can be; None where it takes more."""
    vma, need = mm.space.find_vma(start), need_of(flags)
    if vma is None or not _fast_allowed(vma, flags):
        return None
    word = vma.table.word(vma.page(start))
    if word & (need | PAGE_SPECIAL) != need or (vma.cow and not word & PAGE_RW):
        return None
    addr = word & ADDR_MASK
    atomics, small = _pin_one(mm, addr, 1), mm.folios.by_head.get(addr >> PAGE_SHIFT)
    lines = 1 if small is not None and not small.order else tally(mm.folios, ((addr, PAGE_SIZE),)).lines
    return Pages(((addr, PAGE_SIZE),), 1, 1, atomics, 1, cache_lines=lines)


def _pin_one(mm: Mm, addr: int, sign: int) -> int:
    """Pin the page at `addr`, or unpin it; most often its folio stands alone. Return how many folios counted."""
    pfn = addr >> PAGE_SHIFT
    folio = mm.folios.by_head.get(pfn) or mm.folios.by_head.get(pfn >> PMD_ORDER << PMD_ORDER)
    if folio is None or pfn >> folio.order << folio.order != folio.pfn:
        return mm.folios.pin(((addr, PAGE_SIZE),), sign)
    folio.pin(sign)
    return 1


def _gup_fast(mm: Mm, start: int, end: int, flags: int) -> tuple[list[Stretch], int]:
    """Take what can be taken without a lock; return it, and the address of the first page that cannot (MM-8)."""
    found: list[Stretch] = []
    at = start
    while at < end:
        vma = mm.space.find_vma(at)
        if vma is None or not _fast_allowed(vma, flags):
            break
        first, last = vma.page(at), vma.page(min(end, vma.end) - 1) + 1
        stop = ready_until(mm, vma, first, last, flags, fast=True)
        if stop > first:
            found.append(Stretch(vma, first, stop))
        at = vma.start + (stop << PAGE_SHIFT)
        if stop < last:
            break
    return found, at


def _fast_allowed(vma: VMA, flags: int) -> bool:
    """Return whether what lies behind `vma` may be pinned on the fast way (MM-8, MM-12)."""
    kind = vma.ops.kind
    if ("w" if flags & FOLL_WRITE else "r") not in vma.prot or vma.flags & (VM_IO | VM_PFNMAP):
        return False
    if kind == "anon":
        return True
    if kind == "secretmem" or (kind == "p2pdma" and not flags & FOLL_PCI_P2PDMA):
        return False
    return not flags & FOLL_LONGTERM or kind in _MAY_KEEP


def _gup_slow(mm: Mm, start: int, end: int, flags: int) -> tuple[list[Stretch], int, SyscallError | None]:
    """Take pages under the lock, faulting them in (MM-5, MM-11); return them, the faults, and what ended it."""
    found: list[Stretch] = []
    at, faults = start, 0
    while at < end:
        vma = mm.space.find_vma(at)
        error = check_vma_flags(vma, at, flags)
        if vma is None or error is not None:
            return found, faults, error
        first, last = vma.page(at), vma.page(min(end, vma.end) - 1) + 1
        reached = faultin(mm, vma, first, last, flags)
        stop, error = follow_error(mm, vma, first, reached.last, flags)
        faults, error = faults + reached.faults, error or reached.error
        if stop > first:
            found.append(Stretch(vma, first, stop))
        if error is not None:
            return found, faults, error
        at = vma.start + (stop << PAGE_SHIFT)
    return found, faults, None


def _grab(mm: Mm, found: list[Stretch], fast: int, faults: int) -> Pages:
    """Count the pins of `found`: one locked operation a PTE, one a leaf (MM-9), none for the zero page (MM-15)."""
    parts, ptes, count, zeros = list[Ranges](), 0, 0, 0
    for vma, first, last in found:
        parts.append(table_runs(vma.table, first, last))
        ptes += taken_leaves(vma.table, first, last)
        zeros += zero_pages(vma, first, last) if count >= fast else 0  # the fast way stops at the first
        count += last - first
    runs = join(parts)
    mm.folios.pin(runs)
    lines = tally(mm.folios, runs).lines
    return Pages(runs, count, ptes, ptes - zeros, fast, count - fast, faults, lines)
