import pytest

from labkit.errors import BadInput
from labkit.kernel.block.limits import QueueLimits, nvme_limits

LOOP = {
    "logical_block_size": 512, "physical_block_size": 4096, "max_sectors_kb": 1280, "max_segments": 128,
    "max_segment_size": 65536, "dma_alignment": 511, "virt_boundary_mask": 0, "nr_requests": 128,
}  # fmt: skip


def test_the_defaults_are_the_kernels():
    limits = QueueLimits()
    assert (limits.logical_block_size, limits.physical_block_size, limits.max_sectors) == (512, 512, 255)
    assert (limits.max_segments, limits.max_segment_size, limits.seg_boundary_mask) == (128, 65536, 0xFFFFFFFF)
    assert (limits.dma_alignment, limits.virt_boundary_mask, limits.nr_requests) == (511, 0, 128)


def test_a_real_queue_speaks_kilobytes():
    limits = QueueLimits.from_sysfs(LOOP)
    assert (limits.max_sectors, limits.physical_block_size) == (2560, 4096)
    assert limits == QueueLimits(physical_block_size=4096, max_sectors=2560)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"logical_block_size": 256}, "logical_block_size=256 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 1536}, "logical_block_size=1536 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 131072}, "logical_block_size=131072 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 4096}, "physical_block_size=512 is less than the logical block of 4096 (LIM-1)"),
        ({"max_sectors": 7}, "max_sectors=7 is less than a page (LIM-2)"),
        ({"max_segments": 0}, "max_segments=0 or nr_requests is less than 1 (LIM-3)"),
        ({"nr_requests": 0}, "max_segments=128 or nr_requests is less than 1 (LIM-3)"),
        ({"max_segment_size": 4095}, "max_segment_size=4095 or seg_boundary_mask is less than a page (LIM-3)"),
        ({"seg_boundary_mask": 2047}, "max_segment_size=65536 or seg_boundary_mask is less than a page (LIM-3)"),
        ({"dma_alignment": 4097}, "dma_alignment=4097 is more than a page (LIM-4)"),
    ],
)
def test_limits_that_no_device_may_have_are_refused(values, sentence):
    with pytest.raises(BadInput) as caught:
        QueueLimits(**values)
    assert str(caught.value) == f"limits: {sentence} (-EINVAL)"


def test_a_large_logical_block_needs_as_many_sectors():
    with pytest.raises(BadInput, match="LIM-2"):
        QueueLimits(logical_block_size=65536, physical_block_size=65536, max_sectors=127)
    assert QueueLimits(logical_block_size=65536, physical_block_size=65536, max_sectors=128).max_sectors == 128


@pytest.mark.parametrize(
    ("mdts", "iommu", "sectors", "segments"),
    [
        (512 << 10, True, 256, 33),
        (512 << 10, False, 1024, 129),
        (64 << 10, True, 128, 17),
        (64 << 20, False, 16384, 256),
        (64 << 20, True, 256, 33),
    ],
)
def test_nvme_takes_128_kib_behind_an_iommu_and_what_it_can_without(mdts, iommu, sectors, segments):
    limits = nvme_limits(mdts, iommu=iommu, depth=1024)
    assert (limits.max_sectors, limits.max_segments) == (sectors, segments)
    assert (limits.dma_alignment, limits.virt_boundary_mask, limits.max_segment_size) == (3, 4095, 4294967295)
    assert limits.nr_requests == 1023
