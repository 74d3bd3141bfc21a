"""page (upstream, Linux 6.18): every page counts, by 1024 on a small folio (MM-13), by one on a large one (MM-14)."""

from collections.abc import Mapping

from labkit.kernel.mm.pin.ops import Cost, Event, Memory, need_folios
from labkit.kernel.mm.pin.tally import tally
from labkit.scatter.phyr import Phyrs
from labkit.units import PAGE_SHIFT, PAGE_SIZE

COUNTED: Mapping[Event, str] = {
    "migration": "moving a page finds references that it did not expect, and gives up: EAGAIN (MM-21)",
    "fork": "the child gets a copy of a page that looks pinned, and the parent keeps its frame (MM-19)",
    "reclaim": "a page that looks pinned is put back among the active ones (MM-20)",
    "ksm": "an exclusive page that looks pinned does not become a shared one: EBUSY (MM-22)",
    "unplug": "memory cannot be taken offline while a page of it does not move (MM-21)",
}
"""What a count on the folio keeps from happening; truncation goes ahead, and leaves an orphan (MM-24)."""


class PagePolicy:
    """One count for each page that is touched, in its struct page."""

    name, label, blocks = "page", "upstream", COUNTED

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Count each page once for each range that touches it: the pages that a leaf maps in one operation (MM-9).

        A policy sees ranges and no entries; what is of a folio of 2 MiB or more counts as mapped by leaves.
        """
        need_folios(self.name, mm.folios, phyrs)
        mm.folios.pin(phyrs.vecs)
        lines, grabs = tally(mm.folios, phyrs.vecs)
        return Cost(grabs, lines, pages_of(phyrs), 0)

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Take the counts off: an operation for each folio of a range (MM-26), a struct page for each page."""
        folios = mm.folios.pin(phyrs.vecs, -1)
        return Cost(folios, tally(mm.folios, phyrs.vecs).lines, pages_of(phyrs), 0)


def pages_of(phyrs: Phyrs) -> int:
    """Return how many pages the ranges touch."""
    addrs, lens = getattr(phyrs.vecs, "addrs", None), getattr(phyrs.vecs, "lens", None)
    if addrs is not None and lens is not None:
        return int((((addrs + lens + PAGE_SIZE - 1) >> PAGE_SHIFT) - (addrs >> PAGE_SHIFT)).sum())
    return sum(((addr + nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT) - (addr >> PAGE_SHIFT) for addr, nbytes in phyrs.vecs)


PAGE = PagePolicy()
