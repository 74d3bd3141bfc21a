"""Free blocks of flash: they are used up by writing, and won back by moving what is still valid and erasing.

Ours, with counts and no map: a victim holds as many valid pages as greedy collection finds under uniform random writes,
2V/P - 1 of a block, for V valid pages in P physical ones (Agarwal and Marrow, GLOBECOM workshops 2010: a write
amplification of P / 2(P - V)). Sequential writes, which a real drive collects for less, cost the same here.
"""

import numpy as np


class Garbage:
    """The free pool of a drive. Everything is counted in pages of 4 KiB."""

    def __init__(self, pages: int, spare: float, block: int, filled: float) -> None:
        """Begin with `pages` that are sold and a share `spare` of them that is not, in blocks of `block` pages.

        A share `filled` of them has been written over and over: then the pool is at its low mark, else it is full.
        Half of what is not sold is the low mark, and the most that a block can have.
        """
        self.pages = pages
        self.physical = pages + max(2, int(pages * spare))
        self.low = (self.physical - pages) // 2
        self._block = min(block, self.low)
        self._old = int(pages * filled)
        """Pages below are valid from the beginning."""
        self._seen, self.valid = np.zeros(pages - self._old, np.bool_), self._old
        self.free = self.low if self._old else self.physical

    def write(self, first: int, pages: int) -> tuple[int, int]:
        """Use up `pages` for those from `first` on; return blocks erased and pages moved to have enough of them."""
        self.free -= pages
        if self.valid < self.pages:
            self._see(first - self._old, pages)
        if self.free >= self.low:
            return 0, 0
        moved = max(0, self._block * (2 * self.valid - self.physical) // self.physical)
        blocks = -((self.free - self.low) // (self._block - moved))
        self.free += blocks * (self._block - moved)
        return blocks, blocks * moved

    def _see(self, first: int, pages: int) -> None:
        """Count those of `pages` as valid that were never written; `first` is counted from the end of the old ones."""
        seen = self._seen
        if pages == 1:
            if first >= 0 and not seen[first]:
                seen[first] = True
                self.valid += 1
            return
        part = seen[max(0, first) : max(0, first + pages)]
        self.valid += len(part) - int(np.count_nonzero(part))
        part[:] = True
