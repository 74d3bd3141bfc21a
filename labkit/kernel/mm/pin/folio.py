"""folio (ours): a folio counts once, however many of its pages the ranges touch.

Upstream does so for registered buffers alone (REG-2); the proposal would get away from it, too (PHYR-28).
"""

import numpy as np

from labkit.kernel.mm.pin.ops import Cost, Memory, need_folios
from labkit.kernel.mm.pin.page import COUNTED
from labkit.kernel.mm.pin.tally import tally
from labkit.scatter.payload import Ranges
from labkit.scatter.phyr import Phyrs
from labkit.scatter.range_array import RangeArray


class FolioPolicy:
    """One count for each folio that is touched, in its first struct page."""

    name, label, blocks = "folio", "ours", COUNTED

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Count each folio once."""
        need_folios(self.name, mm.folios, phyrs)
        return self._count(mm, phyrs, 1)

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Take the counts off."""
        return self._count(mm, phyrs, -1)

    @staticmethod
    def _count(mm: Memory, phyrs: Phyrs, sign: int) -> Cost:
        ranges = _by_addr(phyrs.vecs)
        folios = mm.folios.pin(ranges, sign, once=True)
        return Cost(folios, tally(mm.folios, ranges).lines, folios, 0)


def _by_addr(ranges: Ranges) -> Ranges:
    """Return `ranges` by address, so that those in one folio are neighbours, and it counts once for all of them."""
    if not isinstance(ranges, RangeArray):
        return tuple(sorted(ranges)) if len(ranges) > 1 else ranges
    if bool((ranges.addrs[1:] >= ranges.addrs[:-1]).all()):
        return ranges
    order = np.argsort(ranges.addrs, kind="stable")
    return RangeArray(ranges.addrs[order], ranges.lens[order])


FOLIO = FolioPolicy()
