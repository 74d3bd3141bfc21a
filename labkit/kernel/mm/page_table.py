"""User addresses become frames: the leaf entries of one mapping, as the words that the hardware would read."""

from array import array
from collections.abc import Iterator

import numpy as np

from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

PAGE_PRESENT, PAGE_RW, PAGE_USER, PAGE_PSE = 1, 2, 4, 1 << 7
"""Bits of an entry (PT-2)."""
ADDR_MASK = 0x000F_FFFF_FFFF_F000

_TIGHT_LOOP = 32
"""Pages up to which a plain loop beats numpy."""


class PageTable:
    """One word for each page of a mapping; under a 2 MiB leaf, 512 words that say PSE.

    The words stand in an array with a numpy view on it: a short walk is a loop, a long one a difference of words,
    since two entries map neighbours with equal rights exactly when they differ by 4096.
    """

    __slots__ = ("_words", "ptes")

    def __init__(self, pages: int) -> None:
        """Make `pages` entries that are not present."""
        self.ptes = array("Q", bytes(8 * pages))
        self._words = np.frombuffer(self.ptes, dtype=np.uint64)

    def set_range(self, first: int, addr: int, pages: int, flags: int) -> None:
        """Map `pages` pages from entry `first` on to the frames from physical `addr` on."""
        start = addr | flags
        self._words[first : first + pages] = np.arange(start, start + (pages << PAGE_SHIFT), PAGE_SIZE, dtype=np.uint64)

    def absent(self, first: int, last: int, need: int) -> int:
        """Return the first entry in [first, last) that lacks a bit of `need`, or `last`."""
        if last - first <= _TIGHT_LOOP:
            return next((i for i in range(first, last) if self.ptes[i] & need != need), last)
        bad = np.flatnonzero((self._words[first:last] & np.uint64(need)) != np.uint64(need))
        return first + int(bad[0]) if bad.size else last

    def runs(self, first: int, last: int) -> Iterator[Range]:
        """Yield (physical address, bytes) of each run of neighbours in [first, last), all present."""
        if last - first <= _TIGHT_LOOP:
            return self._runs_by_loop(first, last)
        words = self._words[first:last]
        heads = np.concatenate(([0], np.flatnonzero(np.diff(words) != PAGE_SIZE) + 1))
        lengths = np.diff(np.concatenate((heads, [last - first]))) << PAGE_SHIFT
        return zip((words[heads] & np.uint64(ADDR_MASK)).tolist(), lengths.tolist(), strict=True)

    def _runs_by_loop(self, first: int, last: int) -> Iterator[Range]:
        ptes = self.ptes
        start = last_word = ptes[first]
        for i in range(first + 1, last):
            word = ptes[i]
            if word != last_word + PAGE_SIZE:
                yield start & ADDR_MASK, last_word - start + PAGE_SIZE
                start = word
            last_word = word
        yield start & ADDR_MASK, last_word - start + PAGE_SIZE
