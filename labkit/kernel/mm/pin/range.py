"""range (ours): the range itself is what is held, as an entry of a ledger; no struct page is looked at.

That a pin is of a range, and as a whole, is proposed (PHYR-16, PHYR-17, PHYR-28); that a ledger keeps it is ours.
Whoever moves, shares or frees memory asks the ledger, where it asks the folio today.
"""

from collections.abc import Mapping

from labkit.kernel.mm.pin.ops import CACHE_LINE, Cost, Event, Memory
from labkit.scatter.phyr import PHYR_BYTES, Phyrs
from labkit.units import PAGE_SIZE

_HELD: Mapping[Event, str] = {
    "migration": "moving a page asks the ledger first, and gives up: EAGAIN, as MM-21",
    "fork": "the child gets a copy of a page that the ledger holds, as MM-19",
    "reclaim": "a page that the ledger holds stays, as MM-20",
    "ksm": "a page that the ledger holds does not become a shared one, as MM-22",
    "unplug": "memory that the ledger holds is not taken offline",
}


_ONE, _ONE_LESS = Cost(1, 1, 0, PHYR_BYTES), Cost(1, 1, 0, 0)
"""One range: the most common case."""


class RangePolicy:
    """One entry for each range, with one locked operation, and nothing on the folios."""

    name, label, blocks = "range", "ours", _HELD

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Count on nothing: the ledger holds the ranges; 64 bytes of it are a cache line. The zero page needs none."""
        count = _entries(mm, phyrs)
        return _ONE if count == 1 else Cost(count, -(-PHYR_BYTES * count // CACHE_LINE), 0, PHYR_BYTES * count)

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Do the same once more; nothing is kept any longer."""
        count = _entries(mm, phyrs)
        return _ONE_LESS if count == 1 else Cost(count, -(-PHYR_BYTES * count // CACHE_LINE), 0, 0)


def _entries(mm: Memory, phyrs: Phyrs) -> int:
    """Return how many of `phyrs` are to be held: all but those that lie in the zero page (MM-15)."""
    zero = mm.folios.zero
    if zero is None:
        return len(phyrs)
    vecs = phyrs.vecs
    if isinstance(vecs, tuple):
        return sum(addr & -PAGE_SIZE != zero or nbytes > PAGE_SIZE for addr, nbytes in vecs)
    return int(((vecs.addrs & -PAGE_SIZE != zero) | (vecs.lens > PAGE_SIZE)).sum())


RANGE = RangePolicy()
