"""What others keep of memory, in columns: 13 bytes an entry, and a tuple of triples to whoever reads it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Triple = tuple[int, int, str]
"""(first frame, frames, kind)."""


class Others(Sequence[Triple]):
    """A frozen sequence of (first frame, frames, kind): iterates, indexes and compares like a tuple of them."""

    __slots__ = ("first", "frames", "kind", "kinds")

    def __init__(
        self, first: NDArray[np.int64], frames: NDArray[np.int32], kind: NDArray[np.uint8], kinds: tuple[str, ...]
    ) -> None:
        """Take columns of equal length, which become read-only; `kind` counts in `kinds`."""
        self.first, self.frames, self.kind = first.view(), frames.view(), kind.view()
        for column in (self.first, self.frames, self.kind):
            column.flags.writeable = False
        self.kinds = kinds

    @classmethod
    def of(cls, triples: Iterable[Triple]) -> "Others":
        """Return the columns of `triples`; those of an Others are used as they are."""
        if isinstance(triples, Others):
            return triples
        first, frames, names = zip(*rows, strict=True) if (rows := tuple(triples)) else ((), (), ())
        kinds = tuple(dict.fromkeys(names))
        code = {name: i for i, name in enumerate(kinds)}
        kind = np.array([code[name] for name in names], np.uint8)
        return cls(np.array(first, np.int64), np.array(frames, np.int32), kind, kinds)

    def rows(self) -> list[Triple]:
        """Return the triples as a list, made in one go."""
        names = map(self.kinds.__getitem__, self.kind.tolist())
        return list(zip(self.first.tolist(), self.frames.tolist(), names, strict=True))

    def inside(self, starts: NDArray[np.int64], size: int) -> "Others":
        """Return the entries that share a frame with one of the spans of `size` frames at `starts`, which ascend."""
        if not len(starts):
            return self._pick(np.zeros(len(self), np.bool_))
        span = np.searchsorted(starts, self.first + self.frames, side="left") - 1
        return self._pick((span >= 0) & (starts[span] + size > self.first))

    def __add__(self, more: Iterable[Triple]) -> "Others":
        other = Others.of(more)
        kinds = tuple(dict.fromkeys((*self.kinds, *other.kinds)))
        into = np.array([kinds.index(name) for name in other.kinds] or [0], np.uint8)
        kind = np.concatenate((self.kind, into[other.kind]))
        first, frames = np.concatenate((self.first, other.first)), np.concatenate((self.frames, other.frames))
        return Others(first, frames, kind, kinds)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[Triple]:
        return iter(self.rows())

    @overload
    def __getitem__(self, at: int) -> Triple: ...
    @overload
    def __getitem__(self, at: slice) -> "Others": ...
    def __getitem__(self, at: int | slice) -> "Triple | Others":
        if isinstance(at, slice):
            return self._pick(at)
        return int(self.first[at]), int(self.frames[at]), self.kinds[self.kind[at]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Others | tuple):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, Others) and self.kinds == other.kinds:
            pairs = ((self.first, other.first), (self.frames, other.frames), (self.kind, other.kind))
            return all(np.array_equal(mine, theirs) for mine, theirs in pairs)
        return self.rows() == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{len(self)} runs of frames, {int(self.frames.sum())} in all"

    def _pick(self, where: slice | NDArray[np.bool_]) -> "Others":
        return Others(self.first[where], self.frames[where], self.kind[where], self.kinds)
