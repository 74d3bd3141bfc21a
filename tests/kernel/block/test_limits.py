from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.kernel.block.limits import QueueLimits, nvme_limits, stack_limits
from labkit.kernel.version import KERNELS
from labkit.units import PAGE_SIZE

LOOP = {
    "logical_block_size": 512, "physical_block_size": 4096, "max_sectors_kb": 1280, "max_segments": 128,
    "max_segment_size": 65536, "dma_alignment": 511, "virt_boundary_mask": 0, "nr_requests": 128,
}  # fmt: skip

SIZE_MAX = (1 << 64) - 1


def test_the_defaults_are_the_kernels():
    limits = QueueLimits()
    assert (limits.logical_block_size, limits.physical_block_size, limits.max_sectors) == (512, 512, 255)
    assert (limits.max_segments, limits.max_segment_size, limits.seg_boundary_mask) == (128, 65536, 0xFFFFFFFF)
    assert (limits.dma_alignment, limits.virt_boundary_mask, limits.nr_requests) == (511, 0, 128)


def test_a_real_queue_speaks_kilobytes():
    limits = QueueLimits.from_sysfs(LOOP)
    assert (limits.max_sectors, limits.physical_block_size) == (2560, 4096)
    assert limits == QueueLimits(physical_block_size=4096, max_sectors=2560)


NVME_618 = LOOP | {
    "max_hw_sectors_kb": 512, "max_sectors_kb": 512, "max_segments": 129, "max_segment_size": 4294967295,
    "dma_alignment": 3, "virt_boundary_mask": 4095, "nr_requests": 1023, "physical_block_size": 512,
    "minimum_io_size": 512, "optimal_io_size": 512, "write_cache": "write back", "fua": 1, "stable_writes": 0,
    "atomic_write_unit_min_bytes": 512, "atomic_write_unit_max_bytes": 512, "atomic_write_boundary_bytes": 0,
    "scheduler": "[none] mq-deadline ", "zoned": "none", "io_poll_delay": -1, "nomerges": 2, "chunk_sectors": 0,
}  # fmt: skip


def test_a_drives_queue_says_more_and_what_is_no_limit_is_left_out():
    limits = QueueLimits.from_sysfs(NVME_618)
    assert (limits.max_sectors, limits.max_hw_sectors, limits.max_segments) == (1024, 1024, 129)
    assert (limits.write_cache, limits.fua, limits.nomerges, limits.stable_writes) == (True, True, 2, False)
    assert (limits.io_min, limits.io_opt, limits.atomic_write_unit_max) == (512, 512, 512)


def test_the_one_odd_default_hides_behind_127_kib():
    null_blk = LOOP | {"max_sectors_kb": 127, "max_hw_sectors_kb": 127}
    assert QueueLimits.from_sysfs(null_blk).max_sectors == 255
    by_hand = LOOP | {"max_sectors_kb": 127, "max_hw_sectors_kb": 1280}
    assert (QueueLimits.from_sysfs(by_hand).max_sectors, QueueLimits.from_sysfs(by_hand).max_hw_sectors) == (254, 2560)


def test_a_page_is_the_least_that_somebody_may_ask_for():
    assert QueueLimits.from_sysfs(LOOP | {"max_sectors_kb": 4}).max_sectors == 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_segments": None}, "max_segments is missing"),
        ({"max_segments": "many"}, "max_segments='many' is not a number"),
        ({"max_sectors_kb": None}, "max_sectors_kb is missing"),
    ],
)
def test_a_queue_that_does_not_say_it_is_refused(change, sentence):
    values = {name: value for name, value in (LOOP | change).items() if value is not None}
    with pytest.raises(BadInput) as caught:
        QueueLimits.from_sysfs(values)
    assert str(caught.value) == f"limits: {sentence} (-EINVAL)"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"logical_block_size": 256}, "logical_block_size=256 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 1536}, "logical_block_size=1536 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 131072}, "logical_block_size=131072 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"logical_block_size": 0}, "logical_block_size=0 is not a power of two from 512 to 64 KiB (LIM-1)"),
        ({"physical_block_size": 3 << 10}, "physical_block_size=3072 is not a power of two (LIM-1)"),
        ({"max_sectors": 7}, "max_sectors=7 is less than a page, or than a logical block (LIM-2)"),
        ({"max_hw_sectors": 7}, "max_hw_sectors=7 is less than a page, or than a logical block (LIM-2)"),
        ({"max_user_sectors": 7}, "max_user_sectors=7 is less than a page, or than a logical block (LIM-2)"),
        ({"max_segments": -1}, "max_segments=-1 is negative"),
        ({"nr_requests": 0}, "nr_requests=0 is less than 1 (MQ-2)"),
        ({"max_segment_size": 4095}, "max_segment_size=4095 is less than a page (LIM-3)"),
        ({"seg_boundary_mask": 2047}, "seg_boundary_mask=2047 is less than a page (LIM-3)"),
        ({"nomerges": 3}, "nomerges=3 is not 0, 1 or 2 (R14)"),
        ({"dma_alignment": 4097}, "dma_alignment=4097 is more than a page (LIM-4)"),
        ({"dma_alignment": 510}, "dma_alignment=510 is not a mask, such as 511 or 4095"),
        ({"virt_boundary_mask": 4096}, "virt_boundary_mask=4096 is not a mask, such as 511 or 4095"),
        ({"seg_boundary_mask": 65534}, "seg_boundary_mask=65534 is not a mask, such as 511 or 4095"),
        ({"max_segments": 1.5}, "max_segments=1.5 is not a whole number"),
        ({"max_segments": "4"}, "max_segments='4' is not a whole number"),
        ({"chunk_sectors": 1 << 32}, "chunk_sectors=4294967296 is more than 32 bits"),
        ({"virt_boundary_mask": 1 << 63}, "virt_boundary_mask=9223372036854775808 is more than 63 bits"),
        ({"virt_boundary_mask": (1 << 20000) - 1}, f"virt_boundary_mask=0x{'f' * 39} is more than 63 bits"),
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


def test_rule_lim_1_what_is_0_or_too_small_becomes_what_fits():
    limits = QueueLimits(logical_block_size=4096, io_opt=10000, max_sectors=255)
    assert (limits.physical_block_size, limits.io_min, limits.io_opt) == (4096, 4096, 8192)
    assert (limits.max_sectors, limits.max_hw_sectors) == (248, 248)


@pytest.mark.parametrize(
    ("values", "sectors"),
    [
        ({}, 255),
        ({"max_hw_sectors": 65536}, 8192),
        ({"max_hw_sectors": 65536, "max_sectors_cap": 1280 << 10}, 2560),
        ({"max_hw_sectors": 65536, "io_opt": 16 << 20}, 32768),
        ({"max_hw_sectors": 65536, "io_opt": 64 << 10}, 8192),
        ({"max_hw_sectors": 65536, "io_min": 8 << 20}, 16384),
        ({"max_hw_sectors": 65536, "io_min": 8 << 20, "io_opt": 16 << 20}, 32768),
        ({"max_hw_sectors": 65536, "io_opt": 16 << 20, "max_user_sectors": 64}, 64),
        ({"max_hw_sectors": 1024, "max_user_sectors": 4096}, 1024),
        ({"max_hw_sectors": 1024, "io_opt": 16 << 20}, 1024),
        ({"max_hw_sectors": 1024, "max_sectors": 301}, 301),
        ({"max_hw_sectors": 1024, "max_sectors": 2048}, 1024),
    ],
)
def test_rule_lim_2_what_the_queue_uses_at_a_time(values, sectors):
    assert QueueLimits(**values).max_sectors == sectors


def test_what_somebody_writes_to_max_sectors_kb_holds_until_they_write_0():
    limits = QueueLimits(max_hw_sectors=65536)
    assert [limits.asked(kb).max_sectors for kb in (4, 64, 16384, 65536)] == [8, 128, 32768, 65536]
    assert limits.asked(64).asked(0) == limits
    with pytest.raises(BadInput, match=r"max_user_sectors=6 is less than a page"):
        limits.asked(3)


def test_rule_lim_3_a_virt_boundary_lifts_the_limit_of_a_segment():
    assert QueueLimits(virt_boundary_mask=4095).max_segment_size == 4294967295
    assert QueueLimits(virt_boundary_mask=4095, max_segment_size=512).max_segment_size == 512
    assert QueueLimits(seg_boundary_mask=0, max_segments=0, dma_alignment=0) == QueueLimits()


def test_rule_lim_4_there_is_no_fua_without_a_write_cache():
    assert not QueueLimits(fua=True).fua
    assert QueueLimits(fua=True, write_cache=True).fua


@pytest.mark.parametrize(
    ("low", "high", "edge", "told"),
    [
        (512, 16384, 0, (512, 16384, 0)),
        (512, 16384, 32768, (512, 16384, 32768)),
        (4096, 16384, 8192, (0, 0, 0)),
        (1536, 16384, 0, (0, 0, 0)),
        (512, 3072, 0, (0, 0, 0)),
        (32768, 16384, 0, (0, 0, 0)),
        (512, 1 << 20, 0, (512, 262144, 0)),
    ],
)
def test_atomic_writes_that_cannot_be_are_none_and_none_is_larger_than_one_request(low, high, edge, told):
    limits = QueueLimits(
        atomic_write_unit_min=low, atomic_write_unit_max=high, atomic_write_boundary=edge, max_hw_sectors=4096
    )
    assert (limits.atomic_write_unit_min, limits.atomic_write_unit_max, limits.atomic_write_boundary) == told


@pytest.mark.parametrize(
    ("mdts", "iommu", "sectors", "segments"),
    [
        (512 << 10, True, 256, 33),
        (512 << 10, False, 1024, 129),
        (64 << 10, True, 128, 17),
        (64 << 20, False, 8192, 256),
        (64 << 20, True, 256, 33),
    ],
)
def test_nvme_takes_128_kib_behind_an_iommu_and_what_it_can_without(mdts, iommu, sectors, segments):
    limits = nvme_limits(mdts, depth=1024, opt_mapping_size=128 << 10 if iommu else SIZE_MAX)
    assert (limits.max_sectors, limits.max_segments) == (sectors, segments)
    assert (limits.dma_alignment, limits.virt_boundary_mask, limits.max_segment_size) == (3, 4095, 4294967295)
    assert limits.nr_requests == 1023


@pytest.mark.parametrize(
    ("kernel", "mdts", "iommu", "kib", "segments", "boundary"),
    [
        ("6.1", 512, True, 512, 127, 4095),
        ("6.12", 512, True, 128, 33, 4095),
        ("6.12", 4096, False, 1280, 128, 4095),
        ("6.18", 512, False, 512, 129, 4095),
        ("6.18", 4096, False, 4096, 256, 4095),
        ("7.3", 512, True, 128, 33, 0),
        ("7.3", 4096, False, 4096, 256, 0),
    ],
)
def test_rules_nvme_1_and_2_each_kernel_has_its_numbers(kernel, mdts, iommu, kib, segments, boundary):
    best = 128 << 10 if iommu else SIZE_MAX
    limits = nvme_limits(mdts << 10, depth=1024, rules=KERNELS[kernel], sgl=True, opt_mapping_size=best)
    assert (limits.max_sectors, limits.max_segments, limits.virt_boundary_mask) == (kib * 2, segments, boundary)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18", "7.3"])
def test_what_may_be_bounced_is_252_kib_on_every_kernel(kernel):
    limits = nvme_limits(0, depth=64, rules=KERNELS[kernel], opt_mapping_size=252 << 10, max_mapping_size=252 << 10)
    assert (limits.max_hw_sectors, limits.max_segments) == (504, 64)


def test_a_drive_without_mdts_takes_eight_mebibytes_and_gaps_only_if_it_has_lists_of_segments():
    limits = nvme_limits(0, depth=64, rules=KERNELS["7.3"], sgl=False)
    assert (limits.max_hw_sectors, limits.virt_boundary_mask) == (16384, 4095)


@pytest.mark.parametrize("cached", [True, False])
def test_rule_nvme_10_a_drive_with_a_cache_that_it_may_lose_has_fua(cached):
    limits = nvme_limits(0, depth=64, write_cache=cached)
    assert (limits.write_cache, limits.fua) == (cached, cached)


def test_a_stack_takes_what_both_can():
    top = QueueLimits(max_hw_sectors=2048, chunk_sectors=256, io_opt=6 << 20, write_cache=True, fua=True)
    low = QueueLimits(
        logical_block_size=4096, max_hw_sectors=1024, max_segments=64, dma_alignment=3, virt_boundary_mask=4095,
        chunk_sectors=384, io_opt=4 << 20, nowait=False, stable_writes=True,
    )  # fmt: skip
    both = stack_limits(top, low)
    assert (both.max_sectors, both.max_segments, both.max_segment_size) == (1024, 64, 65536)
    assert (both.logical_block_size, both.physical_block_size, both.io_min) == (4096, 4096, 4096)
    assert (both.dma_alignment, both.virt_boundary_mask) == (511, 4095)
    assert (both.chunk_sectors, both.io_opt) == (128, 12 << 20)
    assert (both.nowait, both.stable_writes, both.write_cache, both.fua) == (False, True, True, True)


def test_a_boundary_that_no_physical_block_fits_is_dropped():
    both = stack_limits(QueueLimits(chunk_sectors=12), QueueLimits(physical_block_size=4096, chunk_sectors=20))
    assert both.chunk_sectors == 0
    assert stack_limits(QueueLimits(io_opt=1536), QueueLimits(physical_block_size=4096)).io_opt == 0


def test_atomic_writes_of_a_stack_are_those_of_both_and_none_where_their_boundaries_differ():
    atomic = {"atomic_write_unit_min": 512, "atomic_write_unit_max": 65536, "max_hw_sectors": 1024}
    one, other = QueueLimits(**atomic), QueueLimits(**atomic | {"atomic_write_unit_min": 4096})
    both = stack_limits(one, other)
    assert (both.atomic_write_unit_min, both.atomic_write_unit_max) == (4096, 65536)
    assert stack_limits(one, replace(other, atomic_write_boundary=1 << 20)).atomic_write_unit_max == 0
    assert stack_limits(one, QueueLimits()).atomic_write_unit_max == 0


LIMITS = st.builds(
    QueueLimits,
    logical_block_size=st.sampled_from([512, 1024, 4096, 65536]),
    physical_block_size=st.sampled_from([0, 512, 4096, 65536]),
    max_hw_sectors=st.integers(128, 1 << 20),
    max_user_sectors=st.just(0) | st.integers(128, 1 << 16),
    max_segments=st.integers(1, 300),
    max_segment_size=st.just(0) | st.integers(PAGE_SIZE, (1 << 32) - 1),
    dma_alignment=st.sampled_from([0, 3, 511, 4095]),
    virt_boundary_mask=st.sampled_from([0, 4095]),
    io_min=st.integers(0, 16 << 20),
    io_opt=st.integers(0, 16 << 20),
    chunk_sectors=st.integers(0, 4096),
    atomic_write_unit_min=st.sampled_from([0, 512, 4096]),
    atomic_write_unit_max=st.sampled_from([0, 512, 65536]),
    write_cache=st.booleans(),
    fua=st.booleans(),
)


@given(LIMITS)
def test_limits_that_are_whole_stay_as_they_are(limits):
    assert replace(limits) == limits
    assert limits.max_sectors <= limits.max_hw_sectors
    assert limits.max_sectors * 512 % limits.logical_block_size == 0
    assert limits.atomic_write_unit_max <= limits.max_hw_sectors * 512


@given(LIMITS, LIMITS)
def test_what_fits_a_stack_fits_both(top, low):
    both = stack_limits(top, low)
    for one in (top, low):
        assert both.max_sectors <= one.max_sectors
        assert both.max_segments <= one.max_segments
        assert both.max_segment_size <= one.max_segment_size
        assert both.logical_block_size % one.logical_block_size == 0
        assert one.chunk_sectors % (both.chunk_sectors or 1) == 0
        assert (both.dma_alignment | one.dma_alignment) == both.dma_alignment
        assert both.virt_boundary_mask or not one.virt_boundary_mask
