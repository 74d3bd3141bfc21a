"""Writes to memory that others may see too: it is reused where nobody does, and copied where somebody does."""

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_HUGETLB, VMA
from labkit.trace.page_flags import ANON, PG_anon_exclusive, PG_ksm
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, PhysAddr


def do_wp_page(mm: Mm, vma: VMA, at: int, *, unshare: bool = False) -> int:
    """Make page `at` of `vma` writable: as it is where nobody else has it, else as a copy; return the folios that came.

    `unshare`: for a read pin of a page that is not exclusive (MM-18): the page becomes exclusive, and no more writable
    than its entry was. Raises SyscallError ENOMEM where a copy finds no frame.
    """
    table = vma.table
    put = 0 if unshare else PAGE_RW | PAGE_DIRTY
    leaf = table.leaf(at)
    first, last = leaf.entry(at) if leaf else (at, at + 1)
    if not vma.cow:
        if put and (mkwrite := getattr(vma.ops, "page_mkwrite", None)) is not None:
            mkwrite(vma.pgoff + first, vma.pgoff + last)
        table.change(first, last, put=put)  # the entry, whatever it maps: half a leaf is none
        return 0
    if leaf is not None:
        return _wp_leaf(mm, vma, first, at, unshare)
    word = table.word(at)
    folio = None if word & PAGE_SPECIAL else mm.folios.phys_to_folio(PhysAddr(word & ADDR_MASK))
    if folio is None or not may_reuse(vma, at, folio):
        return copy_page(mm, vma, at)
    _exclusive(mm, folio)
    table.change(at, at + 1, put=put)
    return 0


def may_reuse(vma: VMA, at: int, folio: Folio) -> bool:
    """Return whether all that counts on anonymous `folio` is in this mapping (wp_can_reuse_anon_folio)."""
    if folio.mapping is not None or folio.flags & PG_ksm:
        return False
    if folio.flags & PG_anon_exclusive:
        return True
    around = range(max(0, at - (1 << folio.order) + 1), min(vma.pages, at + (1 << folio.order)))
    start = folio.pfn << PAGE_SHIFT
    here = sum(start <= vma.table.word(i) & ADDR_MASK < start + folio.nbytes for i in around)
    return folio.refcount == folio.mapcount == here


def _wp_leaf(mm: Mm, vma: VMA, first: int, at: int, unshare: bool) -> int:
    """Reuse the folio under a leaf if it is ours alone, else go on with PTEs (do_huge_pmd_wp_page, hugetlb_wp).

    What is exclusive is ours, however many pins it has: a copy would part the task from its device (MM-18).
    """
    leaf = vma.table.leaf(first)
    folio = mm.folios.phys_to_folio(PhysAddr(vma.table.word(first) & ADDR_MASK))
    if leaf is not None and folio is not None and _ours(folio):
        _exclusive(mm, folio)
        put = 0 if unshare else PAGE_RW | PAGE_DIRTY
        vma.table.change(first, first + (1 << leaf.order), put=put)
        return 0
    if vma.flags & VM_HUGETLB:
        return int(vma.ops.hugetlb_wp(mm, vma, first))  # type: ignore[attr-defined] # no other mapping has the flag
    mm.split_leaf(vma, first)
    return do_wp_page(mm, vma, at, unshare=unshare)


def _ours(folio: Folio) -> bool:
    return folio.mapping is None and (bool(folio.flags & PG_anon_exclusive) or folio.refcount == folio.mapcount == 1)


def _exclusive(mm: Mm, folio: Folio) -> None:
    if not folio.flags & PG_anon_exclusive:
        folio.flags |= PG_anon_exclusive
        mm.emit("FolioFlags", folio.runs, PG_anon_exclusive, 0)


def copy_page(mm: Mm, vma: VMA, at: int) -> int:
    """Put a copy of its own in the place of page `at`; return 1. Raises SyscallError ENOMEM (wp_page_copy).

    A leaf over it becomes PTEs first; EINVAL for a page of hugetlb, which is copied whole.
    """
    mm.split_leaf(vma, at)
    old = vma.table.word(at) & ADDR_MASK
    pfn = mm.frames.buddy.alloc_pages(0)
    new = mm.folios.add(pfn, 0, 0, ANON)
    if old != mm.frames.zero_page():
        mm.frames.copy(PFN_PHYS(pfn), old, PAGE_SIZE)
    vma.table.set_range(at, PFN_PHYS(pfn), 1, vma.pte_flags | PAGE_ACCESSED | PAGE_DIRTY)
    mm.frames.map([(new, 1)])
    mm.emit("MmPageAlloc", vma.start + at * PAGE_SIZE, 0, 1, new.runs, mm.task)
    mm.frames.unmap(list(mm.folios.groups(((old, PAGE_SIZE),))))
    return 1
