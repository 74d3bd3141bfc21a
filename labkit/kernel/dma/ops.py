"""What a driver asks of any way to map memory for its device."""

from typing import NamedTuple, Protocol

from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.trace.events import Ranges
from labkit.units import DmaAddr, PhysAddr


class DmaMapping(NamedTuple):
    """One request's memory as its device sees it, and what making it so took."""

    dma: Ranges
    """(bus address, bytes), in the order of the bytes."""
    phys: Ranges
    """The same memory as physical ranges, joined across vectors where they touch (BLKDMA-1)."""
    maps: int
    """Mapping operations."""
    ioptes: int
    """IOMMU page table entries written."""
    descriptor_bytes: int
    """What is kept in memory for the unmap."""


class DmaMapOps(Protocol):
    """Map and unmap, for one device."""

    def map(self, ranges: Ranges, cls: MemoryClass = RAM) -> DmaMapping:
        """Map physical `ranges`, all of class `cls`: dma_map_phys, with DMA_ATTR_MMIO for MMIO.

        MMIO has no kernel mapping and is never bounced (DMA-1); a foreign address is a machine address already (D-16).
        Raises SyscallError ENOMEM where no device address is left; nothing is mapped then.
        """

    def unmap(self, mapping: DmaMapping) -> None:
        """Take `mapping` back, with `syncs` IOTLB invalidations."""

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that driver and device share for good; return its bus address."""

    @property
    def stale(self) -> bool:
        """Whether an unmapped range stays reachable until a flush."""

    @property
    def syncs(self) -> int:
        """How many IOTLB invalidations an unmap waits for."""
