"""Which frames are free, a byte each, made 4 MiB of frames at a time: what struct page would tell.

Only a block of the greatest order that is free in part has bytes of its own; so fresh memory costs nothing, and what is
taken or given back 4 MiB at a time next to nothing. A look-up costs one dict and one byte, some 50 ns.
"""

import numpy as np
from numpy.typing import NDArray

from labkit.units import MAX_PAGE_ORDER

_BLOCK = 1 << MAX_PAGE_ORDER
_MASK = _BLOCK - 1
_FREE = bytes([1]) * _BLOCK


class FreeMap:
    """The free frames below the untouched tail of a zone. What it does not know is allocated."""

    __slots__ = ("blocks",)

    def __init__(self) -> None:
        self.blocks: dict[int, bytearray | bytes] = {}
        """By frame number over 1024: 1 for a frame that is free."""

    def split(self, pfn: int) -> None:
        """Give the 1024 free frames from `pfn` on bytes of their own: not all of them stay free."""
        self.blocks[pfn >> MAX_PAGE_ORDER] = bytearray(_FREE)

    def any_free(self, pfn: int, frames: int) -> bool:
        """Return whether one of `frames` frames from `pfn` on is free."""
        while frames > 0:
            at = pfn & _MASK
            known = self.blocks.get(pfn >> MAX_PAGE_ORDER)
            if known is not None and known.find(1, at, at + frames) >= 0:
                return True
            pfn, frames = pfn - at + _BLOCK, frames - _BLOCK + at
        return False

    def set_free(self, pfn: int, frames: int) -> None:
        """Note that `frames` frames from `pfn` on are free."""
        while frames > 0:
            at, block = pfn & _MASK, pfn >> MAX_PAGE_ORDER
            take = min(frames, _BLOCK - at)
            if take == _BLOCK:
                self.blocks[block] = _FREE
            else:
                self._own(block)[at : at + take] = _FREE[:take]
            pfn, frames = pfn + take, frames - take

    def set_used(self, pfn: int, frames: int) -> None:
        """Note that `frames` frames from `pfn` on are allocated."""
        while frames > 0 and self.blocks:
            at, block = pfn & _MASK, pfn >> MAX_PAGE_ORDER
            take = min(frames, _BLOCK - at)
            if take == _BLOCK:
                self.blocks.pop(block, None)
            elif block in self.blocks:
                self._own(block)[at : at + take] = bytes(take)
            pfn, frames = pfn + take, frames - take

    def _own(self, block: int) -> bytearray:
        known = self.blocks.get(block)
        if not isinstance(known, bytearray):
            known = self.blocks[block] = bytearray(known or _BLOCK)
        return known

    def set_blocks_used(self, pfns: NDArray[np.int64], order: int) -> None:
        """Note that the blocks of 2**`order` frames at `pfns`, in any order, are allocated."""
        pfns = np.sort(pfns)
        groups = np.split(pfns, np.flatnonzero(np.diff(pfns >> MAX_PAGE_ORDER)) + 1) if len(pfns) else []
        for group in groups:
            block = int(group[0]) >> MAX_PAGE_ORDER
            if block in self.blocks:
                np.frombuffer(self._own(block), np.uint8).reshape(-1, 1 << order)[(group & _MASK) >> order] = 0
