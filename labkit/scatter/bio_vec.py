"""Today's currency below DIO: a page, a length and an offset for each piece, 256 of them in a bio."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.page import Page, page_to_phys
from labkit.scatter.payload import Range, Ranges, cut, join
from labkit.units import PAGE_SHIFT, PAGE_SIZE, Pfn

BIO_VEC_BYTES = 16
"""sizeof(struct bio_vec), Linux 6.18 (BTF)."""


class BioVec(NamedTuple):
    """`bv_len` bytes from `bv_offset` in `bv_page` on; the length may run over many frames."""

    bv_page: Page
    bv_len: int
    bv_offset: int


class BioVecs(tuple[BioVec, ...]):
    """The vector table of one bio. Its addresses are learnt by looking at each struct page."""

    __slots__ = ()

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Self:
        """Return one bio_vec for each physical (addr, len)."""
        return cls(BioVec(Page(Pfn(addr >> PAGE_SHIFT)), length, addr % PAGE_SIZE) for addr, length in ranges)

    @property
    def nbytes(self) -> int:
        """The length in bytes."""
        return sum(vec.bv_len for vec in self)

    @property
    def vecs(self) -> Ranges:
        """The (physical address, length) of each bio_vec (bvec_phys)."""
        return join([tuple([(page_to_phys(vec.bv_page) + vec.bv_offset, vec.bv_len) for vec in self])])

    @property
    def cls(self) -> MemoryClass:
        """RAM: what has a struct page here is nothing else."""
        return RAM

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """One stretch of RAM."""
        return ((RAM, self.nbytes),)

    @property
    def struct_pages(self) -> int:
        """One for each vector: page_to_phys reads its handle."""
        return len(self)

    def slice(self, start: int, nbytes: int) -> Self:
        """Return bytes [start, start + nbytes); as a bio clone does, it keeps no pin of its own."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        return type(self).of(cut(self.vecs, start, nbytes))
