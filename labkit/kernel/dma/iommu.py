"""dma-iommu: scattered frames become one device range, and stop being one, at once (strict) or later (lazy)."""

from collections.abc import Callable

from labkit.hardware.iommu import Iommu
from labkit.kernel.dma.iova import IovaDomain
from labkit.kernel.dma.ops import DmaMapping
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import run_length
from labkit.trace.events import Ranges
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

IOVA_STATE_BYTES = 16
"""sizeof(struct dma_iova_state): all that is kept for the unmap of a whole request (LAND-3)."""
FLUSH_QUEUE = 256
"""Entries of the flush queue; a full one is emptied at once (IOVA-7)."""
FLUSH_NS = 10_000_000
"""The flush queue is emptied 10 ms after its first entry (IOVA-7)."""

_LOW = PAGE_SIZE - 1


class IommuMap:
    """The two-step form for a whole request: allocate, link each range, sync; destroy as a whole (BLKDMA-3, 5)."""

    def __init__(
        self, iommu: Iommu, later: Callable[[int, Callable[[], None]], None], flushed: Callable[[int], None],
        *, strict: bool,
    ) -> None:  # fmt: skip
        """Map through `iommu`. `later(ns, f)` calls f after ns; `flushed(n)` is told of n deferred invalidations."""
        self._iommu, self._later, self._flushed = iommu, later, flushed
        self._iovas = IovaDomain()
        self.queue: list[DmaMapping] = []
        """Unmapped, and reachable until the flush."""
        self._timer = 0
        self.stale, self.syncs = not strict, int(strict)

    def map(self, ranges: Ranges, cls: MemoryClass = RAM) -> DmaMapping:  # noqa: ARG002 - an entry leads anywhere
        """Give `ranges` one device range; each joint must lie on a page (BLKDMA-3, the virt boundary sees to it)."""
        phys = ranges if len(ranges) == 1 else run_length(ranges)
        offset = phys[0][0] & _LOW
        nbytes = sum([length for _addr, length in phys]) if isinstance(phys, tuple) else phys.nbytes
        pages = (offset + nbytes + _LOW) >> PAGE_SHIFT
        iova = self._iovas.alloc(pages) << PAGE_SHIFT
        at = iova + offset
        for addr, length in phys:
            self._iommu.map(at, addr, length)
            at += length
        return DmaMapping(((iova + offset, nbytes),), phys, len(phys), pages, IOVA_STATE_BYTES)

    def unmap(self, mapping: DmaMapping) -> None:
        """Destroy the range: entries out now, the IOTLB told now (strict) or with the next flush (lazy)."""
        ((addr, nbytes),) = mapping.dma
        self._iommu.unmap(addr, nbytes)
        if not self.stale:
            self._iommu.invalidate(addr, nbytes)
            self._free(mapping)
            return
        if not self.queue:
            self._arm()
        self.queue.append(mapping)
        if len(self.queue) >= FLUSH_QUEUE:
            self.flush()

    def flush(self) -> None:
        """Invalidate the whole IOTLB once, and only then let the queued addresses be used again."""
        if self.queue:
            self._iommu.invalidate_all()
            for mapping in self.queue:
                self._free(mapping)
            self.queue.clear()
            self._timer += 1
            self._flushed(1)

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that driver and device share for good."""
        iova = self._iovas.alloc((nbytes + _LOW) >> PAGE_SHIFT) << PAGE_SHIFT
        self._iommu.map(iova, phys, nbytes)
        return DmaAddr(iova)

    def _free(self, mapping: DmaMapping) -> None:
        ((addr, nbytes),) = mapping.dma
        self._iovas.free(addr >> PAGE_SHIFT, ((addr & _LOW) + nbytes + _LOW) >> PAGE_SHIFT)

    def _arm(self) -> None:
        mine = self._timer
        self._later(FLUSH_NS, lambda: self.flush() if mine == self._timer else None)
