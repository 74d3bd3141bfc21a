"""User addresses become pinned memory: get_user_phyrs (proposed) and pin_user_pages (upstream)."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.fault import Mm
from labkit.kernel.mm.page_table import ADDR_MASK, PAGE_PRESENT, PAGE_RW, PAGE_USER
from labkit.kernel.mm.vma import VMA
from labkit.scatter.page import Page
from labkit.scatter.payload import Range
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, TASK_SIZE_MAX, Pfn, PhysAddr, UserAddr

_PAGE_LOW = PAGE_SIZE - 1


class Phyrs(NamedTuple):
    """What get_user_phyrs found: the ranges, and how many page table entries were looked at for it."""

    phyrs: PhyrList
    ptes: int


class Pages(NamedTuple):
    """What pin_user_pages found: a page for each frame, entries walked, and locked operations spent (MM-9)."""

    pages: list[Page]
    ptes: int
    atomics: int


def get_user_phyrs(mm: Mm, addr: UserAddr, nbytes: int, *, write: bool) -> Phyrs:
    """Translate `nbytes` of user memory from `addr` on into the fewest physical ranges, as a whole (PHYR-12).

    `write`: the IO will write to this memory, as a read from a file does. Nothing is pinned here: the caller enters
    the ranges into the ledger. Raises SyscallError: EFAULT for addresses that are not mapped (MM-4) or lack the right,
    ENOMEM where a fault finds no frame; then nothing is held.
    """
    vma = mm.space.find_vma(addr)
    offset = addr & _PAGE_LOW
    if vma is not None and offset + nbytes <= PAGE_SIZE:  # one page: no list of runs to build
        pte = vma.table.ptes[(addr - vma.start) >> PAGE_SHIFT]
        need = _need(write)
        if pte & need == need:
            return Phyrs(PhyrList((Phyr(PhysAddr((pte & ADDR_MASK) + offset), nbytes),)), 1)
    pieces = [Phyr(PhysAddr(pa), length) for pa, length in _walk(mm, addr, nbytes, write=write)]
    return Phyrs(PhyrList.coalesce(pieces), ((addr + nbytes + _PAGE_LOW) >> PAGE_SHIFT) - (addr >> PAGE_SHIFT))


def pin_user_pages(mm: Mm, addr: UserAddr, nr_pages: int, *, write: bool) -> Pages:
    """Pin up to `nr_pages` pages from the page of `addr` on, one struct page for each (upstream, Linux 6.18).

    An error after the first page ends the list early (MM-10); at the first page it is raised, as get_user_phyrs does.
    """
    pages: list[Page] = []
    atomics, start = 0, addr & ~_PAGE_LOW
    try:
        for pa, length in _walk(mm, UserAddr(start), nr_pages << PAGE_SHIFT, write=write):
            run = [Page(Pfn(pfn)) for pfn in range(pa >> PAGE_SHIFT, (pa + length) >> PAGE_SHIFT)]
            atomics += _grab(mm, run)
            pages += run
    except SyscallError:
        if not pages:
            raise
    except BaseException:
        unpin_user_pages(mm, pages)
        raise
    return Pages(pages, len(pages), atomics)


def unpin_user_pages(mm: Mm, pages: list[Page]) -> int:
    """Let go of `pages`: one locked operation for each run of pages in one folio (MM-26); return how many."""
    atomics, last = 0, None
    for page in pages:
        folio = mm.folios.page_folio(page)
        folio.unpin(1)
        atomics += folio is not last
        last = folio
    return atomics


def _grab(mm: Mm, run: list[Page]) -> int:
    """Take a pin on each page: an atomic each where PTEs map it, one for all under a PMD leaf (MM-9)."""
    atomics, last = 0, None
    for page in run:
        folio = mm.folios.page_folio(page)
        folio.pin(1)
        atomics += folio.order < PMD_ORDER or folio is not last
        last = folio
    return atomics


def _need(write: bool) -> int:
    return PAGE_PRESENT | PAGE_USER | (PAGE_RW if write else 0)


def _walk(mm: Mm, addr: UserAddr, nbytes: int, *, write: bool) -> Iterator[Range]:
    """Yield (physical address, bytes) of each run of neighbours, crossing mappings, faulting pages in (MM-5, MM-11)."""
    end = addr + nbytes
    if end > TASK_SIZE_MAX:
        raise SyscallError("gup", f"addr={addr:#x}+{nbytes}", "ends beyond user space (MM-6)", errno.EFAULT)
    while addr < end:
        vma = _vma_at(mm, addr, write=write)
        stop = min(end, vma.end)
        first, last = (addr - vma.start) >> PAGE_SHIFT, (stop - vma.start + _PAGE_LOW) >> PAGE_SHIFT
        need = _need(write)
        if vma.table.absent(first, last, need) < last:
            try:
                mm.handle_mm_fault(vma, first, last)
            except SyscallError:  # the pages that came before it are found, and the error comes after them (MM-11)
                there = vma.table.absent(first, last, need)
                if there > first:
                    yield from _trim(vma.table.runs(first, there), addr & _PAGE_LOW, stop - addr)
                raise
        yield from _trim(vma.table.runs(first, last), addr & _PAGE_LOW, stop - addr)
        addr = UserAddr(stop)


def _vma_at(mm: Mm, addr: int, *, write: bool) -> VMA:
    vma = mm.space.find_vma(addr)
    if vma is None:
        raise SyscallError("gup", f"addr={addr:#x}", "is not mapped (MM-4)", errno.EFAULT)
    if ("w" if write else "r") not in vma.prot:
        what = "write to" if write else "read from"
        raise SyscallError("gup", f"addr={addr:#x}", f"lies in {vma.prot} memory: no right to {what} it", errno.EFAULT)
    return vma


def _trim(runs: Iterator[Range], skip: int, nbytes: int) -> Iterator[Range]:
    """Yield `runs` less the first `skip` bytes, `nbytes` in all."""
    for pa, length in runs:
        take = min(length - skip, nbytes)
        yield pa + skip, take
        skip, nbytes = 0, nbytes - take
