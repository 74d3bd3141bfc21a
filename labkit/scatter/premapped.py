"""Memory that one device knows by its own addresses already: a currency of DMA addresses (DMABUF-4)."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.payload import Ranges, cut, join, run_length
from labkit.scatter.range_array import RangeArray


class DmaVecs(NamedTuple):
    """Device addresses in the order of the bytes, good for the one device that is the provider of `cls`.

    What the kernel of the RFC keeps in its own mapping object is a plain value here (ours).
    """

    vecs: Ranges
    """The (device address, bytes) of each vector, the fewest that there can be."""
    cls: MemoryClass

    @classmethod
    def of(cls, ranges: Ranges, device: str) -> Self:
        """Return the addresses that `device` has for memory, ranges that touch joined."""
        return cls(run_length(ranges), MemoryClass("dma", device))

    @classmethod
    def join(cls, parts: Iterable[Self]) -> Self:
        """Return `parts`, all of one device, one after the other."""
        parts = tuple(parts)
        return parts[0] if len(parts) == 1 else cls(run_length(join(part.vecs for part in parts)), parts[0].cls)

    @property
    def nbytes(self) -> int:
        """The length in bytes."""
        return self.vecs.nbytes if isinstance(self.vecs, RangeArray) else sum([nbytes for _, nbytes in self.vecs])

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """One stretch: all of it is one device's."""
        return ((self.cls, self.nbytes),)

    @property
    def struct_pages(self) -> int:
        """None: nobody below asks where the bytes are."""
        return 0

    def slice(self, start: int, nbytes: int) -> Self:
        """Return bytes [start, start + nbytes): arithmetic on device addresses."""
        if start == 0 and nbytes >= self.nbytes:
            return self
        return self._replace(vecs=cut(self.vecs, start, nbytes))
