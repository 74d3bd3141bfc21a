"""lease (ours, after dma-buf, fsdax and mmu_notifier): nothing is pinned; the owner asks for memory back, and waits.

The ledger notes who uses what, so that an owner finds the users (`leases`) and is told when they are done
(`on_release`). D-13; upstream does so for storage that is memory (MM-24), for exported BARs (MISS-4), and for devices
that fault on their own. Functions of mm take no time and cannot wait: whoever calls them without having asked finds
the memory held, as by a pin.
"""

from collections.abc import Mapping

from labkit.kernel.mm.pin.ops import Cost, Event, Memory
from labkit.scatter.phyr import PHYR_BYTES, Phyrs

_WAITS: Mapping[Event, str] = {
    "munmap": "the address space waits for the IO before it unmaps and frees the pages, as a notifier may",
    "migration": "whoever moves the page revokes it first, and waits for the IO, as a notifier may",
    "fork": "fork waits for the IO before it makes the page read-only, as a notifier may",
    "ksm": "the scanner waits for the IO before it makes the page a shared one, as a notifier may",
    "reclaim": "reclaim waits for the IO before it takes the page, as a notifier may",
    "truncate": "the file waits for the IO before it gives the blocks away, as fsdax does (MM-24)",
    "unplug": "the device revokes its memory, and waits for the IO before it goes (D-13)",
}
"""Each is done in the end: a lease keeps nothing from happening, it puts it off until the IO is over. A device that is
pulled out without a word waits for nobody."""


class LeasePolicy:
    """One note for the whole IO; the count of its users is one cache line of the owner."""

    name, label, blocks = "lease", "ours", _WAITS

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:  # noqa: ARG002 - the protocol's
        """Count one user more."""
        return Cost(1, 1, 0, PHYR_BYTES * len(phyrs))

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:  # noqa: ARG002 - the same
        """Count one user less."""
        return Cost(1, 1, 0, 0)


LEASE = LeasePolicy()
