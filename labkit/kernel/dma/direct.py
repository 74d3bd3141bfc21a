"""Direct mapping: a bus address is a physical address, and the device reaches all of memory (DMA-1)."""

from labkit.kernel.dma.ops import DmaMapping
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import run_length
from labkit.trace.events import Ranges
from labkit.units import DmaAddr, PhysAddr


class DirectMap:
    """No IOMMU: one range out for each range in, nothing to undo (BLKDMA-5)."""

    stale, syncs = False, 0

    def map(self, ranges: Ranges, cls: MemoryClass = RAM) -> DmaMapping:  # noqa: ARG002 - all classes are alike here
        """Join what touches (BLKDMA-1) and hand out the addresses as they are, whatever class they are of (DMA-1)."""
        phys = ranges if len(ranges) == 1 else run_length(ranges)
        return DmaMapping(phys, phys, maps=len(phys), ioptes=0, descriptor_bytes=0)

    def unmap(self, mapping: DmaMapping) -> None:
        """Do nothing: dma_need_unmap is false."""

    def alloc_coherent(self, phys: PhysAddr, _nbytes: int) -> DmaAddr:
        """Return `phys`."""
        return DmaAddr(phys)
