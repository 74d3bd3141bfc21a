"""phyr (proposed): the whole IO becomes ranges at its start, and the ranges go down as they are.

Matthew Wilcox, 27 Jan 2024 (PHYR-28), and for the pin as a whole the RFC of 10 Jan 2022 (PHYR-16, PHYR-17). That the
range itself is what is counted, in a ledger, with one locked operation a range, is ours.
"""

import errno

from labkit.errors import SyscallError
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.mm.gup import get_user_phyrs
from labkit.scatter.phyr import PHYR_BYTES
from labkit.units import UserAddr


class PhyrCurrency:
    """One PhyrList from the syscall to dma_map, pinned and released as a whole."""

    name, policy, per_bio = "phyr", "range", False

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Take everything from `start` on: a page that cannot be had fails the IO before any of it is issued (D-4)."""
        addr, nbytes = iocb.buf + start, iocb.nbytes - start
        mask = iocb.limits.dma_alignment
        if (addr | nbytes) & mask:  # upstream 7.3 checks here too, at extraction (ITER-5)
            rule = f"is not a multiple of {mask + 1} (O_DIRECT, DIO-3)"
            raise SyscallError(iocb.call, f"buf={addr:#x}", rule, errno.EINVAL)
        phyrs, ptes = get_user_phyrs(iocb.mm, UserAddr(addr), nbytes, write=not iocb.write)
        return Hold(phyrs, nbytes, None, phyrs.vecs, ptes, len(phyrs), 0, PHYR_BYTES * len(phyrs))

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:  # noqa: ARG002 - the protocol's
        """One locked operation a range; no struct page is looked at."""
        return Released(len(hold.ranges), 0)
