import pytest

from labkit.kernel.block.driver_limits import ahci_limits, null_limits, pmem_limits, virtio_limits
from labkit.kernel.version import KERNELS

SIZE_MAX = (1 << 64) - 1


def test_a_virtio_disk_has_the_limits_that_were_measured():
    limits = virtio_limits(254, depth=256, max_mapping_size=SIZE_MAX)
    # LIM-5: 254 segments of any size, 4096 KiB of no limit, alignment 511, no boundary, 256 requests
    assert (limits.max_segments, limits.max_segment_size, limits.max_sectors) == (254, (1 << 32) - 1, 8192)
    assert (limits.dma_alignment, limits.virt_boundary_mask, limits.nr_requests) == (511, 0, 256)
    assert limits.max_hw_sectors == (1 << 32) - 1


def test_a_bounce_makes_the_segments_of_a_virtio_disk_small():
    assert virtio_limits(254, depth=256, max_mapping_size=256 << 10).max_segment_size == 256 << 10


def test_a_sata_drive_has_the_limits_that_were_measured():
    limits = ahci_limits(depth=32, max_mapping_size=SIZE_MAX, write_cache=True)
    assert (limits.max_segments, limits.max_segment_size, limits.max_hw_sectors // 2) == (168, 65536, 32767)
    assert (limits.nr_requests, limits.write_cache) == (32, True)
    assert ahci_limits(depth=32, max_mapping_size=256 << 10, write_cache=False).max_hw_sectors == 512


@pytest.mark.parametrize(("kernel", "sectors"), [("6.1", 2560), ("6.12", 2560), ("6.18", 8192), ("7.3", 8192)])
def test_the_cap_is_the_kernels(kernel, sectors):
    rules = KERNELS[kernel]
    assert virtio_limits(254, depth=256, max_mapping_size=SIZE_MAX, rules=rules).max_sectors == sectors
    assert ahci_limits(depth=32, max_mapping_size=SIZE_MAX, write_cache=False, rules=rules).max_sectors == sectors


def test_null_blk_has_the_odd_number_of_sectors():
    assert (null_limits().max_sectors, null_limits().max_segments) == (255, 128)


def test_pmem_never_splits():
    limits = pmem_limits()
    assert (limits.max_sectors, limits.max_segment_size) == ((1 << 32) - 1, (1 << 32) - 1)
    assert (limits.max_segments, limits.physical_block_size) == (65535, 4096)
