"""PMD and PUD leaves of one mapping: huge entries, kept as ranges of pages."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PSE
from labkit.units import PAGE_SHIFT


class Leaf(NamedTuple):
    """Leaf entries side by side: `pages` pages from page `first` on, their first word, their order (9 or 18)."""

    first: int
    pages: int
    word: int
    order: int

    @property
    def end(self) -> int:
        """The page past the last."""
        return self.first + self.pages

    def word_at(self, at: int) -> int:
        """Return the word of page `at`, as if it had an entry of its own."""
        return self.word + ((at - self.first) << PAGE_SHIFT)

    def entry(self, at: int) -> tuple[int, int]:
        """Return the pages [first, last) of the entry that maps page `at`."""
        size = 1 << self.order
        first = self.first + (at - self.first) // size * size
        return first, first + size


class Leaves:
    """Leaves in the order of pages, joined where address, memory, rights and size go on."""

    __slots__ = ("_leaves",)

    def __init__(self) -> None:
        """Begin with none."""
        self._leaves: list[Leaf] = []

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._leaves)

    def __iter__(self) -> Iterator[Leaf]:
        """Iterate in the order of pages."""
        return iter(self._leaves)

    def at(self, page: int) -> Leaf | None:
        """Return the leaf that maps `page`, or None where none does."""
        i = self._after(page)
        found = self._leaves[i - 1] if i else None
        return found if found is not None and page < found.end else None

    def within(self, first: int, last: int) -> Iterator[Leaf]:
        """Yield the leaves that map a page of [first, last)."""
        for leaf in self._leaves[max(0, self._after(first) - 1) :]:
            if leaf.first >= last:
                return
            if leaf.end > first:
                yield leaf

    def put(self, leaf: Leaf) -> None:
        """Add `leaf`, where none is."""
        i = self._after(leaf.first)
        before = self._leaves[i - 1] if i else None
        if (
            before
            and before.end == leaf.first
            and before.order == leaf.order
            and before.word_at(leaf.first) == leaf.word
        ):
            self._leaves[i - 1] = before._replace(pages=before.pages + leaf.pages)
        else:
            self._leaves.insert(i, leaf)

    def cut(self, first: int, last: int) -> None:
        """Take [first, last) out; entries across its ends have become PTEs before."""
        kept: list[Leaf] = []
        for leaf in self._leaves:
            if leaf.end <= first or leaf.first >= last:
                kept.append(leaf)
                continue
            if leaf.first < first:
                kept.append(leaf._replace(pages=first - leaf.first))
            if leaf.end > last:
                kept.append(Leaf(last, leaf.end - last, leaf.word_at(last), leaf.order))
        self._leaves = kept

    def part(self, first: int, last: int) -> "Leaves":
        """Return the leaves of [first, last), numbered from `first` on."""
        out = Leaves()
        for leaf in self.within(first, last):
            lo, hi = max(first, leaf.first), min(last, leaf.end)
            out.put(Leaf(lo - first, hi - lo, leaf.word_at(lo), leaf.order))
        return out

    def _after(self, page: int) -> int:
        return bisect_right(self._leaves, page, key=lambda leaf: leaf.first)


def leaf(first: int, pages: int, addr: int, flags: int, order: int) -> Leaf:
    """Return leaves of 2**`order` pages that map `pages` pages from `first` on to memory from `addr` on."""
    return Leaf(first, pages, addr & ADDR_MASK | flags | PAGE_PSE, order)
