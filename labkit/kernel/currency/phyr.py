"""phyr (proposed): the whole IO becomes ranges at its start, and the ranges go down as they are.

Matthew Wilcox, 27 Jan 2024 (PHYR-28), and for the pin as a whole the RFC of 10 Jan 2022 (PHYR-16, PHYR-17). That the
range itself is what is counted, in a ledger, with one locked operation a range, is ours; other policies may be chosen.
"""

import errno

from labkit.errors import SyscallError
from labkit.kernel.currency.fill import after, unaligned
from labkit.kernel.currency.ops import Hold, Kiocb, Released, wipe
from labkit.kernel.mm.gup.phyrs import UserPhyrs, get_user_phyrs, pin_phyrs, put_user_phyrs
from labkit.kernel.mm.pin.ops import PinPolicy
from labkit.kernel.mm.pin.range import RANGE
from labkit.scatter.payload import Payload
from labkit.scatter.phyr import PHYR_BYTES, phyrs_of
from labkit.units import PAGE_SIZE


class PhyrCurrency:
    """One list of phyrs from the syscall to dma_map, pinned and released as a whole; or a list for each chunk."""

    name, per_bio = "phyr", False

    def __init__(self, policy: PinPolicy = RANGE, chunk: int = 0) -> None:
        """Count pins as `policy` does; take `chunk` ranges at a time (16: PHYR-10, 512: PHYR-11), 0 for all at once."""
        self.pins, self.chunk = policy, chunk
        self.policy = policy.name

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:  # noqa: ARG002 - the whole, or a chunk
        """Take everything from `start` on, or a chunk of it.

        As a whole, a page that cannot be had fails the IO before any of it is issued (D-4); in chunks, the chunks
        before it have gone.
        """
        lbs = iocb.limits.logical_block_size
        most = max(self.chunk, lbs // PAGE_SIZE + 2) if self.chunk else None  # a logical block fits, however it lies
        phyrs, covered, ptes, faults = self._find(iocb, start, most)
        if covered < iocb.nbytes - start:
            covered -= covered % lbs
            if not covered:
                raise SyscallError(iocb.call, f"{phyrs.nbytes} bytes of memory", "hold no logical block", errno.EFAULT)
            phyrs = phyrs.slice(0, covered)
        token, cost = pin_phyrs(iocb.mm, phyrs, self.pins, iocb.io)
        table = PHYR_BYTES * len(phyrs)
        ranges = iocb.mm.ledger.held[token].ranges
        return Hold(
            phyrs, covered, token, None, ranges, ptes, cost.atomics, cost.struct_pages, table, cost.cache_lines, faults
        )

    def _find(self, iocb: Kiocb, start: int, most: int | None) -> UserPhyrs:
        """Translate what is left of each iovec, until the end or until `most` ranges are found."""
        parts: list[UserPhyrs] = []
        mask, room = iocb.limits.dma_alignment, most
        for addr, length in after(iocb.pieces, start):
            if room is not None and room <= 0:
                break
            if (addr | length) & mask:  # upstream 7.3 checks here too, at extraction (ITER-5)
                raise unaligned(iocb.call, addr, length, mask)
            try:
                parts.append(get_user_phyrs(iocb.mm, addr, length, write=not iocb.write, max_entries=room))
            except SyscallError:
                if most is None or not parts:
                    raise
                break
            room = None if room is None else room - len(parts[-1].phyrs)
            if parts[-1].nbytes < length:
                break
        return parts[0] if len(parts) == 1 else _joined(parts)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:  # noqa: ARG002
        """Write zeros over memory that is pinned already, by its physical addresses (D-5)."""
        return wipe(iocb, pinned)

    def slots(self, iocb: Kiocb, start: int) -> int:  # noqa: ARG002
        """Return 0: what a bio gets is a part of the list."""
        return 0

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Do as the policy does; memory that was read into becomes dirty now, found by its addresses (P10)."""
        cost = put_user_phyrs(iocb.mm, hold.token, dirty=not iocb.write)
        return Released(cost.atomics, cost.struct_pages)


def _joined(parts: list[UserPhyrs]) -> UserPhyrs:
    """Return what was found for several iovecs as one list: ranges that touch are one, iovec or not (invariant 7)."""
    phyrs = [phyr for part in parts for phyr in part.phyrs]
    found = phyrs_of([each.addr for each in phyrs], [each.len for each in phyrs], [each.cls for each in phyrs])
    return UserPhyrs(
        found, sum(part.nbytes for part in parts), sum(part.ptes for part in parts), sum(part.faults for part in parts)
    )
