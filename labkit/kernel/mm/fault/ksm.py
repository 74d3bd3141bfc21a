"""Equal pages become one, which nobody may write (mm/ksm.c); a write, or a pin, makes copies of it again (MM-18)."""

from collections.abc import Callable, Iterator, Sequence

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PRESENT, PAGE_RW, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VMA
from labkit.scatter.payload import Range
from labkit.trace.page_flags import PG_anon, PG_anon_exclusive, PG_ksm
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PhysAddr


def merge(mm: Mm, where: Sequence[Range], read: Callable[[int, int], bytes]) -> int:
    """Merge the equal pages among those of `where` (user address, bytes: MADV_MERGEABLE); return how many went.

    `read(physical address, bytes)` looks at them. Large folios are left alone, and so is a page that may be pinned
    (MM-22): its exclusiveness cannot be taken away.
    """
    seen: dict[bytes, tuple[VMA, int, Folio]] = {}
    gone = 0
    for vma, at, folio in (page for addr, nbytes in where for page in _pages(mm, addr, addr + nbytes)):
        kept = seen.setdefault(read(folio.pfn << PAGE_SHIFT, PAGE_SIZE), (vma, at, folio))
        if kept[2] is not folio:
            _write_protect(mm, *kept)
            _replace_page(mm, vma, at, folio, kept[2])
            gone += 1
    return gone


def _pages(mm: Mm, addr: int, end: int) -> Iterator[tuple[VMA, int, Folio]]:
    """Yield (mapping, page of it, folio) of what may be merged."""
    for vma in tuple(mm.space.within(addr, end)):
        for at in range(vma.page(max(addr, vma.start)), vma.page(min(end, vma.end) - 1) + 1):
            word = vma.table.word(at)
            if vma.table.leaf(at) is not None or word & (PAGE_PRESENT | PAGE_SPECIAL) != PAGE_PRESENT:
                continue
            folio = mm.folios.phys_to_folio(PhysAddr(word & ADDR_MASK))
            if folio is not None and not folio.order and folio.flags & PG_anon and not _held(mm, folio):
                yield vma, at, folio


def _held(mm: Mm, folio: Folio) -> bool:
    return folio.maybe_dma_pinned or mm.ledger.covers(folio.pfn << PAGE_SHIFT, PAGE_SIZE)


def _write_protect(mm: Mm, vma: VMA, at: int, folio: Folio) -> None:
    """Make page `at` the one that all equal pages will be (write_protect_page, set_page_stable_node)."""
    if not folio.flags & PG_ksm:
        vma.table.change(at, at + 1, take=PAGE_RW)
        folio.flags = (folio.flags | PG_ksm) & ~PG_anon_exclusive
        mm.emit("FolioFlags", folio.runs, PG_ksm, PG_anon_exclusive)


def _replace_page(mm: Mm, vma: VMA, at: int, old: Folio, new: Folio) -> None:
    """Map `new` where `old` was (replace_page)."""
    word = vma.table.word(at)
    vma.table.set_range(at, new.pfn << PAGE_SHIFT, 1, word & ~ADDR_MASK & ~PAGE_RW)
    mm.frames.map([(new, 1)])
    mm.emit("SetPtes", vma.start + at * PAGE_SIZE, 0, new.runs, mm.task)
    mm.frames.unmap([(old, 1)])
