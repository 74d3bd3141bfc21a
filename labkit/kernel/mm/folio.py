"""Frames become folios: 2**order frames with one refcount and one pincount (MM-13, MM-14)."""

from labkit.scatter.page import Page
from labkit.trace.snapshot import GUP_PIN_COUNTING_BIAS
from labkit.units import MAX_PAGE_ORDER, PFN_PHYS, PHYS_PFN, PMD_ORDER, Pfn, PhysAddr


class Folio:
    """Memory that is allocated and mapped as one: first frame, order, and who counts on it."""

    __slots__ = ("order", "pfn", "pincount", "refcount")

    def __init__(self, pfn: Pfn, order: int) -> None:
        """Begin with the references of its mapping: one for each entry that maps it."""
        self.pfn, self.order = pfn, order
        self.refcount, self.pincount = map_refs(order), 0

    def pin(self, pages: int) -> None:
        """Count `pages` pins: by 1024 on a small folio (MM-13), one by one on a large one (MM-14)."""
        if self.order:
            self.refcount += pages
            self.pincount += pages
        else:
            self.refcount += pages * GUP_PIN_COUNTING_BIAS

    def unpin(self, pages: int) -> None:
        """Take `pages` pins off again."""
        self.pin(-pages)

    @property
    def maybe_dma_pinned(self) -> bool:
        """Whether it looks pinned: exact for a large folio, a guess for a small one (MM-16)."""
        return self.pincount > 0 if self.order else self.refcount >= GUP_PIN_COUNTING_BIAS


def map_refs(order: int) -> int:
    """Return how many references the mapping of a whole folio holds: one an entry, and a PMD leaf is one entry."""
    return 1 if order >= PMD_ORDER else 1 << order


class Folios:
    """Every folio of the machine, by its first frame: what a memmap tells, for the frames that are in use."""

    def __init__(self) -> None:
        """Begin with none."""
        self.by_head: dict[int, Folio] = {}

    def add(self, pfn: Pfn, order: int) -> Folio:
        """Make the 2**`order` frames from `pfn` a folio."""
        folio = self.by_head[pfn] = Folio(pfn, order)
        return folio

    def phys_to_folio(self, addr: PhysAddr) -> Folio | None:
        """Return the folio that holds the byte at `addr`, or None: not all memory has one (D-17)."""
        pfn = PHYS_PFN(addr)
        for order in range(MAX_PAGE_ORDER + 1):
            folio = self.by_head.get(pfn >> order << order)
            if folio is not None and folio.order >= order:
                return folio
        return None

    def page_folio(self, page: Page) -> Folio:
        """Return the folio of `page`, as compound_head does. Raises KeyError for a frame that is in none."""
        folio = self.phys_to_folio(PFN_PHYS(page.pfn))
        if folio is None:
            raise KeyError(page)
        return folio
