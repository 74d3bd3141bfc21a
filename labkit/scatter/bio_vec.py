"""Today's currency below DIO: a page, a length and an offset for each piece, 256 of them in a bio."""

import builtins
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from typing import NamedTuple, Self, overload

from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.page import Page
from labkit.scatter.payload import FEW, Range, Ranges, cut
from labkit.scatter.range_array import RangeArray
from labkit.units import PAGE_SHIFT, PAGE_SIZE, Pfn

BIO_VEC_BYTES = 16
"""sizeof(struct bio_vec), Linux 6.18 (BTF)."""


class BioVec(NamedTuple):
    """`bv_len` bytes from `bv_offset` in `bv_page` on; the length may run over many frames."""

    bv_page: Page
    bv_len: int
    bv_offset: int


class BioVecs(Sequence[BioVec]):
    """The vector table of one bio, equal to a tuple of the same bio_vecs.

    Where its bytes are is learnt by looking at each struct page (bvec_phys); here it is kept in columns, so that a part
    of a long table costs two searches, and a bio_vec is made when somebody reads it.
    """

    __slots__ = ("cls", "nbytes", "vecs")

    vecs: Ranges
    """The (physical address, length) of each bio_vec."""
    nbytes: int
    """The length in bytes."""

    def __init__(self, vecs: Ranges, cls: MemoryClass = RAM) -> None:
        """Take the physical (addr, len) of each bio_vec, all of class `cls`: RAM, or a PCI device's that has pages."""
        self.cls = cls
        if len(vecs) <= FEW:
            self.vecs = tuple(vecs)
            self.nbytes = sum([nbytes for _, nbytes in self.vecs])
        else:
            columns = vecs if isinstance(vecs, RangeArray) else RangeArray.join([vecs])
            self.vecs, self.nbytes = columns, columns.nbytes

    @classmethod
    def of(cls, ranges: Iterable[Range], kind: MemoryClass = RAM) -> Self:
        """Return one bio_vec for each physical (addr, len); all of them are of class `kind`."""
        return cls(tuple(ranges), kind)

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """One stretch: a bio never mixes two (BIO-2)."""
        return ((self.cls, self.nbytes),)

    @property
    def struct_pages(self) -> int:
        """One for each vector: page_to_phys reads its handle."""
        return len(self.vecs)

    def slice(self, start: int, nbytes: int) -> Self:
        """Return bytes [start, start + nbytes); as a bio clone does, it keeps no pin of its own."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        return type(self)(cut(self.vecs, start, nbytes), self.cls)

    def __len__(self) -> int:
        return len(self.vecs)

    @overload
    def __getitem__(self, index: int) -> BioVec: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> Self: ...
    def __getitem__(self, index: int | builtins.slice) -> BioVec | Self:
        if isinstance(index, slice):
            return type(self)(self.vecs[index], self.cls)
        return _bio_vec(*self.vecs[index])

    def __iter__(self) -> Iterator[BioVec]:
        return (_bio_vec(addr, nbytes) for addr, nbytes in self.vecs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BioVecs):
            return self.vecs == other.vecs and self.cls == other.cls
        if isinstance(other, tuple):
            return len(self) == len(other) and all(map(eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        """Return what a tuple of the same bio_vecs has."""
        return hash(tuple(self))


def _bio_vec(addr: int, nbytes: int) -> BioVec:
    return BioVec(Page(Pfn(addr >> PAGE_SHIFT)), nbytes, addr % PAGE_SIZE)
