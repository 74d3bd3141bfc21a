"""The hero: a physical address range, and the list of them that travels from the syscall to the DMA mapping.

Proposed: Matthew Wilcox, "Phyr Starter", 10 Jan 2022 (YdyKWeU0HTv8m7wD@casper), and again on 27 Jan 2024
(ZbVO2RKhw-dLUMvf@casper). The pair is PHYR-1; the class beside it is where the lab answers PHYR-19.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Self

from labkit.scatter.payload import Range, cut
from labkit.units import PhysAddr

PHYR_BYTES = 16
"""The size of one phyr in bytes on a 64-bit machine (PHYR-1); the same as a bio_vec."""


class MemoryClass(Enum):
    """What kind of memory a range is; ranges of two classes never join."""

    RAM = "ram"


class Phyr(NamedTuple):
    """`len` bytes of physical memory from `addr` (PHYR-1), all of one class."""

    addr: PhysAddr
    len: int
    cls: MemoryClass = MemoryClass.RAM


class PhyrList(tuple[Phyr, ...]):
    """The memory of one IO: phyrs in the order of the bytes, no two neighbours of which could be one.

    A tuple, so that it is frozen, compares by value and costs one allocation.
    """

    __slots__ = ()

    @classmethod
    def coalesce(cls, pieces: Iterable[Phyr]) -> Self:
        """Return the shortest list of the same bytes: neighbours that touch and are of one class are joined."""
        out: list[Phyr] = []
        for piece in pieces:
            last = out[-1] if out else None
            if last and last.addr + last.len == piece.addr and last.cls is piece.cls:
                out[-1] = Phyr(last.addr, last.len + piece.len, piece.cls)
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
        return tuple([phyr[:2] for phyr in self])

    @property
    def struct_pages(self) -> int:
        """None: a phyr is an address already."""
        return 0

    def slice(self, start: int, nbytes: int) -> Self:
        """Return bytes [start, start + nbytes): arithmetic alone, no pin is touched."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        return type(self)(Phyr(PhysAddr(addr), length) for addr, length in cut(self.vecs, start, nbytes))
