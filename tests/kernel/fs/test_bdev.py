from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.dio import DirectIO
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.kernel.fs.ops import NO_FLAGS, Iocb
from labkit.kernel.version import KERNELS
from labkit.machine.build import DATA
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, phyrs_of

BAR = MemoryClass("mmio", "gpu0")
CPU = Cpu.load(DATA / "cpu.toml")


class Device:
    """Takes bios, and ends them at once, each with the errno that `errors` has for its place."""

    def __init__(self, env, errors=(), **limits):
        self.env, self.limits, self.errors, self.bios, self.plugs = env, QueueLimits(**limits), errors, [], []

    def submit_bio(self, bio, plug=None):
        yield 10
        self.plugs.append(plug is not None)
        self.bios.append(bio)
        bio.endio(self.errors[len(self.bios) - 1] if len(self.bios) <= len(self.errors) else 0)

    def flush(self, plug, *, from_schedule=False):
        yield from plug.flush(from_schedule=from_schedule)


class Memory:
    """A currency whose memory is a list that is given: all of it at once, or `steps` bytes for each bio."""

    policy = "page"

    def __init__(self, payload, steps=None, pages=1):
        self.payload, self.steps, self.per_bio, self.pages, self.held = payload, steps, steps is not None, pages, 0

    def pin(self, _iocb, start, _nbytes=None):
        if start >= self.payload.nbytes:
            raise SyscallError("gup", "the next page", "is not there", 14)
        part = self.payload.slice(start, self.payload.nbytes if self.steps is None else self.steps)
        self.held += 1
        return Hold(part, part.nbytes, start, None, part.vecs, 0, 0, 0, 0)

    def unpin(self, _iocb, _hold):
        self.held -= 1
        return Released(0, 0)

    def slots(self, _iocb, _start):
        return self.pages if self.per_bio else 0


def bdev_of(nbytes=65536, **limits):
    return BlockDeviceFile("nvme0n1", nbytes, SimpleNamespace(limits=QueueLimits(**limits)), None)


def do_io(
    payload, pos=0, *, write=False, flags=NO_FLAGS, errors=(), steps=None, pages=1, want=None, kernel="7.3", **limits
):
    """Do one IO of `payload`; return the bios, whether each had a plug, and what came of it."""
    env = Clock()
    device, memory = Device(env, errors, **limits), Memory(payload, steps, pages)
    dio = DirectIO(env, CPU, memory, lambda _raw: None, KERNELS[kernel])
    file = BlockDeviceFile("nvme0n1", 1 << 50, device, dio.by)
    mm = SimpleNamespace(task=0, ledger=SimpleNamespace(held={}))
    iocb = Kiocb(1, mm, "pread64", 0x7000, want or payload.nbytes, pos, write, device.limits, flags=flags)
    job = env.job(dio.direct_io(iocb, file))
    try:
        result = env.run(until=job)
    except SyscallError as bad:
        result = bad.errno_name
    assert memory.held == 0
    return device.bios, device.plugs, result


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


def test_rule_dio1_an_atomic_write_is_not_cut_at_the_end():
    with pytest.raises(SyscallError, match=r"is atomic, and reaches beyond nvme0n1 \(DIO-1\) \(-EINVAL\)"):
        bdev_of().check("pwritev2", 61440, 8192, write=True, flags=Iocb.ATOMIC)


def test_rule_dio1_a_buffered_write_without_waiting_is_not_supported_and_a_read_is():
    with pytest.raises(SyscallError, match="EOPNOTSUPP"):
        bdev_of().check("pwritev2", 0, 512, write=True, flags=Iocb.NOWAIT, direct=False)
    assert bdev_of().check("preadv2", 0, 513, write=False, flags=Iocb.NOWAIT, direct=False) == 513


@pytest.mark.parametrize(("pos", "nbytes"), [(512, 4096), (4096, 512)])
def test_a_large_logical_block_wants_larger_multiples(pos, nbytes):
    bdev = bdev_of(logical_block_size=4096, physical_block_size=4096)
    with pytest.raises(SyscallError, match=r"=512 is not a multiple of 4096 \(O_DIRECT, DIO-3\) \(-EINVAL\)"):
        bdev.check("pread64", pos, nbytes, write=False)


@pytest.mark.parametrize(("nbytes", "lbs", "block"), [(1 << 30, 512, 4096), (5 << 9, 512, 512), (1 << 30, 4096, 4096)])
def test_a_block_of_the_cache_is_what_divides_the_device_up_to_a_page(nbytes, lbs, block):
    assert bdev_of(nbytes, logical_block_size=lbs, physical_block_size=lbs).block_size == block


def test_one_bio_carries_what_32_bits_can_count():
    (bio,), _, moved = do_io(PhyrList([Phyr(0, (1 << 32) - 512)]), 4096)
    assert (bio.sector, bio.nbytes, moved) == (8, (1 << 32) - 512, (1 << 32) - 512)


def test_difference_d11_more_than_that_is_cut_at_logical_blocks():
    bios, _, _ = do_io(PhyrList([Phyr(0, 1 << 33)]), 4096)
    assert [(bio.sector, bio.nbytes, bio.start) for bio in bios] == [
        (8, 4294966784, 0), (8388615, 4294966784, 4294966784), (16777222, 1024, 8589933568),
    ]  # fmt: skip
    assert bios[1].payload.vecs == ((4294966784, 4294966784),)
    assert [bio.bio for bio in bios] == [1, 2, 3]


def test_rule_d8_a_bio_never_mixes_two_classes():
    mixed = PhyrList([Phyr(0x7000, 4096), Phyr(0x9000, 512), Phyr(0xF0000, 8192, BAR), Phyr(0x21000, 512)])
    bios, _, _ = do_io(mixed, 4096)
    assert [(bio.sector, bio.cls, bio.payload.vecs) for bio in bios] == [
        (8, RAM, ((0x7000, 4096), (0x9000, 512))),
        (17, BAR, ((0xF0000, 8192),)),
        (33, RAM, ((0x21000, 512),)),
    ]


def test_rule_d8_nor_does_a_bio_of_a_long_list():
    addrs, kinds = [pfn << 13 for pfn in range(300)], [RAM] * 100 + [BAR] * 200
    bios, _, _ = do_io(phyrs_of(addrs, [4096] * 300, kinds), write=True)
    assert [(bio.sector, bio.cls, len(bio.payload.vecs)) for bio in bios] == [(0, RAM, 100), (800, BAR, 200)]


def test_rules_d8_and_d11_more_than_32_bits_of_two_classes():
    bios, _, _ = do_io(PhyrList([Phyr(0, 512), Phyr(1 << 34, 1 << 32, BAR)]), write=True)
    assert [(bio.sector, bio.cls, bio.nbytes) for bio in bios] == [
        (0, RAM, 512), (1, BAR, 4294966784), (8388608, BAR, 512),
    ]  # fmt: skip


def test_rule_d9_a_class_that_ends_inside_a_logical_block_is_refused_before_any_bio():
    payload = PhyrList([Phyr(0x7200, 3584), Phyr(0xF0000, 512, BAR)])
    bios, _, result = do_io(payload, logical_block_size=4096, physical_block_size=4096)
    assert (bios, result) == ([], "-EINVAL")


@pytest.mark.parametrize(
    ("flags", "write", "pages", "expected"),
    [
        (Iocb(0), False, 256, Op.SYNC),
        (Iocb.ASYNC, False, 256, Op(0)),
        (Iocb(0), False, 257, Op(0)),
        (Iocb(0), True, 256, Op.SYNC | Op.IDLE),
        (Iocb.ASYNC, True, 257, Op.SYNC | Op.IDLE),
        (Iocb.DSYNC, True, 1, Op.SYNC | Op.IDLE | Op.FUA),
        (Iocb.DSYNC | Iocb.SYNC, True, 1, Op.SYNC | Op.IDLE | Op.FUA),
        (Iocb.NOWAIT, False, 1, Op.SYNC | Op.NOWAIT),
        (Iocb.ATOMIC, True, 1, Op.SYNC | Op.IDLE | Op.ATOMIC),
        (Iocb.DSYNC, False, 1, Op.SYNC),
    ],
)
def test_rule_dio6_the_flags_of_a_bio(flags, write, pages, expected):
    (bio,), _, _ = do_io(PhyrList([Phyr(0, 4096)]), write=write, flags=flags, steps=4096, pages=pages)
    assert bio.opf == expected


@pytest.mark.parametrize(("kernel", "write", "pages", "plugged"), [
    ("7.3", False, 1, False), ("7.3", True, 256, False), ("7.3", True, 257, True), ("6.18", False, 257, True),
    ("6.1", True, 1, True), ("6.1", False, 1, False),
])  # fmt: skip
def test_rule_r7_a_plug_is_around_several_bios_and_in_61_around_every_write(kernel, write, pages, plugged):
    _, plugs, _ = do_io(PhyrList([Phyr(0, 4096)]), write=write, steps=4096, pages=pages, kernel=kernel)
    assert plugs == [plugged]


def test_rule_r6_few_pages_are_one_bio_and_a_short_count():
    bios, _, result = do_io(PhyrList([Phyr(0, 8192)]), steps=4096, pages=256)
    assert (len(bios), result) == (1, 4096)


def test_rule_r6_many_pages_are_done_as_far_as_they_go_and_the_error_is_what_is_told():
    bios, _, result = do_io(PhyrList([Phyr(0, 8192)]), steps=4096, pages=257, want=12288)
    assert (len(bios), result) == (2, "-EFAULT")


def test_rule_dio5_nobody_may_wait_for_a_second_bio_and_the_first_is_not_sent():
    bios, _, result = do_io(PhyrList([Phyr(0, 8192)]), steps=4096, pages=257, flags=Iocb.NOWAIT)
    assert (bios, result) == ([], "-EAGAIN")


def test_rule_dio4_an_atomic_write_that_needs_several_bios_is_refused():
    bios, _, result = do_io(PhyrList([Phyr(0, 8192)]), steps=4096, pages=257, flags=Iocb.ATOMIC, write=True)
    assert (bios, result) == ([], "-EINVAL")


def test_rule_dio12_the_error_of_the_bio_that_failed_first_is_told():
    bios, _, result = do_io(PhyrList([Phyr(0, 12288)]), steps=4096, pages=257, errors=(0, 61, 5))
    assert ([bio.error for bio in bios], result) == ([0, 61, 5], "-ENODATA")
