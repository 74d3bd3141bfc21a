"""phyr (proposed): the whole IO becomes ranges at its start, and the ranges go down as they are.

Matthew Wilcox, 27 Jan 2024 (PHYR-28), and for the pin as a whole the RFC of 10 Jan 2022 (PHYR-16, PHYR-17). That the
range itself is what is counted, in a ledger, with one locked operation a range, is ours; other policies may be chosen.
"""

import errno

from labkit.errors import SyscallError
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs
from labkit.kernel.mm.pin.ops import PinPolicy
from labkit.kernel.mm.pin.range import RANGE
from labkit.scatter.phyr import PHYR_BYTES
from labkit.units import PAGE_SIZE


class PhyrCurrency:
    """One list of phyrs from the syscall to dma_map, pinned and released as a whole; or a list for each chunk."""

    name, per_bio = "phyr", False

    def __init__(self, policy: PinPolicy = RANGE, chunk: int = 0) -> None:
        """Count pins as `policy` does; take `chunk` ranges at a time (16: PHYR-10, 512: PHYR-11), 0 for all at once."""
        self.pins, self.chunk = policy, chunk
        self.policy = policy.name

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Take everything from `start` on, or a chunk of it.

        As a whole, a page that cannot be had fails the IO before any of it is issued (D-4); in chunks, the chunks
        before it have gone.
        """
        addr, nbytes, lbs = iocb.buf + start, iocb.nbytes - start, iocb.limits.logical_block_size
        mask = iocb.limits.dma_alignment
        if (addr | nbytes) & mask:  # upstream 7.3 checks here too, at extraction (ITER-5)
            rule = f"is not a multiple of {mask + 1} (O_DIRECT, DIO-3)"
            raise SyscallError(iocb.call, f"buf={addr:#x}", rule, errno.EINVAL)
        most = max(self.chunk, lbs // PAGE_SIZE + 2) if self.chunk else None  # a logical block fits, however it lies
        phyrs, covered, ptes, faults = get_user_phyrs(iocb.mm, addr, nbytes, write=not iocb.write, max_entries=most)
        if covered < nbytes:
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

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Do as the policy does; memory that was read into becomes dirty now, found by its addresses (P10)."""
        cost = put_user_phyrs(iocb.mm, hold.token, dirty=not iocb.write)
        return Released(cost.atomics, cost.struct_pages)
