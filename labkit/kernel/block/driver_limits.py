"""The limits that each driver sets for its queue: virtio-blk, libata, null_blk, pmem. NVMe's stand with the rules."""

from labkit.kernel.block.limits import BLK_SAFE_MAX_SECTORS, MAX_SEGMENT_SIZE, QueueLimits
from labkit.kernel.version import NEWEST, Rules, rules_of
from labkit.units import PAGE_SIZE, SECTOR_SIZE

_UINT_MAX, _LBA48_SECTORS, _MAX_SEGMENTS = (1 << 32) - 1, 65535, 0xFFFF
_RULES = rules_of(NEWEST)[0]


def virtio_limits(seg_max: int, *, depth: int, max_mapping_size: int, rules: Rules = _RULES) -> QueueLimits:
    """Return what virtio-blk sets for a disk that takes `seg_max` segments in a queue of `depth` (VIO-2)."""
    return QueueLimits(
        max_hw_sectors=_UINT_MAX,
        max_segments=seg_max,
        max_segment_size=min(max_mapping_size, MAX_SEGMENT_SIZE),
        nr_requests=depth,
        max_sectors_cap=rules.max_sectors_cap,
    )


def ahci_limits(*, depth: int, max_mapping_size: int, write_cache: bool, rules: Rules = _RULES) -> QueueLimits:
    """Return what libata and the SCSI layer set for a drive with `depth` queued commands (AHCI-1)."""
    return QueueLimits(
        max_hw_sectors=min(_LBA48_SECTORS, max_mapping_size // SECTOR_SIZE),
        max_segments=168,
        dma_alignment=3,
        nr_requests=depth,
        write_cache=write_cache,
        max_sectors_cap=rules.max_sectors_cap,
    )


def null_limits(max_hw_sectors: int = BLK_SAFE_MAX_SECTORS) -> QueueLimits:
    """Return what null_blk sets: 255 sectors, an odd number, unless its module is told another (R10)."""
    return QueueLimits(max_hw_sectors=max_hw_sectors, nr_requests=64)


def pmem_limits() -> QueueLimits:
    """Return what pmem sets; it takes bios of any size, so that nothing is ever split (PMEM-1)."""
    return QueueLimits(
        physical_block_size=PAGE_SIZE,
        max_hw_sectors=_UINT_MAX,
        max_sectors=_UINT_MAX,
        max_segments=_MAX_SEGMENTS,
        max_segment_size=MAX_SEGMENT_SIZE,
    )
