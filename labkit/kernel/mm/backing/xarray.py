"""Pages of a file become folios of any order, side by side: a sparse array of words (struct xarray, lib/xarray.c)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.units import MAX_PAGE_ORDER

_NODE = 1 << MAX_PAGE_ORDER
_BITS = 5
_ORDER, _PRESENT = 15, 16

Ints = NDArray[np.int64]


class Entry(NamedTuple):
    """A folio of 2**`order` pages from page `first` of the file on, in the frames from `pfn` on."""

    first: int
    pfn: int
    order: int


class XArray:
    """Folios by page. A folio of order n lies at a multiple of 2**n, so every page of it can carry the same word.

    A word is the first frame, a bit that says present, and the order; 0 is nothing. A node is the words of 1024 pages:
    8 KiB, or next to nothing where one folio of 4 MiB is all that is in it; what was never touched costs nothing.
    """

    __slots__ = ("nodes", "nrpages")

    def __init__(self) -> None:
        """Begin empty."""
        self.nodes: dict[int, Ints] = {}
        self.nrpages = 0
        """Pages that have a folio."""

    def find(self, index: int) -> Entry | None:
        """Return the folio that holds page `index`, or None."""
        node = self.nodes.get(index // _NODE)
        word = int(node[index % _NODE]) if node is not None else 0
        if not word:
            return None
        order = word & _ORDER
        return Entry(index >> order << order, word >> _BITS, order)

    def store(self, index: int, pfn: int, order: int) -> None:
        """Let the folio at frame `pfn` be pages [index, index + 2**order), which have none."""
        word = pfn << _BITS | _PRESENT | order
        self.nrpages += 1 << order
        if order == MAX_PAGE_ORDER:
            self.nodes[index // _NODE] = np.broadcast_to(np.int64(word), (_NODE,))
        else:
            at = index % _NODE
            self._node(index // _NODE)[at : at + (1 << order)] = word

    def store_all(self, indices: Ints, pfns: Ints, order: int) -> None:
        """Store many folios of one order; both columns are as long."""
        if order == MAX_PAGE_ORDER:
            for index, pfn in zip(indices.tolist(), pfns.tolist(), strict=True):
                self.store(index, pfn, order)
            return
        pages = (indices[:, None] + np.arange(1 << order)).ravel()
        words = np.repeat(pfns << _BITS | _PRESENT | order, 1 << order)
        self.nrpages += len(pages)
        edges = np.flatnonzero(np.diff(pages // _NODE)) + 1
        for some, put in zip(np.split(pages, edges), np.split(words, edges), strict=True):
            if len(some):
                self._node(int(some[0]) // _NODE)[some % _NODE] = put

    def move(self, old: int, new: int) -> None:
        """Let the folio that begins at frame `old` begin at `new`."""
        for key, node in self.nodes.items():
            here = np.flatnonzero((node >> _BITS == old) & (node != 0))
            if len(here):
                order = int(node[here[0]]) & _ORDER
                self.nrpages -= 1 << order
                self.store(key * _NODE + int(here[0]), new, order)
                return

    def erase(self, index: int, order: int) -> None:
        """Take out the folio of `order` at page `index`."""
        self.nrpages -= 1 << order
        key, at = index // _NODE, index % _NODE
        node = self.nodes[key]
        if order < MAX_PAGE_ORDER:
            node[at : at + (1 << order)] = 0
        if order == MAX_PAGE_ORDER or not node.any():
            del self.nodes[key]

    def words(self, first: int, last: int) -> Ints:
        """Return the word of each page of [first, last)."""
        out = np.zeros(last - first, np.int64)
        for key, lo, hi in self._span(first, last):
            out[key * _NODE + lo - first : key * _NODE + hi - first] = self.nodes[key][lo:hi]
        return out

    def pfns(self, first: int, last: int) -> Ints:
        """Return the frame of each page of [first, last), all of which have one."""
        words = self.words(first, last)
        found: Ints = (words >> _BITS) + (np.arange(first, last) & (np.left_shift(1, words & _ORDER) - 1))
        return found

    def entries(self, first: int, last: int) -> Iterator[Entry]:
        """Yield the folios that have a page of [first, last), in order."""
        for key, lo, hi in self._span(first, last):
            words = self.nodes[key][lo:hi]
            here = np.flatnonzero(words)
            orders = words[here] & _ORDER
            starts = (here + key * _NODE + lo) & -np.left_shift(1, orders)
            new = np.flatnonzero(np.concatenate((np.ones(min(1, len(here)), np.bool_), starts[1:] != starts[:-1])))
            columns = (starts[new], words[here[new]] >> _BITS, orders[new])
            yield from map(Entry, *(column.tolist() for column in columns))

    def _span(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yield (node, first page in it, page past the last) for each node that [first, last) touches."""
        lo, hi = first // _NODE, -(-last // _NODE)
        keys = range(lo, hi) if hi - lo < len(self.nodes) else sorted(self.nodes)
        for key in keys:
            if lo <= key < hi and key in self.nodes:
                yield key, max(first - key * _NODE, 0), min(last - key * _NODE, _NODE)

    def _node(self, key: int) -> Ints:
        if key not in self.nodes:
            self.nodes[key] = np.zeros(_NODE, np.int64)
        return self.nodes[key]
