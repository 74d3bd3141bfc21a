"""What the layers below DIO ask of any currency: how long it is, where its bytes are, and a slice of it."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.range_array import RangeArray

Range = tuple[int, int]
"""An address and a length, both in bytes."""
Ranges = tuple[Range, ...] | RangeArray
"""Few of them in a tuple, many in columns; the two are equal where their pairs are."""
FEW = 32
"""Up to here a loop over tuples is faster than columns."""


class Payload(Protocol):
    """The memory of one bio, in whatever type its currency carries."""

    @property
    def nbytes(self) -> int:
        """Return the length in bytes."""

    @property
    def vecs(self) -> Ranges:
        """Return the (physical address, length) of each vector, in the order of the bytes."""

    @property
    def cls(self) -> MemoryClass:
        """Return what kind of memory the first byte is; in a bio, all of them are (D-8)."""

    @property
    def classes(self) -> Sequence[tuple[MemoryClass, int]]:
        """Return (class, bytes) of each stretch of one class, in the order of the bytes."""

    @property
    def struct_pages(self) -> int:
        """Return how many struct pages must be read to learn `vecs`: 0 where the currency is physical."""

    def slice(self, start: int, nbytes: int) -> "Payload":
        """Return the part of `nbytes` bytes that begins `start` bytes in, classes and all; pins do not change."""


def run_length(ranges: Sequence[Range]) -> Ranges:
    """Return `ranges` with each one glued to its predecessor where they touch."""
    if type(ranges) is RangeArray:  # isinstance asks the ABC, which takes as long as the cut of a short list
        return ranges.run_length()
    out: list[Range] = []
    for addr, nbytes in ranges:
        if out and out[-1][0] + out[-1][1] == addr:
            out[-1] = (out[-1][0], out[-1][1] + nbytes)
        else:
            out.append((addr, nbytes))
    return tuple(out)


def cut(ranges: Sequence[Range], start: int, nbytes: int) -> Ranges:
    """Return the (addr, len) pairs that hold bytes [start, start + nbytes) of `ranges`."""
    if type(ranges) is RangeArray:
        return ranges.cut(start, nbytes)
    out: list[Range] = []
    for addr, length in ranges:
        if nbytes <= 0:
            break
        if start >= length:
            start -= length
            continue
        take = min(length - start, nbytes)
        out.append((addr + start, take))
        start, nbytes = 0, nbytes - take
    return tuple(out)


def ranges_of(addrs: NDArray[np.int64], lens: NDArray[np.int64]) -> Ranges:
    """Return a column of addresses and one of lengths, in bytes, as ranges."""
    if len(addrs) <= FEW:
        return tuple(zip(addrs.tolist(), lens.tolist(), strict=True))
    return RangeArray(addrs, lens)


def join(parts: Iterable[Ranges]) -> Ranges:
    """Return `parts` one after the other, in columns where they are many."""
    parts = tuple(parts)
    if len(parts) == 1 and len(parts[0]) <= FEW:
        return parts[0]
    if sum(map(len, parts)) <= FEW:
        return tuple(each for part in parts for each in part)
    return RangeArray.join(parts)
