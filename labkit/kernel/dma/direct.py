"""Direct mapping: a bus address is a physical address, where the device can reach that; else the bytes are bounced."""

import errno
from collections.abc import Sequence

from labkit.errors import BadInput, SyscallError
from labkit.kernel.dma.ops import NO_ATTRS, NOTHING, Attrs, DmaDevice, DmaDir, Undone
from labkit.kernel.dma.piecewise import SIZE_MAX, Piecewise, map_each, total
from labkit.kernel.dma.swiotlb import SwioTlb
from labkit.scatter.payload import Range, Ranges
from labkit.scatter.range_array import RangeArray
from labkit.units import DmaAddr, PhysAddr


class DirectMap(Piecewise):
    """No IOMMU (dma_direct_map_phys): one range out for each range in."""

    def __init__(self, dev: DmaDevice | None = None, swiotlb: SwioTlb | None = None, *, force: bool = False) -> None:
        """Map for `dev`. `swiotlb`: where what it cannot reach is bounced; `force`: everything is (swiotlb=force)."""
        self.dev = dev or DmaDevice()
        self.swiotlb, self._force = swiotlb, force
        self.ioptes = 0

    @property
    def bounced(self) -> int:
        """Bytes copied so far."""
        return self.swiotlb.bounced if self.swiotlb else 0

    def map_phys(self, phys: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> DmaAddr:  # noqa: A002 - the kernel's name
        """Return `phys` if the device reaches all of it (DMA-1), else the address of its bounce.

        Raises SyscallError EIO where neither goes, ENOMEM where the pool is full.
        """
        if phys + nbytes - 1 <= self.dev.mask and not self._force:
            return DmaAddr(phys)
        if attrs & (Attrs.MMIO | Attrs.MACHINE):
            raise self._refusal(phys, nbytes, "memory that the kernel has not mapped is never bounced (SWI-4, D-9)")
        if self.swiotlb is None:
            raise self._refusal(phys, nbytes, "there is no pool to bounce it through (DMA-1)")
        slot = self.swiotlb.map(phys, nbytes, self.dev)
        if slot + nbytes - 1 > self.dev.mask:
            self.swiotlb.unmap(slot, nbytes, dir, Attrs.SKIP_CPU_SYNC)
            raise self._refusal(slot, nbytes, "so is its bounce (DMA-1)")
        return DmaAddr(slot)

    def unmap_phys(self, addr: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> Undone:  # noqa: A002 - the kernel's name
        """Copy a bounce back, and free its slots; else there is nothing to do (BLKDMA-5)."""
        if self.swiotlb is None or not self.swiotlb.owns(addr):
            return NOTHING
        return Undone(bounced=self.swiotlb.unmap(addr, nbytes, dir, attrs))

    def map_sg(self, sg: Sequence[Range], dir: DmaDir, attrs: Attrs = NO_ATTRS) -> tuple[Range, ...]:  # noqa: A002 - the same
        """Map each entry for itself: none is merged (DMA-2)."""
        return map_each(self, sg, dir, attrs)

    def unmap_sg(self, sg: Sequence[Range], dma: Sequence[Range], dir: DmaDir) -> Undone:  # noqa: A002, ARG002 - the same
        """Take each entry back."""
        return total([self.unmap_phys(addr, nbytes, dir) for addr, nbytes in dma]) if self.swiotlb else NOTHING

    def phys_of(self, dma: Sequence[Range]) -> Ranges:
        """Return `dma` itself; of a bounce, the memory that is bounced."""
        if self.swiotlb is None:
            return dma if isinstance(dma, RangeArray) else tuple(dma)
        pool = self.swiotlb
        return tuple((pool.origin(addr), n) if pool.owns(addr) else (addr, n) for addr, n in dma)

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Return `phys`. Raises BadInput EIO where the device does not reach it: no machine is built then (DMA-1)."""
        if phys + nbytes - 1 > self.dev.mask:
            what = f"device_mask={self.dev.mask.bit_length()}"
            rule = f"does not reach the memory that driver and device share, {phys:#x}+{nbytes} (DMA-1)"
            raise BadInput("dma", what, rule, errno.EIO)
        return DmaAddr(phys)

    @property
    def need_unmap(self) -> bool:
        """Whether a bounce may have to be copied back."""
        return self.swiotlb is not None

    @property
    def max_mapping_size(self) -> int:
        """No limit but that of a pool: 256 KiB less what keeps its alignment (SWI-1, DMA-4)."""
        return self.swiotlb.max_mapping_size(self.dev) if self.swiotlb else SIZE_MAX

    @property
    def opt_mapping_size(self) -> int:
        """As much as a mapping may have (DMA-4)."""
        return self.max_mapping_size

    def _refusal(self, phys: int, nbytes: int, why: str) -> SyscallError:
        bits = self.dev.mask.bit_length()
        beyond = phys + nbytes - 1 > self.dev.mask
        rule = f"is beyond the {bits} bits of the device's mask, and {why}" if beyond else why
        return SyscallError("dma", f"{phys:#x}+{nbytes}", rule, errno.EIO)
