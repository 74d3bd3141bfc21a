"""premapped (proposed): a buffer is pinned and mapped once, for one device; an IO takes device addresses down.

dma-buf backed read and write, Pavel Begunkov, 2026 (DMABUF-1): what is registered is found by arithmetic, and nothing
of it is pinned or mapped for an IO. The series writes PRPs alone (DMABUF-3); here the driver chooses by the addresses
that it is given, as for any memory, and a buffer is registered by where the task has it mapped, not by a descriptor
(both ours).
"""

import errno
from dataclasses import dataclass, field
from typing import Protocol

from labkit.errors import SyscallError
from labkit.kernel.currency.fill import after, unaligned
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.scatter.payload import Payload, Ranges, join
from labkit.scatter.phyr import Phyrs
from labkit.scatter.premapped import DmaVecs


@dataclass(slots=True, eq=False)
class Registration:
    """A buffer at user address `addr` that is mapped for a device, and stays so until it is let go of."""

    addr: int
    phyrs: Phyrs
    dma: DmaVecs
    rq: int
    """Its number among the mappings of the driver: below 0, since it is no request."""
    token: int = 0
    """The pin; 0 where the memory's own provider keeps it."""
    dead: bool = False
    """Whether no IO may begin with it any more: unregistered, or revoked (move_notify)."""
    users: set[int] = field(default_factory=set)
    """The tokens of the IOs that are on their way with it."""

    @property
    def nbytes(self) -> int:
        """The length in bytes."""
        return self.dma.nbytes


class Registry(Protocol):
    """What is registered in a machine."""

    def lookup(self, iocb: Kiocb, addr: int, nbytes: int) -> Registration:
        """Return what holds [addr, addr + nbytes); the first IO registers it. Raises SyscallError where nothing may.

        EFAULT for memory that ends beyond the buffer, EOPNOTSUPP for a file that takes no device addresses, ENODEV for
        memory that is revoked; else what pinning and mapping say.
        """

    def put(self, found: Registration) -> None:
        """Unmap and unpin `found` if it is dead, and no IO uses it any more; a second call does nothing."""


class PremappedCurrency:
    """A part of what is registered, for each IO; what holds it for that long costs nothing."""

    name, per_bio = "premapped", False

    def __init__(self, registry: Registry) -> None:
        """Take addresses from `registry`."""
        self.registry = registry
        self.policy = "none"

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:  # noqa: ARG002 - all of it, at once
        """Find all from byte `start` on among what is registered.

        Memory that its owner may take back is noted as a lease: the owner waits for the IO, as for a fence of its
        dma-buf. Errors: those of Registry.lookup, and EINVAL for memory that is off the alignment (ITER-5).
        """
        pieces = after(iocb.pieces, start)
        for addr, length in pieces:
            if (addr | length) & iocb.limits.dma_alignment:
                raise unaligned(iocb.call, addr, length, iocb.limits.dma_alignment)
        found = [self.registry.lookup(iocb, *piece) for piece in pieces]
        ats = [(each, addr - each.addr, length) for each, (addr, length) in zip(found, pieces, strict=True)]
        payload = DmaVecs.join(each.dma.slice(at, length) for each, at, length in ats)
        ranges = join(each.phyrs.slice(at, length).vecs for each, at, length in ats)
        self.policy = "none" if all(each.token for each in found) else "lease"
        token = self._note(iocb, ranges, found)
        return Hold(payload, payload.nbytes, token, tuple(found), ranges, 0, 0, 0, 0)

    def _note(self, iocb: Kiocb, ranges: Ranges, found: list[Registration]) -> int:
        """Let the ledger, and what is registered, know of the IO; return its token."""
        mm = iocb.mm
        token = mm.ledger.pin(iocb.io, mm.frames.now(), self.policy, ranges, mm.task)
        for each in found:
            each.users.add(token)
        return token

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of nothing but what was given up meanwhile: the last IO takes that with it."""
        for each in hold.handle:
            each.users.discard(hold.token)
            self.registry.put(each)
        iocb.mm.ledger.unpin(hold.token)
        return Released(0, 0)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:  # noqa: ARG002
        """Refuse: a file that has holes takes no device addresses. Raises SyscallError EOPNOTSUPP (DMABUF-1)."""
        raise SyscallError(iocb.call, "a hole", "cannot be zeroed by device addresses (DMABUF-1)", errno.EOPNOTSUPP)

    def slots(self, iocb: Kiocb, start: int) -> int:  # noqa: ARG002
        """Return 0: what a bio gets is a part of what is registered."""
        return 0
