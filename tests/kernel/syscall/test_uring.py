"""Rings of entries: what is tried without waiting, what a worker does again, and in which order all of it ends."""

import errno

import pytest

from labkit.errors import SyscallError
from labkit.kernel.syscall.uring import Cqe, Sqe, Uring
from labkit.machine import Machine
from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioQueue,
    BlockGetrq,
    BlockRqIssue,
    GupPin,
    IoUringQueueAsyncWork,
)

SYSTEMS = ["phyr", "page 6.18", "page 7.3", "unified"]


class World:
    def __init__(self, name="page 7.3", *, nowait=True, **knobs):
        system, _, kernel = name.partition(" ")
        knobs = {"ram": "256 MiB", "fragmentation": 0, "iommu": "off"} | knobs
        self.machine = Machine(system=system, kernel=kernel or "7.3", **knobs)
        self.task = self.machine.task()
        self.fd = self.task.open(self.machine.volume.disk.path)
        self.ring = Uring(self.task.syscalls, nowait=nowait)

    def sqe(self, number, pos, nbytes=4096, opcode="READ", buf=None, **more):
        buf = self.task.mmap(nbytes) if buf is None else buf
        return Sqe(opcode, self.fd, ((buf, nbytes),), pos, number, **more)

    def enter(self, *sqes, wait=None):
        clock = self.machine.clock
        clock.run(until=clock.job(self.ring.enter(sqes, len(sqes) if wait is None else wait)))
        return self.ring.reap()

    def of(self, *kinds):
        return [rec for rec in self.machine.trace if type(rec) in kinds]


@pytest.fixture(params=SYSTEMS)
def world(request):
    return World(request.param)


def test_completions_come_in_the_order_in_which_the_ios_end(world, nothing_held):
    long = world.sqe(1, 0, 1 << 20)
    short = world.sqe(2, 1 << 20, 512)
    done = world.enter(long, short)
    assert done == [Cqe(2, 512), Cqe(1, 1 << 20)]
    nothing_held(world.machine)


def test_the_bytes_arrive_both_ways(world):
    buf = world.task.mmap(8192)
    world.task.store(buf, b"w" * 8192)
    assert world.enter(world.sqe(1, 4096, 8192, "WRITE", buf)) == [Cqe(1, 8192)]
    assert world.machine.device.peek(4096, 8192) == b"w" * 8192
    other = world.task.mmap(8192)
    assert world.enter(world.sqe(2, 4096, 8192, "READ", other)) == [Cqe(2, 8192)]
    assert world.task.load(other, 8192) == b"w" * 8192


def test_rule_r19_more_than_two_entries_share_a_plug_and_neighbours_become_one_request(world, nothing_held):
    buf = world.task.mmap(32 * 4096)
    done = world.enter(*(world.sqe(n, n * 4096, buf=buf + n * 4096) for n in range(32)))
    assert sorted(done) == [Cqe(n, 4096) for n in range(32)]
    assert [rec.nr_sector for rec in world.of(BlockRqIssue)] == [256]
    assert len(world.of(BlockBioBackmerge)) == 31
    nothing_held(world.machine)


@pytest.mark.parametrize(("entries", "merges"), [(1, 0), (2, 0), (3, 2)])
def test_rule_r19_one_entry_or_two_have_no_plug(world, entries, merges):
    buf = world.task.mmap(4 * 4096)
    world.enter(*(world.sqe(n, n * 4096, buf=buf + n * 4096) for n in range(entries)))
    assert len(world.of(BlockBioBackmerge)) == merges


def test_rule_r18_what_needs_a_second_bio_is_done_again_by_a_worker_and_paid_for_twice(nothing_held):
    world = World("page 6.18", fragmentation=1.0)
    assert world.enter(world.sqe(1, 0, 1028 << 10)) == [Cqe(1, 1028 << 10)]
    assert [rec.io for rec in world.of(IoUringQueueAsyncWork)] == [1]
    kinds = [type(rec) for rec in world.of(GupPin, IoUringQueueAsyncWork, BlockBioQueue)]
    assert kinds.index(IoUringQueueAsyncWork) == 1  # a pin of the first try, and no bio
    assert sum(sum(n for _, n in rec.ranges) for rec in world.of(GupPin)) == (1024 + 1028) << 10
    nothing_held(world.machine)


def test_rule_r18_what_needs_a_split_is_a_bio_that_dies_and_is_done_again(world, nothing_held):
    nbytes = 2 << 20
    buf = world.task.mmap(nbytes, "2 MiB")
    done = world.enter(world.sqe(1, 0, nbytes, buf=buf))
    assert done == [Cqe(1, nbytes)]
    assert [rec.error for rec in world.of(BlockBioComplete)] == [-errno.EAGAIN]
    assert [rec.io for rec in world.of(IoUringQueueAsyncWork)] == [1]
    nothing_held(world.machine)


def test_rule_r20_who_asked_for_nowait_gets_eagain_himself(world, nothing_held):
    assert world.enter(world.sqe(1, 0, 2 << 20, rwf="RWF_NOWAIT")) == [Cqe(1, -errno.EAGAIN)]
    assert world.of(IoUringQueueAsyncWork) == []
    assert isinstance(world.ring.errors[1], SyscallError)
    nothing_held(world.machine)


def test_aio_waits_where_it_must_and_needs_no_worker(nothing_held):
    world = World(nowait=False)
    assert world.enter(world.sqe(1, 0, 2 << 20), world.sqe(2, 4 << 20, 4096))[-1:] == [Cqe(1, 2 << 20)]
    assert world.of(IoUringQueueAsyncWork, BlockBioComplete) == []
    nothing_held(world.machine)


def test_an_entry_that_fails_leaves_the_others_alone(world, nothing_held):
    done = world.enter(
        world.sqe(1, 0), world.sqe(2, 100), world.sqe(3, 8192, buf=0x6000_0000_0000), world.sqe(4, 1 << 20),
        Sqe("READ", 99, ((0x1000, 512),), 0, 5), world.sqe(6, 16 << 30), world.sqe(7, 0, 0, buf=0x1000),
    )  # fmt: skip
    assert dict(done) == {1: 4096, 2: -errno.EINVAL, 3: -errno.EFAULT, 4: 4096, 5: -errno.EBADF, 6: 0, 7: 0}
    assert {number: world.ring.errors[number].errno_name for number in (2, 3, 5)} == {
        2: "-EINVAL", 3: "-EFAULT", 5: "-EBADF",
    }  # fmt: skip
    assert world.ring.in_flight == 0
    nothing_held(world.machine)


def test_a_device_that_fails_one_of_a_merged_request_fails_them_all(world, nothing_held):
    world.machine.device._check = lambda _sqe: 0x281
    buf = world.task.mmap(4 * 4096)
    done = world.enter(*(world.sqe(n, n * 4096, buf=buf + n * 4096) for n in range(4)))
    assert sorted(done) == [Cqe(n, -errno.ENODATA) for n in range(4)]
    nothing_held(world.machine)


def test_enter_waits_for_no_more_than_it_is_asked_to(world, nothing_held):
    assert world.enter(world.sqe(1, 0), world.sqe(2, 1 << 20), wait=0) == []
    assert world.ring.in_flight == 2
    world.machine.clock.run()
    assert world.ring.in_flight == 0
    nothing_held(world.machine)


def test_a_ring_whose_task_dies_in_the_midst_of_a_batch_sends_what_is_plugged(world, nothing_held):
    buf, clock = world.task.mmap(8 * 4096), world.machine.clock
    world.task.store(buf, bytes(8 * 4096))
    entering = world.ring.enter([world.sqe(n, n * 4096, buf=buf + n * 4096) for n in range(8)], 8)
    clock.job(entering)
    while len(world.of(BlockGetrq)) < 1:
        clock.step()
    clock.later(0, entering.close)
    clock.run()
    assert world.ring.in_flight == 0
    assert world.of(BlockRqIssue) != []
    nothing_held(world.machine)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("target", ["pin", "unpin"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")], ids=repr)
def test_whatever_strikes_in_a_batch_every_entry_ends_and_nothing_is_held(world, k, target, error, nothing_held):
    buf, calls = world.task.mmap(8 * 4096), []
    sound = getattr(world.machine.currency, target)

    def strikes(*args):
        calls.append(args)
        if len(calls) == k:
            raise error
        return sound(*args)

    setattr(world.machine.currency, target, strikes)
    with pytest.raises(type(error)):
        world.enter(*(world.sqe(n, n * 8192, buf=buf + n * 4096) for n in range(4)))
    world.machine.clock.run()
    assert world.ring.in_flight == 0
    nothing_held(world.machine)


def test_registered_memory_is_pinned_by_nobody_and_its_table_is_the_bios():
    world = World("page 6.18")
    ring = world.task.io_uring()
    buf = world.task.mmap("64 KiB")
    world.task.store(buf, bytes(65536))
    ring.register_buffers([(buf, 65536)])
    before = len(world.of(GupPin))
    assert world.enter(world.sqe(1, 0, 65536, "READ_FIXED", buf, buf_index=0)) == [Cqe(1, 65536)]
    pins = world.of(GupPin)[before:]
    assert [(rec.policy, rec.atomics, len(rec.ranges)) for rec in pins] == [("none", 0, 16)]
    assert [rec.vecs for rec in world.of(BlockBioQueue)] == [16]


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("flags", ["", "RWF_NOWAIT"])
def test_what_a_first_try_through_the_cache_leaves_over_a_worker_does(write, flags, nothing_held):
    world = World()
    world.machine.volume.mkfs("ext4")
    world.machine.volume.create("f", 1 << 20)
    world.fd = world.task.open("/mnt/f", "O_RDWR")
    buf = world.task.mmap(65536)
    world.task.pread(world.fd, buf, 4096, 65536)  # the first window: the rest is not there
    pos, first = (65536 + 100, 4096) if write else (65536, 4096)
    sqe = world.sqe(1, pos, 65536, "WRITE" if write else "READ", buf, rwf=flags)
    (done,) = world.enter(sqe)
    assert done.res == 65536 if not flags else first - 100 <= done.res < 65536
    assert len(world.of(IoUringQueueAsyncWork)) == (0 if flags else 1)
    nothing_held(world.machine)


@pytest.mark.parametrize(("system", "bios"), [("phyr", 0), ("page 6.18", 1), ("page 7.3", 0), ("unified", 0)])
def test_rule_bio5_a_registered_buffer_is_looked_at_before_there_is_a_bio_but_in_618(system, bios, nothing_held):
    world = World(system)
    buf = world.task.mmap(65536)
    ring = world.task.io_uring()
    ring.register_buffers([(buf, 65536)])
    ring.read(world.fd, buf + 2, 4096, buf_index=0)
    assert [cqe.res for cqe in ring.submit()] == [-errno.EINVAL]
    assert len(world.of(BlockBioQueue)) == bios
    ring.unregister_buffers()
    nothing_held(world.machine)


@pytest.mark.parametrize("fs", ["raw", "ext4"])
@pytest.mark.parametrize(("kernel", "nowait", "result"), [
    ("6.12", True, 4096), ("6.18", True, -errno.EOPNOTSUPP), ("7.3", True, -errno.EOPNOTSUPP), ("7.3", False, 4096),
])  # fmt: skip
def test_rule_blk2_who_wants_to_poll_needs_a_queue_for_that_but_for_aio(fs, kernel, nowait, result, nothing_held):
    world = World(f"page {kernel}", nowait=nowait)
    if fs == "ext4":
        world.machine.volume.mkfs("ext4")
        world.machine.volume.create("f", 65536)
        world.fd = world.task.open("/mnt/f")
    assert world.enter(world.sqe(1, 0, rwf="RWF_HIPRI")) == [Cqe(1, result)]
    assert world.task.pread(world.fd, world.task.mmap(4096), 4096, 0, "RWF_HIPRI") == 4096
    nothing_held(world.machine)


@pytest.mark.parametrize("stack", ["none", "stripe"])
def test_rule_blk2_what_may_sleep_is_left_to_a_worker_unless_nowait_was_asked_for(stack, nothing_held):
    world = World(limits={"nowait": 0}, stack=stack)
    assert world.enter(world.sqe(1, 0)) == [Cqe(1, 4096)]
    assert len(world.of(IoUringQueueAsyncWork)) == 1
    assert world.enter(world.sqe(2, 0, rwf="RWF_NOWAIT")) == [Cqe(2, -errno.EOPNOTSUPP)]
    assert "NOWAIT is not for a device that may sleep" in str(world.ring.errors[2])
    nothing_held(world.machine)
