"""Memory that another owns, registered for IO: a provider as upstream 7.3 has them (p2pdma_provider), with an end."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.errors import SyscallError
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.kernel.mm.space.vma import VMA
from labkit.scatter.memory_class import MemoryClass
from labkit.units import PhysAddr


@dataclass(slots=True, eq=False)
class Provider:
    """`nbytes` bytes at `start` that `name` owns and lets others do IO to, until it revokes that (D-13).

    `cls` is what its ranges are; `struct_pages`: whether they have struct pages (ZONE_DEVICE) all the same. That IO
    may go there without them is proposed (PHYR-28); that the owner may take it back is as vfio's dma-buf does (MISS-4).
    """

    name: str
    start: PhysAddr
    nbytes: int
    cls: MemoryClass
    struct_pages: bool = False
    revocable: bool = True
    revoked: bool = False
    importers: dict[int, Callable[[], None]] = field(default_factory=dict)
    """Who has mapped it for a device, and is told when it goes (move_notify, DMABUF-1): by number of the mapping."""

    @property
    def live(self) -> bool:
        """Whether IO may begin."""
        return not self.revoked

    def revoke(self, ledger: PinLedger) -> tuple[int, ...]:
        """Let no further IO begin, and return the tokens that hold the memory still: the owner waits for these.

        Raises SyscallError EOPNOTSUPP for a provider that promised to stay.
        """
        if not self.revocable:
            raise SyscallError("provider", self.name, "promised to stay, and is not revoked (D-13)", errno.EOPNOTSUPP)
        self.revoked = True
        for move_notify in tuple(self.importers.values()):
            move_notify()
        return ledger.holding(((self.start, self.nbytes),))


def provider_of(vma: VMA) -> Provider | None:
    """Return who registered the memory behind `vma` for IO, or None for memory that nobody did."""
    found = getattr(vma.ops, "provider", None)
    return found if isinstance(found, Provider) else None
