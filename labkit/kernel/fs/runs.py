"""Sorted runs: what a filesystem remembers of a file, or of its device, as ranges that never overlap."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Any, Generic, Protocol, Self, TypeVar

_LEAF = 256
"""Runs of a leaf, give or take: what a change copies. A million runs make 4,000 leaves."""
FOREVER = 1 << 63
"""Behind the last byte that anything can have."""

_start = itemgetter(0)


class Run(Protocol):
    """Bytes [start, end) and what is said of them: a tuple whose first field is where it begins."""

    @property
    def end(self) -> int:
        """The first byte behind it."""

    @property
    def length(self) -> int:
        """Bytes of it."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return a field: 0 is where the run begins."""

    def part(self, start: int, stop: int) -> Self:
        """Return what of it lies in [start, stop), some of which does."""

    def joined(self, other: Self) -> Self | None:
        """Return this run and `other`, which lies behind it, as one; None where they are two."""


R = TypeVar("R", bound=Run)


class RunMap(Generic[R]):
    """Runs in order, in leaves of some hundred as in a tree of two levels: every change costs a leaf, not the whole."""

    def __init__(self, runs: Iterable[R] = (), *, most: int = FOREVER) -> None:
        """Hold `runs`, sorted and apart; neighbours of `most` bytes together, at most, are joined where they can be."""
        self.most, self.joins = most, True
        """Bytes that are one run at most; whether neighbours that go on in each other become one."""
        self._leaves: list[list[R]] = []
        self._firsts: list[int] = []
        self._store(0, 0, self._join(runs))

    def __len__(self) -> int:
        return sum(map(len, self._leaves))

    def __iter__(self) -> Iterator[R]:
        return chain.from_iterable(self._leaves)

    def at(self, pos: int) -> R | None:
        """Return the run that holds byte `pos`, or else the first one behind it, or None."""
        return next(self._since(pos), None)

    def before(self, pos: int) -> R | None:
        """Return the last run that begins before byte `pos`, or None."""
        leaf = self._leaf(pos - 1)
        found = bisect_left(self._leaves[leaf], pos, key=_start) if self._leaves else 0
        return self._leaves[leaf][found - 1] if found else None

    def parts(self, start: int, stop: int) -> Iterator[R]:
        """Yield what lies in [start, stop), in order, cut there. Nothing may change meanwhile."""
        for run in self._since(start):
            if run[0] >= stop:
                return
            yield run if start <= run[0] and run.end <= stop else run.part(start, stop)

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield (first, end) of what no run holds in [start, stop), in order. Nothing may change meanwhile."""
        for run in self.parts(start, stop):
            if start < run[0]:
                yield start, run[0]
            start = run.end
        if start < stop:
            yield start, stop

    def splice(self, start: int, stop: int, new: Iterable[R] = ()) -> list[R]:
        """Put `new`, which lies in [start, stop), in place of all that lies there; return that.

        This is the only way in which anything changes; neighbours that go on in each other become one.
        """
        lo, hi = self._leaf(start - 1), self._leaf(stop)
        flat = list(chain.from_iterable(self._leaves[lo : hi + 1]))
        first = bisect_right(flat, start, key=_start)
        first -= first > 0 and flat[first - 1].end > start
        last = max(first, bisect_left(flat, stop, key=_start))
        old = flat[first:last]
        head = [old[0].part(old[0][0], start)] if old and old[0][0] < start else []
        tail = [old[-1].part(stop, old[-1].end)] if old and old[-1].end > stop else []
        left = max(0, first - 1)
        flat[left : last + 1] = self._join([*flat[left:first], *head, *new, *tail, *flat[last : last + 1]])
        self._store(lo, hi + 1, flat)
        return [run.part(max(start, run[0]), min(stop, run.end)) for run in old]

    def _since(self, pos: int) -> Iterator[R]:
        """Yield the runs that end behind `pos`, in order."""
        leaf = self._leaf(pos)
        if not self._leaves:
            return
        found = bisect_right(self._leaves[leaf], pos, key=_start)
        found -= found > 0 and self._leaves[leaf][found - 1].end > pos
        yield from self._leaves[leaf][found:]
        for index in range(leaf + 1, len(self._leaves)):
            yield from self._leaves[index]

    def _leaf(self, pos: int) -> int:
        """Return which leaf a run that begins at `pos` belongs to."""
        return max(0, bisect_right(self._firsts, pos) - 1)

    def _store(self, lo: int, hi: int, flat: list[R]) -> None:
        """Put `flat` in place of the leaves [lo, hi)."""
        step = _LEAF if len(flat) > 2 * _LEAF else max(1, len(flat))
        leaves = [flat[at : at + step] for at in range(0, len(flat), step)]
        self._leaves[lo:hi] = leaves
        self._firsts[lo:hi] = [leaf[0][0] for leaf in leaves]

    def _join(self, runs: Iterable[R]) -> list[R]:
        out: list[R] = []
        for run in runs:
            fits = self.joins and out and out[-1].end == run[0] and out[-1].length + run.length <= self.most
            both = out[-1].joined(run) if fits else None
            if both is None:
                out.append(run)
            else:
                out[-1] = both
        return out
