import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, phyrs_of

VA = 0x7F00_0000_0000
BAR = MemoryClass("mmio", "gpu0")


def bdev_of(nbytes=65536, **limits):
    return BlockDeviceFile(Clock(), "nvme0n1", nbytes, QueueLimits(**limits))


@pytest.mark.parametrize(
    ("pos", "nbytes", "write", "moves"),
    [
        (0, 4096, False, 4096),
        (61440, 8192, False, 4096),
        (61440, 8192, True, 4096),
        (65536, 512, False, 0),
        (99999, 512, False, 0),
        (65536, 0, True, 0),
        (100, 0, False, 0),
    ],
)
def test_what_the_device_has_at_a_position(pos, nbytes, write, moves):
    assert bdev_of().check("pread64", pos, nbytes, write=write) == moves


def test_a_write_at_the_end_is_enospc():
    with pytest.raises(SyscallError) as caught:
        bdev_of().check("pwrite64", 65536, 512, write=True)
    assert str(caught.value) == "pwrite64: pos=65536 lies beyond the 64 KiB of nvme0n1 (-ENOSPC)"


@pytest.mark.parametrize(("pos", "nbytes"), [(512, 4096), (4096, 512)])
def test_a_large_logical_block_wants_larger_multiples(pos, nbytes):
    bdev = bdev_of(logical_block_size=4096, physical_block_size=4096)
    with pytest.raises(SyscallError, match=r"=512 is not a multiple of 4096 \(O_DIRECT, DIO-3\) \(-EINVAL\)"):
        bdev.check("pread64", pos, nbytes, write=False)


@pytest.mark.parametrize(
    ("buf", "nbytes", "path"),
    [
        (VA, 1 << 20, "simple"),
        (VA, (1 << 20) + 512, "multi"),
        (VA + 512, 1 << 20, "multi"),
        (VA + 512, (1 << 20) - 512, "simple"),
    ],
)
def test_the_way_is_simple_up_to_256_pages(buf, nbytes, path):
    assert bdev_of().path(buf, nbytes) == path


def test_one_bio_carries_what_32_bits_can_count():
    bdev = bdev_of(1 << 40)
    (bio,) = bdev.bios(1, 4096, PhyrList([Phyr(0, (1 << 32) - 512)]), write=False)
    assert (bio.sector, bio.nbytes) == (8, (1 << 32) - 512)


def test_difference_d11_more_than_that_is_cut_at_logical_blocks():
    bdev = bdev_of(1 << 40)
    payload = PhyrList([Phyr(0, 1 << 33)])
    bios = bdev.bios(1, 4096, payload, write=False)
    assert [(bio.sector, bio.nbytes) for bio in bios] == [
        (8, 4294966784), (8388615, 4294966784), (16777222, 1024),
    ]  # fmt: skip
    assert bios[1].payload.vecs == ((4294966784, 4294966784),)
    assert [bio.bio for bio in bios] == [1, 2, 3]


def test_rule_d8_a_bio_never_mixes_two_classes():
    mixed = PhyrList([Phyr(0x7000, 4096), Phyr(0x9000, 512), Phyr(0xF0000, 8192, BAR), Phyr(0x21000, 512)])
    bios = bdev_of().bios(1, 4096, mixed, write=False)
    assert [(bio.sector, bio.cls, bio.payload.vecs) for bio in bios] == [
        (8, RAM, ((0x7000, 4096), (0x9000, 512))),
        (17, BAR, ((0xF0000, 8192),)),
        (33, RAM, ((0x21000, 512),)),
    ]


def test_rule_d8_nor_does_a_bio_of_a_long_list():
    addrs, kinds = [pfn << 13 for pfn in range(300)], [RAM] * 100 + [BAR] * 200
    bios = bdev_of(1 << 30).bios(1, 0, phyrs_of(addrs, [4096] * 300, kinds), write=True)
    assert [(bio.sector, bio.cls, len(bio.payload.vecs)) for bio in bios] == [(0, RAM, 100), (800, BAR, 200)]


def test_rules_d8_and_d11_more_than_32_bits_of_two_classes():
    bios = bdev_of(1 << 40).bios(1, 0, PhyrList([Phyr(0, 512), Phyr(1 << 34, 1 << 32, BAR)]), write=True)
    assert [(bio.sector, bio.cls, bio.nbytes) for bio in bios] == [
        (0, RAM, 512), (1, BAR, 4294966784), (8388608, BAR, 512),
    ]  # fmt: skip


def test_rule_d9_a_class_that_ends_inside_a_logical_block_is_refused_before_any_bio():
    bdev = bdev_of(logical_block_size=4096, physical_block_size=4096)
    with pytest.raises(SyscallError) as caught:
        bdev.bios(1, 0, PhyrList([Phyr(0x7200, 3584), Phyr(0xF0000, 512, BAR)]), write=False)
    told = "nvme0n1: 3584 bytes of ram memory are not a multiple of 4096 (D-8, D-9) (-EINVAL)"
    assert str(caught.value) == told
