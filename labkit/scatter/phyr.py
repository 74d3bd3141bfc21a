"""The hero: a physical address range, and the list of them that travels from the syscall to the DMA mapping.

Proposed: Matthew Wilcox, "Phyr Starter", 10 Jan 2022 (YdyKWeU0HTv8m7wD@casper), and again on 27 Jan 2024
(ZbVO2RKhw-dLUMvf@casper). The pair is PHYR-1; the class beside it is where the lab answers PHYR-19.
"""

import builtins
import errno
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby, repeat
from operator import attrgetter, eq
from typing import NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

from labkit.errors import InvariantError
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import FEW, Range, cut
from labkit.scatter.range_array import RangeArray
from labkit.units import PhysAddr

PHYR_BYTES = 16
"""The size of one phyr in bytes on a 64-bit machine (PHYR-1); the same as a bio_vec."""

Ints = Sequence[int] | NDArray[np.int64]


class Phyr(NamedTuple):
    """`len` bytes of physical memory from `addr` (PHYR-1), all of one class."""

    addr: PhysAddr
    len: int
    cls: MemoryClass = RAM

    def __repr__(self) -> str:
        """Return it with its address in hex; the class is told where it is not RAM."""
        return f"Phyr({self.addr:#x}, {self.len}{'' if self.cls == RAM else f', {self.cls}'})"


def phyr_merge(a: Phyr, b: Phyr) -> Phyr | None:
    """Return `a` and `b` as one phyr, or None where they are of two classes or do not touch."""
    if a.addr + a.len == b.addr and a.cls == b.cls:
        return Phyr(a.addr, a.len + b.len, a.cls)
    return None


def phyr_split(phyr: Phyr, nbytes: int) -> tuple[Phyr, Phyr]:
    """Return the first `nbytes` bytes of `phyr`, and the rest. Raises InvariantError where one would be empty."""
    if not 0 < nbytes < phyr.len:
        raise InvariantError("phyr", f"a split at {nbytes}", f"leaves nothing of {phyr.len} bytes", errno.EINVAL)
    return phyr._replace(len=nbytes), phyr._replace(addr=PhysAddr(phyr.addr + nbytes), len=phyr.len - nbytes)


class PhyrList(tuple[Phyr, ...]):
    """The memory of one IO: phyrs in the order of the bytes, no two neighbours of which could be one.

    A tuple, so that it is frozen, compares by value and costs one allocation. None of its phyrs is empty.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return every phyr: in this form there are few."""
        return f"PhyrList({', '.join(map(repr, self))})"

    @classmethod
    def coalesce(cls, pieces: Iterable[Phyr]) -> Self:
        """Return the shortest list of the same bytes: neighbours that touch and are of one class are joined."""
        out: list[Phyr] = []
        for piece in pieces:
            both = phyr_merge(out[-1], piece) if out else None
            if both:
                out[-1] = both
            elif piece.len:
                out.append(piece)
        return cls(out)

    @property
    def nbytes(self) -> int:
        """The length in bytes."""
        return self[0].len if len(self) == 1 else sum(phyr.len for phyr in self)

    @property
    def vecs(self) -> tuple[Range, ...]:
        """The (physical address, length) of each phyr."""
        return (self[0][:2],) if len(self) == 1 else tuple([phyr[:2] for phyr in self])

    @property
    def cls(self) -> MemoryClass:
        """The class of the first byte."""
        return self[0].cls if self else RAM

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """(class, bytes) of each stretch of one class."""
        if len(self) == 1:
            return ((self[0].cls, self[0].len),)
        return tuple((cls, sum(phyr.len for phyr in run)) for cls, run in groupby(self, attrgetter("cls")))

    @property
    def struct_pages(self) -> int:
        """None: a phyr is an address already."""
        return 0

    def slice(self, start: int, nbytes: int) -> Self:
        """Return bytes [start, start + nbytes): arithmetic alone, no pin is touched."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        first = bisect_right(list(accumulate(phyr.len for phyr in self)), start)
        parts = zip(cut(self.vecs, start, nbytes), self[first:], strict=False)
        return type(self)(Phyr(PhysAddr(addr), length, phyr.cls) for (addr, length), phyr in parts)


class PhyrArray(Sequence[Phyr]):
    """The same for a long list: two columns, and one that tells the class where there is more than one.

    `kinds` are the classes; `codes` says, for each range, which of them it is of. Made by phyrs_of.
    """

    __slots__ = ("_codes", "_kinds", "vecs")

    def __init__(self, vecs: RangeArray, kinds: tuple[MemoryClass, ...], codes: NDArray[np.uint16]) -> None:
        """Take a list that is minimal already."""
        self.vecs, self._kinds, self._codes = vecs, kinds, codes

    def __repr__(self) -> str:
        """Return how many there are, of how many bytes, and the first."""
        return f"PhyrArray({len(self)} phyrs, {self.nbytes} bytes, the first {self[0]})"

    @property
    def nbytes(self) -> int:
        """The length in bytes."""
        return int(self.vecs.ends[-1])

    @property
    def cls(self) -> MemoryClass:
        """The class of the first byte."""
        return self._kinds[int(self._codes[0])]

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """(class, bytes) of each stretch of one class."""
        if len(self._kinds) == 1:
            return ((self._kinds[0], self.nbytes),)
        first = np.flatnonzero(np.concatenate(([True], self._codes[1:] != self._codes[:-1])))
        nbytes = np.add.reduceat(self.vecs.lens, first).tolist()
        return tuple(zip((self._kinds[code] for code in self._codes[first]), nbytes, strict=True))

    @property
    def struct_pages(self) -> int:
        """None: a phyr is an address already."""
        return 0

    def slice(self, start: int, nbytes: int) -> "Phyrs":
        """Return bytes [start, start + nbytes): two searches, and a view."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        first, stop = self.vecs.place(start, nbytes)
        return _form(self.vecs.cut(start, nbytes), self._kinds, self._codes[first:stop])

    def __len__(self) -> int:
        return len(self.vecs)

    @overload
    def __getitem__(self, index: int) -> Phyr: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> "Phyrs": ...
    def __getitem__(self, index: int | builtins.slice) -> "Phyr | Phyrs":
        if isinstance(index, slice):
            return _form(self.vecs[index], self._kinds, self._codes[index])
        addr, nbytes = self.vecs[index]
        return Phyr(PhysAddr(addr), nbytes, self._kinds[self._codes[index]])

    def __iter__(self) -> Iterator[Phyr]:
        return _phyrs(self.vecs, self._kinds, self._codes)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PhyrArray):
            return self.vecs == other.vecs and self.classes == other.classes
        if isinstance(other, tuple):
            return len(self) == len(other) and all(map(eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        """Return what a tuple of the same phyrs has."""
        return hash(tuple(self))


Phyrs = PhyrList | PhyrArray
"""The memory of one IO: short or long, the same to whoever asks."""


def phyrs_of(addrs: Ints, lens: Ints, cls: MemoryClass | Sequence[MemoryClass] = RAM) -> Phyrs:
    """Return the shortest list (invariant 7) of `lens` bytes at physical `addrs`, in the form that its length asks for.

    `cls` is the class of them all, or one for each. Pieces of no length leave no trace.
    """
    if len(addrs) <= FEW:
        each = repeat(cls) if isinstance(cls, MemoryClass) else cls
        ints = [column.tolist() if isinstance(column, np.ndarray) else column for column in (addrs, lens)]
        return PhyrList.coalesce(map(Phyr, map(PhysAddr, ints[0]), ints[1], each))
    pieces = RangeArray(addrs, lens)
    kinds, codes = _encode(cls, len(pieces))
    if not pieces.lens.all():
        kept = pieces.lens > 0
        pieces, codes = RangeArray(pieces.addrs[kept], pieces.lens[kept]), codes[kept]
    apart = pieces.apart() if len(kinds) == 1 else pieces.apart() | (codes[1:] != codes[:-1])
    if not apart.all():
        first = np.flatnonzero(np.concatenate(([True], apart)))
        pieces, codes = RangeArray(pieces.addrs[first], np.add.reduceat(pieces.lens, first)), codes[first]
    return _form(pieces, kinds, codes)


def _encode(cls: MemoryClass | Sequence[MemoryClass], count: int) -> tuple[tuple[MemoryClass, ...], NDArray[np.uint16]]:
    """Return the classes in `cls`, and which of them each of `count` ranges is of; one class takes no memory."""
    if isinstance(cls, MemoryClass):
        return (cls,), np.broadcast_to(np.uint16(0), (count,))
    table: dict[MemoryClass, int] = {}
    codes = np.fromiter((table.setdefault(each, len(table)) for each in cls), np.uint16, count)
    return tuple(table), codes


def _form(vecs: RangeArray, kinds: tuple[MemoryClass, ...], codes: NDArray[np.uint16]) -> Phyrs:
    """Return a tuple where ranges are few, columns where they are many."""
    if len(vecs) > FEW:
        return PhyrArray(vecs, kinds, codes)
    return PhyrList(_phyrs(vecs, kinds, codes))


def _phyrs(vecs: RangeArray, kinds: tuple[MemoryClass, ...], codes: NDArray[np.uint16]) -> Iterator[Phyr]:
    if len(kinds) == 1:
        return (Phyr(PhysAddr(addr), nbytes, kinds[0]) for addr, nbytes in vecs)
    return (Phyr(PhysAddr(addr), n, kinds[code]) for (addr, n), code in zip(vecs, codes, strict=True))
