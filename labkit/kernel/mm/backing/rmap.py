"""A folio of a file finds the entries that map it: by the mappings of the file, its page and theirs (mm/rmap.c)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_DIRTY, PAGE_RW
from labkit.kernel.mm.space.vma import VMA, VmOps
from labkit.units import PAGE_SHIFT


class Where(NamedTuple):
    """Pages [first, last) of a mapping, which are of one folio of the file."""

    mm: Mm
    vma: VMA
    first: int
    last: int


def rmap_walk(mms: Iterable[Mm], file: VmOps, folio: Folio) -> Iterator[Where]:
    """Yield where mappings of `file` have the pages of `folio`, whether they have entries there or not."""
    for mm in tuple(mms):
        for vma in tuple(mm.space.vmas):
            first = max(0, folio.index - vma.pgoff)
            last = min(vma.pages, folio.index + (1 << folio.order) - vma.pgoff)
            if vma.ops is file and first < last:
                yield Where(mm, vma, first, last)


def folio_mkclean(mms: Iterable[Mm], file: VmOps, folio: Folio) -> None:
    """Make every shared entry of `folio` clean and read-only (folio_mkclean): the next store faults."""
    for _, vma, first, last in rmap_walk(mms, file, folio):
        if not vma.cow:
            vma.table.change(first, last, take=PAGE_RW | PAGE_DIRTY)


def unmap_folio(mms: Iterable[Mm], file: VmOps, folio: Folio) -> None:
    """Unmap `folio` everywhere; a private copy of one of its pages is not it, and stays (unmap_mapping_folio)."""
    start = folio.pfn << PAGE_SHIFT
    for mm, vma, first, last in rmap_walk(mms, file, folio):
        if not vma.cow:
            mm.zap(vma, first, last)
            continue
        for at in range(first, last):
            if vma.table.word(at) and start <= vma.table.word(at) & ADDR_MASK < start + folio.nbytes:
                mm.zap(vma, at, at + 1)


def unmap_from(mms: Iterable[Mm], file: VmOps, first: int) -> None:
    """Unmap every page of `file` from page `first` on, copies too (unmap_mapping_range)."""
    for mm in tuple(mms):
        for vma in tuple(mm.space.vmas):
            at = max(0, first - vma.pgoff)
            if vma.ops is file and at < vma.pages:
                mm.zap(vma, at, vma.pages)
