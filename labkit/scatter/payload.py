"""What the layers below DIO ask of any currency: how long it is, where its bytes are, and a slice of it."""

from collections.abc import Sequence
from typing import Protocol, Self

Range = tuple[int, int]
"""An address and a length, both in bytes."""


class Payload(Protocol):
    """The memory of one bio, in whatever type its currency carries."""

    @property
    def nbytes(self) -> int:
        """Return the length in bytes."""

    @property
    def vecs(self) -> Sequence[Range]:
        """Return the (physical address, length) of each vector, in the order of the bytes."""

    @property
    def struct_pages(self) -> int:
        """Return how many struct pages must be read to learn `vecs`: 0 where the currency is physical."""

    def slice(self, start: int, nbytes: int) -> Self:
        """Return the part of `nbytes` bytes that begins `start` bytes in; pins do not change."""


def run_length(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Return `ranges` with each one glued to its predecessor where they touch."""
    out: list[Range] = []
    for addr, nbytes in ranges:
        if out and out[-1][0] + out[-1][1] == addr:
            out[-1] = (out[-1][0], out[-1][1] + nbytes)
        else:
            out.append((addr, nbytes))
    return tuple(out)


def cut(ranges: Sequence[Range], start: int, nbytes: int) -> tuple[Range, ...]:
    """Return the (addr, len) pairs that hold bytes [start, start + nbytes) of `ranges`."""
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
