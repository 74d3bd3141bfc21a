"""Ranges in columns: a quarter of a million of them are four megabytes, and a part of them is a view."""

from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 1024
"""Rows that become tuples at a time."""


class RangeArray(Sequence[tuple[int, int]]):
    """Ranges (address, bytes) that never change, 16 bytes each; equal to a tuple of the same pairs.

    A slice shares its rows; so does a cut, unless it begins or ends inside a range.
    """

    __slots__ = ("_ends", "rows")

    rows: NDArray[np.int64]
    """A row for each range: its address, its bytes. Read-only."""

    def __init__(self, addrs: ArrayLike, lens: ArrayLike) -> None:
        """Take a column of addresses and one of lengths, in bytes. Raises ValueError for two of unequal length."""
        self.rows = np.column_stack((np.asarray(addrs, np.int64), np.asarray(lens, np.int64)))
        self.rows.flags.writeable = False
        self._ends: NDArray[np.int64] | None = None

    @classmethod
    def join(cls, parts: Iterable[Sequence[tuple[int, int]]]) -> Self:
        """Return `parts` one after the other. Raises OverflowError for an address of more than 63 bits."""
        tables = [part.rows if isinstance(part, RangeArray) else np.array(part, np.int64) for part in parts if part]
        return cls._of(np.concatenate(tables) if tables else np.empty((0, 2), np.int64))

    @property
    def addrs(self) -> NDArray[np.int64]:
        """The addresses."""
        return self.rows[:, 0]

    @property
    def lens(self) -> NDArray[np.int64]:
        """The lengths, in bytes."""
        return self.rows[:, 1]

    @property
    def nbytes(self) -> int:
        """The length of all of it, in bytes."""
        return int(self.lens.sum())

    @property
    def ends(self) -> NDArray[np.int64]:
        """How many bytes there are up to the end of each range; counted once."""
        if self._ends is None:
            self._ends = self.lens.cumsum()
        return self._ends

    def place(self, start: int, nbytes: int) -> tuple[int, int]:
        """Return the first range, and the one past the last, that hold bytes [start, start + nbytes)."""
        stop = min(start + nbytes, int(self.ends[-1])) if len(self) else 0
        if start >= stop:
            return 0, 0
        first, last = self.ends.searchsorted((start, stop - 1), "right").tolist()
        return first, last + 1

    def find(self, at: int) -> tuple[int, int]:
        """Return the range that holds byte `at`, and how deep in it that byte lies; at the end, one past the last."""
        index = int(self.ends.searchsorted(at, "right"))
        return index, at - (int(self.ends[index - 1]) if index else 0)

    def cut(self, start: int, nbytes: int) -> Self:
        """Return the ranges of bytes [start, start + nbytes): two searches, and a copy of the part if it is ragged."""
        first, stop = self.place(start, nbytes)
        rows = self.rows[first:stop]
        if not len(rows):
            return self._of(rows)
        skip = start - int(self.ends[first] - rows[0, 1])
        over = max(0, int(self.ends[stop - 1]) - start - nbytes)
        if skip or over:
            rows = rows.copy()
            rows[0] += (skip, -skip)
            rows[-1, 1] -= over
        return self._of(rows if rows[:, 1].all() else rows[rows[:, 1] > 0])

    def run_length(self) -> Self:
        """Return the ranges with each one glued to its predecessor where they touch; itself where none do."""
        apart = self.apart()
        if apart.all():
            return self
        first = np.flatnonzero(np.concatenate(([True], apart)))
        return type(self)(self.addrs[first], np.add.reduceat(self.lens, first))

    def apart(self) -> NDArray[np.bool_]:
        """Return, for each range but the first, whether it begins elsewhere than its predecessor ends."""
        apart: NDArray[np.bool_] = self.addrs[1:] != self.addrs[:-1] + self.lens[:-1]
        return apart

    @classmethod
    def _of(cls, rows: NDArray[np.int64]) -> Self:
        """Return the ranges of `rows`, which nobody writes to any more."""
        new = cls.__new__(cls)
        rows.flags.writeable = False
        new.rows, new._ends = rows, None  # noqa: SLF001 - its own
        return new

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int] | Self:
        if isinstance(index, slice):
            return self._of(self.rows[index])
        addr, nbytes = self.rows[index].tolist()
        return addr, nbytes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for at in range(0, len(self.rows), _BLOCK):
            block = self.rows[at : at + _BLOCK]
            yield from zip(block[:, 0].tolist(), block[:, 1].tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RangeArray):
            return np.array_equal(self.rows, other.rows)
        if isinstance(other, tuple):
            return len(self) == len(other) and all(map(eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        """Return what a tuple of the same pairs has."""
        return hash(tuple(self))

    def __lt__(self, other: Any) -> bool:
        """Compare as tuples do: by the first pair that differs."""
        return next((mine < its for mine, its in zip(self, other, strict=False) if mine != its), len(self) < len(other))

    def __gt__(self, other: Any) -> bool:
        """Compare as tuples do."""
        return next((mine > its for mine, its in zip(self, other, strict=False) if mine != its), len(self) > len(other))

    def __repr__(self) -> str:
        if not len(self):
            return "RangeArray()"
        return f"RangeArray({len(self)} ranges, {self.nbytes} bytes from {self[0][0]:#x} on)"
