"""What a queue can take: the limits that a device publishes, checked as the kernel checks them (LIM-1..4)."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from labkit.errors import BadInput
from labkit.units import PAGE_SIZE, SECTOR_SIZE

_MIN_SECTORS = PAGE_SIZE // SECTOR_SIZE
_MAX_LOGICAL_BLOCK = 64 << 10
MAX_SEGMENT_SIZE = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The names of /sys/block/*/queue; sizes in bytes, sectors of 512 bytes, masks as masks."""

    logical_block_size: int = 512
    physical_block_size: int = 512
    max_sectors: int = 255
    max_segments: int = 128
    max_segment_size: int = 64 << 10
    dma_alignment: int = 511
    virt_boundary_mask: int = 0
    seg_boundary_mask: int = 0xFFFF_FFFF
    nr_requests: int = 128

    @classmethod
    def from_sysfs(cls, values: Mapping[str, int]) -> Self:
        """Take the limits of a real queue, by their names in /sys/block/*/queue."""
        return cls(
            logical_block_size=values["logical_block_size"],
            physical_block_size=values["physical_block_size"],
            max_sectors=values["max_sectors_kb"] * 2,
            max_segments=values["max_segments"],
            max_segment_size=values["max_segment_size"],
            dma_alignment=values["dma_alignment"],
            virt_boundary_mask=values["virt_boundary_mask"],
            nr_requests=values["nr_requests"],
        )

    def __post_init__(self) -> None:
        """Raise BadInput for limits that blk_validate_limits refuses."""
        lbs, pbs = self.logical_block_size, self.physical_block_size
        if lbs < SECTOR_SIZE or lbs > _MAX_LOGICAL_BLOCK or lbs & (lbs - 1):
            self._refuse("logical_block_size", lbs, "is not a power of two from 512 to 64 KiB (LIM-1)")
        if pbs < lbs:
            self._refuse("physical_block_size", pbs, f"is less than the logical block of {lbs} (LIM-1)")
        if self.max_sectors < _MIN_SECTORS or self.max_sectors << 9 < lbs:
            self._refuse("max_sectors", self.max_sectors, "is less than a page (LIM-2)")
        if self.max_segments < 1 or self.nr_requests < 1:
            self._refuse("max_segments", self.max_segments, "or nr_requests is less than 1 (LIM-3)")
        if self.max_segment_size < PAGE_SIZE or self.seg_boundary_mask < PAGE_SIZE - 1:
            self._refuse("max_segment_size", self.max_segment_size, "or seg_boundary_mask is less than a page (LIM-3)")
        if self.dma_alignment > PAGE_SIZE:
            self._refuse("dma_alignment", self.dma_alignment, "is more than a page (LIM-4)")

    @staticmethod
    def _refuse(name: str, value: int, rule: str) -> None:
        raise BadInput("limits", f"{name}={value}", rule, errno.EINVAL)


def nvme_limits(mdts_bytes: int, *, iommu: bool, depth: int) -> QueueLimits:
    """Return what the NVMe driver of Linux 6.18 sets: at most 128 KiB a command behind an IOMMU (NVME-1, NVME-2)."""
    max_hw = min(8 << 20, mdts_bytes, 128 << 10 if iommu else 8 << 20)
    return QueueLimits(
        max_sectors=max_hw // SECTOR_SIZE,
        max_segments=min(256, max_hw // PAGE_SIZE + 1),
        max_segment_size=MAX_SEGMENT_SIZE,
        dma_alignment=3,
        virt_boundary_mask=PAGE_SIZE - 1,
        nr_requests=depth - 1,
    )
