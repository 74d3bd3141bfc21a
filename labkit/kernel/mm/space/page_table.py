"""User addresses become frames: the leaf entries of one mapping, as the words that the hardware would read."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.kernel.mm.space.leaves import Leaf, Leaves, leaf
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PRESENT, PAGE_PSE
from labkit.scatter.payload import Range, Ranges, ranges_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_TIGHT_LOOP = 32
"""Pages up to which a plain loop beats numpy."""
_LISTED = 20_000
"""Runs up to which a list is searched; more stand in columns."""
_CACHED = 512
"""Pages from which on a walk is remembered as runs."""


class Piece(NamedTuple):
    """Entries [first, last) that a walk finds alike: under leaves of `leaf.order`, or PTEs, where `leaf` is None."""

    first: int
    last: int
    leaf: Leaf | None


class PageTable:
    """The entries of one mapping: PTEs as words in a row, PMD and PUD leaves as ranges.

    A short walk is a loop over words, a long one a difference of words, since two entries map neighbours with equal
    rights exactly when they differ by 4096. What the second long walk found is kept as runs until an entry changes.
    """

    __slots__ = ("_cache", "_leaves", "_walked", "_words", "pages", "ptes")

    def __init__(self, pages: int, words: NDArray[np.uint64] | None = None) -> None:
        """Make `pages` entries that are not present; no memory is spent on them before the first is set."""
        self.pages = pages
        self._words = words
        self.ptes = memoryview(b"").cast("Q") if words is None else memoryview(words.data)
        """The PTEs as numbers; empty while there is none."""
        self._leaves = Leaves()
        self._cache: _Cache | None = None
        self._walked = False

    def word(self, at: int) -> int:
        """Return what maps page `at`: a PTE, or the word that a PTE under its leaf would be; 0 for nothing."""
        found = self._leaves.at(at) if self._leaves else None
        if found is not None:
            return found.word_at(at)
        return self.ptes[at] if self._words is not None else 0

    def leaf(self, at: int) -> Leaf | None:
        """Return the leaves that map page `at`, or None where PTEs do."""
        return self._leaves.at(at)

    def set_range(self, first: int, addr: int, pages: int, flags: int) -> None:
        """Map `pages` pages from entry `first` on to the frames from physical `addr` on, by PTEs."""
        words, start = self._ptes(), addr | flags
        self._changed()
        if pages == 1:
            self.ptes[first] = start
        else:
            words[first : first + pages] = np.arange(start, start + (pages << PAGE_SHIFT), PAGE_SIZE, dtype=np.uint64)

    def set_runs(self, first: int, runs: Sequence[Range], flags: int) -> None:
        """Map pages from entry `first` on to `runs` (physical address, bytes), in order, by PTEs."""
        addrs, lens = getattr(runs, "addrs", None), getattr(runs, "lens", None)
        if addrs is None or lens is None or len(runs) <= _TIGHT_LOOP:
            for addr, nbytes in runs:
                self.set_range(first, addr, nbytes >> PAGE_SHIFT, flags)
                first += nbytes >> PAGE_SHIFT
            return
        self._changed()
        counts = lens >> PAGE_SHIFT
        total = int(counts.sum())
        steps = np.full(total, PAGE_SIZE, np.int64)
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        steps[starts] = addrs - np.concatenate(([0], addrs[:-1] + lens[:-1] - PAGE_SIZE))
        steps[0] = int(addrs[0]) | flags
        self._ptes()[first : first + total] = np.cumsum(steps).view(np.uint64)

    def set_leaves(self, first: int, addr: int, pages: int, flags: int, order: int) -> None:
        """Map `pages` pages from `first` on by leaves of 2**`order` pages, to memory from `addr` on."""
        self.clear(first, first + pages)
        self._leaves.put(leaf(first, pages, addr, flags, order))

    def clear(self, first: int, last: int) -> None:
        """Unmap entries [first, last). A leaf that is cut in two becomes PTEs first: `split_leaf` says which."""
        self._changed()
        if self._leaves:
            self._leaves.cut(first, last)
        if self._words is not None:
            self._words[first:last] = 0

    def change(self, first: int, last: int, put: int = 0, take: int = 0) -> None:
        """Set the bits `put` and clear the bits `take` in every present entry of [first, last)."""
        self._changed()
        for piece in tuple(self.pieces(first, last)):
            lo, hi, old = piece
            if old is not None:
                self._leaves.cut(lo, hi)
                self._leaves.put(Leaf(lo, hi - lo, (old.word_at(lo) | put) & ~take, old.order))
            elif self._words is not None:
                words = self._words[lo:hi]
                here = (words & np.uint64(PAGE_PRESENT)) != 0
                words[here] = (words[here] | np.uint64(put)) & np.uint64(~take & 0xFFFF_FFFF_FFFF_FFFF)

    def split_leaf(self, at: int) -> tuple[int, int]:
        """Replace the leaf entry that maps page `at` by PTEs (__split_huge_pmd); return its [first, last)."""
        found = self._leaves.at(at)
        if found is None:
            return at, at
        first, last = found.entry(at)
        word = found.word_at(first)
        self._leaves.cut(first, last)
        self.set_range(first, word & ADDR_MASK, last - first, word & ~ADDR_MASK & ~PAGE_PSE)
        return first, last

    def pieces(self, first: int, last: int) -> Iterator[Piece]:
        """Yield [first, last) cut into stretches under leaves and stretches of PTEs, in order."""
        if not self._leaves or first >= last:
            yield Piece(first, last, None)
            return
        at = first
        for found in self._leaves.within(first, last):
            lo, hi = max(at, found.first), min(last, found.end)
            if at < lo:
                yield Piece(at, lo, None)
            yield Piece(lo, hi, found)
            at = hi
        if at < last:
            yield Piece(at, last, None)

    def entries(self, first: int, last: int) -> int:
        """Return how many entries map [first, last): PTEs, and leaves."""
        return sum(
            hi - lo if run is None else ((hi - 1 - run.first) >> run.order) - ((lo - run.first) >> run.order) + 1
            for lo, hi, run in self.pieces(first, last)
        )

    def absent(self, first: int, last: int, need: int) -> int:
        """Return the first entry in [first, last) that lacks a bit of `need`, or `last`."""
        for piece in self.pieces(first, last):
            if piece.leaf is not None:
                if piece.leaf.word & need != need:
                    return piece.first
            elif (at := self._absent_pte(piece.first, piece.last, need)) < piece.last:
                return at
        return last

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the stretches of [first, last) that nothing maps."""
        out: list[tuple[int, int]] = []
        for lo, hi, found in self.pieces(first, last):
            if found is None and self._words is None:
                out.append((lo, hi))
            elif found is None and self._absent_pte(lo, hi, PAGE_PRESENT) < hi:
                here = (self._words[lo:hi] & np.uint64(PAGE_PRESENT)) == 0  # type: ignore[index]
                edges = np.flatnonzero(np.diff(np.concatenate(([0], here.view(np.int8), [0]))))
                out += [(lo + int(a), lo + int(b)) for a, b in edges.reshape(-1, 2)]
        return out

    def present(self, first: int, last: int) -> list[tuple[int, int, int | None]]:
        """Return the stretches (first, last, leaf order or None) of [first, last) that something maps."""
        out: list[tuple[int, int, int | None]] = []
        at = first
        for lo, hi in [*self.gaps(first, last), (last, last)]:
            if at < lo:
                out += [(p.first, p.last, p.leaf and p.leaf.order) for p in self.pieces(at, lo)]
            at = hi
        return out

    def runs(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (physical addresses, bytes) of the runs of neighbours in [first, last), all present.

        They are not minimal where neighbours have entries of unequal rights.
        """
        if self._cache is not None:
            return self._cached(first, last)
        if last - first > _CACHED:
            if self._walked:  # the second long walk since an entry changed: more may follow
                return self._cached(first, last)
            self._walked = True
        return self._walk(first, last)

    def ranges(self, first: int, last: int) -> Ranges:
        """Return the same as ranges."""
        return ranges_of(*self.runs(first, last))

    def few_runs(self, first: int, last: int) -> list[Range]:
        """Return the same for a short walk, as a list."""
        out: list[Range] = []
        start = end = -1
        for at in range(first, last):
            addr = self.word(at) & ADDR_MASK if self._leaves else self.ptes[at] & ADDR_MASK
            if addr != end:
                if end >= 0:
                    out.append((start, end - start))
                start = addr
            end = addr + PAGE_SIZE
        out.append((start, end - start))
        return out

    def halves(self, at: int) -> "tuple[PageTable, PageTable]":
        """Return the table as two, before and from page `at` on; no leaf may lie across."""
        left, right = (
            PageTable(hi - lo, None if self._words is None else self._words[lo:hi])
            for lo, hi in ((0, at), (at, self.pages))
        )
        left._leaves, right._leaves = self._leaves.part(0, at), self._leaves.part(at, self.pages)  # noqa: SLF001
        return left, right

    def copy_from(self, other: "PageTable", first: int, last: int) -> None:
        """Take over the entries [first, last) of `other`, all present there."""
        self._changed()
        for lo, hi, found in other.pieces(first, last):
            if found is None:
                self._ptes()[lo:hi] = other._ptes()[lo:hi]  # noqa: SLF001 - its own kind
            else:
                self._leaves.put(Leaf(lo, hi - lo, found.word_at(lo), found.order))

    def change_but(self, first: int, last: int, but: Sequence[int], *, take: int) -> None:
        """Clear the bits `take` in [first, last), but not in the pages `but`, which are sorted."""
        for at in (*but, last):
            self.change(first, at, take=take)
            first = at + 1

    def _changed(self) -> None:
        """Forget what a walk found."""
        self._cache, self._walked = None, False

    def _ptes(self) -> NDArray[np.uint64]:
        if self._words is None:
            self._words = np.zeros(self.pages, np.uint64)
            self.ptes = memoryview(self._words.data)
        return self._words

    def _absent_pte(self, first: int, last: int, need: int) -> int:
        if self._words is None:
            return first
        if last - first <= _TIGHT_LOOP:
            ptes = self.ptes
            return next((i for i in range(first, last) if ptes[i] & need != need), last)
        if int(np.bitwise_and.reduce(self._words[first:last])) & need == need:
            return last
        bad = np.flatnonzero((self._words[first:last] & np.uint64(need)) != np.uint64(need))
        return first + int(bad[0]) if bad.size else last

    def _walk(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the runs from the entries themselves."""
        parts = [self._walk_piece(piece) for piece in self.pieces(first, last)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([a for a, _ in parts]), np.concatenate([n for _, n in parts])

    def _walk_piece(self, piece: Piece) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        lo, hi, found = piece
        if found is not None:
            addr = found.word_at(lo) & ADDR_MASK
            return np.array([addr], np.int64), np.array([(hi - lo) << PAGE_SHIFT], np.int64)
        words = self._ptes()[lo:hi]
        breaks = np.flatnonzero(np.diff(words) != PAGE_SIZE)
        if len(breaks) == hi - lo - 1:  # no two are neighbours: nothing is to be picked out
            return (words & np.uint64(ADDR_MASK)).view(np.int64), np.full(hi - lo, PAGE_SIZE, np.int64)
        heads = np.concatenate(([0], breaks + 1))
        lengths = np.diff(np.concatenate((heads, [hi - lo]))) << PAGE_SHIFT
        return (words[heads] & np.uint64(ADDR_MASK)).view(np.int64), lengths

    def _cached(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut [first, last) out of the runs of the whole mapping, which are found once for all walks to come."""
        if self._cache is None:
            if self.absent(0, self.pages, PAGE_PRESENT) < self.pages:
                return self._walk(first, last)
            self._cache = _Cache(*self._walk(0, self.pages))
        at, addrs, lens = self._cache.at, self._cache.addrs, self._cache.lens
        i, j = bisect_right(at, first) - 1, bisect_left(at, last)
        skip, over = first - at[i], at[j] - last
        if not skip and not over:
            return addrs[i:j], lens[i:j]
        addrs, lens = addrs[i:j].copy(), lens[i:j].copy()
        addrs[0] += skip << PAGE_SHIFT
        lens[0] -= skip << PAGE_SHIFT
        lens[-1] -= over << PAGE_SHIFT
        return addrs, lens


class _Cache:
    """What a long walk found: runs of physical memory, and the page at which each begins, and the last one ends."""

    __slots__ = ("addrs", "at", "lens")

    def __init__(self, addrs: NDArray[np.int64], lens: NDArray[np.int64]) -> None:
        self.addrs, self.lens = addrs, lens
        pages = np.concatenate(([0], np.cumsum(lens))) >> PAGE_SHIFT
        self.at: list[int] | memoryview = pages.tolist() if len(addrs) <= _LISTED else memoryview(pages.data)
