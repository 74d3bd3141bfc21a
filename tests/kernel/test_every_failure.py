"""Whatever fails, and wherever: the errno is the kernel's, and nothing stays held.

Each way to fail is injected at its first, second, ... last chance of a run that crosses every floor: 300 scattered
pages, so that `page` needs two bios, and pieces need PRP lists.
"""

import errno
from contextlib import suppress
from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.device import BusFault
from labkit.kernel.block import blk_mq
from labkit.kernel.mm.gup import follow
from labkit.machine import Machine
from labkit.trace.events import SysExit

PAGES = 300
NBYTES = PAGES * 4096
KINDS = [(system, op, iommu) for system in ("phyr", "page", "unified") for op in ("pread", "pwrite")
         for iommu in ("strict", "off")] + [("page 6.18", "pread", "lazy"), ("phyr", "pwrite", "lazy")]  # fmt: skip


class Broken(Exception):
    """What is no SyscallError."""


class Fuse:
    """Let a function through k - 1 times, and raise at the k-th call: that once, or from then on."""

    def __init__(self, k, error, *, once=True):
        self.k, self.error, self.once, self.calls = k, error, once, 0

    def __call__(self, function):
        def fused(*args, **kwargs):
            self.calls += 1
            if self.calls == self.k or (self.blown and not self.once):
                raise self.error
            return function(*args, **kwargs)

        return fused

    @property
    def blown(self):
        return self.calls >= self.k


class World:
    """A machine of one kind with a buffer that nobody has touched, and a descriptor."""

    def __init__(self, system, op, iommu):
        system, _, kernel = system.partition(" ")
        self.machine = Machine(system=system, kernel=kernel or "7.3", iommu=iommu, fragmentation=0, ram="64 MiB",
                               sgl_threshold=0)  # fmt: skip
        zone = self.machine.buddy.zones[0]
        block = zone.take_virgin()
        zone.pcp[0] = list(range(block + 1022, block - 1, -2))  # no two neighbours touch
        self.task = self.machine.task()
        self.fd = self.task.open("/dev/nvme0n1")
        self.buf = self.task.mmap(NBYTES)  # a pwrite finds the zero page there
        self.op = op

    def go(self):
        return getattr(self.task, self.op)(self.fd, self.buf, NBYTES)

    def errno(self):
        with pytest.raises(SyscallError) as caught:
            self.go()
        assert self.machine.trace.of(SysExit)[-1].ret == -caught.value.errno
        return caught.value.errno


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request):
    return request.param


def every(kind, target, error, nothing_held, *, at, once=True):
    """Blow a fuse in `target` of what `at` finds in a fresh world, for k = 1, 2, ... as long as it is reached.

    Yields (world, fuse) for the caller to run, and looks afterwards that nothing is held, that the trace still tells
    all, and that the machine still works.
    """
    for k in (1, 2, 3, 4, 10, 100, 1000):
        world = World(*kind)
        fuse, owner = Fuse(k, error, once=once), at(world)
        sound = getattr(owner, target)
        setattr(owner, target, fuse(sound))
        try:
            yield world, fuse
        finally:
            setattr(owner, target, sound)
        nothing_held(world.machine)
        assert world.go() == NBYTES
        nothing_held(world.machine)
        if not fuse.blown:
            return


def enomem(layer):
    return SyscallError(layer, "memory", "is not to be had", errno.ENOMEM)


def test_with_nothing_wrong_everything_is_moved_and_nothing_held(kind, nothing_held):
    world = World(*kind)
    assert world.go() == NBYTES
    nothing_held(world.machine)


def count_failures(chances, expected):
    """Run every chance; return how many failed. `expected`: the errno, or the exception, of a run whose fuse blew."""
    failed = 0
    for world, fuse in chances:
        try:
            assert world.go() == NBYTES
        except (SyscallError, Broken, BusFault) as bad:
            assert getattr(bad, "errno", type(bad)) == expected  # noqa: PT017 - one run of the loop does not fail
            ret = -expected if isinstance(expected, int) else -errno.EIO
            assert world.machine.trace.of(SysExit)[-1].ret == ret
            failed += 1
        assert fuse.blown == (world.machine.trace.of(SysExit)[-1].ret < 0)
    return failed


def test_no_device_address_is_left(kind, nothing_held):
    chances = every(kind, "map", enomem("iommu"), nothing_held, at=lambda world: world.machine.maps, once=False)
    assert count_failures(chances, errno.ENOMEM) >= 3


def test_no_list_memory_is_left(kind, nothing_held):
    pool = lambda world: world.machine.nvme.pool  # noqa: E731 - one line of it
    chances = every(kind, "alloc", enomem("dma_pool"), nothing_held, at=pool, once=False)
    assert count_failures(chances, errno.ENOMEM) >= 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [(SyscallError("nvme", "the queue", "is gone", errno.ENODEV), errno.ENODEV), (Broken(), Broken)],
)
def test_the_driver_refuses(kind, error, expected, nothing_held):
    chances = every(kind, "queue_rq", error, nothing_held, at=lambda world: world.machine.nvme)
    assert count_failures(chances, expected) >= 3


@pytest.mark.parametrize(
    "where",
    [
        lambda world: (world.machine.maps, "map"),
        lambda world: (world.machine.nvme.pool, "alloc"),
        lambda world: (world.machine.nvme, "_setup_cmd"),
        lambda world: (world.machine.device, "submit"),
        lambda _world: (blk_mq, "split_to_limits"),
        lambda world: (world.machine.volume.bdev, "dio_submit"),
        lambda world: (world.machine.currency, "pin"),
        lambda _world: (follow, "handle_mm_fault"),
    ],
    ids=["dma.map", "pool.alloc", "setup_cmd", "submit", "split", "dio_submit", "pin", "fault"],
)
def test_a_bug_of_the_lab_is_no_reason_to_hold_anything(kind, where, nothing_held):
    target = where(World(*kind))[1]
    chances = every(kind, target, Broken(), nothing_held, at=lambda world: where(world)[0])
    assert count_failures(chances, Broken) >= 1


@pytest.mark.parametrize(("status", "expected"), [(0x281, errno.ENODATA), (0x04, errno.EIO), (0x80, errno.EREMOTEIO)])
def test_the_device_answers_the_kth_command_with_an_error(kind, status, expected, nothing_held):
    for k in (1, 2, 3):
        world = World(*kind)
        answers = iter([0] * (k - 1) + [status])
        world.machine.device._check = lambda _sqe, answers=answers: next(answers, 0)
        assert world.errno() == expected
        nothing_held(world.machine)
        assert world.go() == NBYTES
        nothing_held(world.machine)


def test_every_command_fails(kind, nothing_held):
    world = World(*kind)
    world.machine.device._check = lambda _sqe: 0x281
    assert world.errno() == errno.ENODATA
    nothing_held(world.machine)


def test_a_bad_prp_is_a_transfer_error(kind, nothing_held):
    for k in (1, 2, 3):
        world = World(*kind)
        move, calls = world.machine.device._move, []

        def crooked(write, pos, pieces, move=move, calls=calls, k=k):
            calls.append(pos)
            if len(calls) == k:
                pieces = [*pieces[:-1], (1 << 51, pieces[-1][1])]
            return move(write, pos, pieces)

        world.machine.device._move = crooked
        assert world.errno() == errno.EIO
        nothing_held(world.machine)


def test_a_bus_fault_at_the_kth_access_is_a_transfer_error(kind, nothing_held):
    """The fuse is in the bus itself; commands and their completions are let through."""
    for k in (1, 2, 3, 4, 5):
        world = World(*kind)
        bus, queues, fuse = world.machine.device.bus, world.machine.nvme.queues, Fuse(k, BusFault(0))
        shared = (range(queues.sq_dma, queues.sq_dma + 65536), range(queues.cq_dma, queues.cq_dma + 16384))
        faulty = fuse(bus.views)
        world.machine.device.bus = SimpleNamespace(
            views=lambda addr, n, write=False, bus=bus, faulty=faulty, shared=shared: (
                bus.views if any(addr in span for span in shared) else faulty
            )(addr, n, write)
        )
        assert world.errno() == errno.EIO
        nothing_held(world.machine)
        assert world.go() == NBYTES
        nothing_held(world.machine)


def test_a_command_that_cannot_be_fetched_leaves_nothing(kind, nothing_held):
    chances = every(kind, "submit", BusFault(0), nothing_held, at=lambda world: world.machine.device)
    assert count_failures(chances, BusFault) >= 3


def ration(buddy, frames):
    """Let `buddy` give out `frames` more frames, and no more; return how to lift that again."""
    one, many, left = buddy.alloc_pages, buddy.alloc_bulk, [frames]

    def alloc_pages(order, *args):
        if left[0] < 1 << order:
            raise enomem("mm")
        left[0] -= 1 << order
        return one(order, *args)

    def alloc_bulk(order, count, *args):
        starts, sizes = many(order, min(count, left[0] >> order), *args)
        left[0] -= int(sizes.sum())
        return starts, sizes

    buddy.alloc_pages, buddy.alloc_bulk = alloc_pages, alloc_bulk
    return lambda: left.__setitem__(0, 1 << 30)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[1] == "pread"], ids="-".join, indirect=True)
def test_memory_runs_out_at_the_kth_frame(kind, nothing_held):
    """What came before is moved by `page`, though the call fails (R6, above 256 pages); `phyr` moves nothing (D-4)."""
    system, _op, _iommu = kind
    for k in (1, 2, 100, 257, 299, 300):
        world = World(*kind)
        lift = ration(world.machine.buddy, k - 1)
        assert world.errno() == errno.ENOMEM
        bios = [rec for rec in world.machine.trace if type(rec).__name__ == "BlockBioQueue"]
        moved = sum(rec.nr_sector for rec in bios) // 8
        assert moved == (k - 1 if system.startswith("page") else 0)
        nothing_held(world.machine)
        lift()
        assert world.go() == NBYTES
        nothing_held(world.machine)


WHERE = {
    "map": lambda world: (world.machine.maps, "map"),
    "alloc": lambda world: (world.machine.nvme.pool, "alloc"),
    "setup_cmd": lambda world: (world.machine.nvme, "_setup_cmd"),
    "queue_rq": lambda world: (world.machine.nvme, "queue_rq"),
    "submit": lambda world: (world.machine.device, "submit"),
    "pin": lambda world: (world.machine.currency, "pin"),
    "unpin": lambda world: (world.machine.currency, "unpin"),
    "mark_dirty": lambda world: (world.machine.folios, "set_dirty"),
    "split": lambda _world: (blk_mq, "split_to_limits"),
    "dio_submit": lambda world: (world.machine.volume.bdev, "dio_submit"),
    "dio_complete": lambda world: (world.machine.volume.bdev, "dio_complete"),
    "fault": lambda _world: (follow, "handle_mm_fault"),
    "emit": lambda world: (world.machine.queue, "_emit"),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Broken()], ids=repr)
def test_whatever_strikes_and_wherever_comes_through_and_leaves_nothing(kind, where, error, nothing_held):
    """The clock stands still when Ctrl-C comes: what is held then goes when it runs again."""
    for k in (1, 2, 3, 7):
        world = World(*kind)
        owner, name = WHERE[where](world)
        fuse, sound = Fuse(k, error), getattr(owner, name)
        setattr(owner, name, fuse(sound))
        try:
            with suppress(type(error)):
                world.go()
        finally:
            setattr(owner, name, sound)
        assert k > 1 or fuse.blown or (where, world.op) == ("mark_dirty", "pwrite")
        settle(world.machine)
        if where != "emit":  # a record that was never told is missing for good
            nothing_held(world.machine)
        assert world.go() == NBYTES
        settle(world.machine)
        if not fuse.blown:
            return


def settle(machine):
    """Run the clock out; nothing is held then, whatever the trace could tell of it."""
    with suppress(Broken, KeyboardInterrupt):
        machine.clock.run()
    machine.clock.run()
    assert (machine.ledger.held, machine.queue.in_flight, machine.maps.held) == ({}, {}, {})
    assert (machine.queue.tags.free, machine.nvme.pool.in_use) == (machine.queue.tags.depth, 0)
    assert all((folio.refcount, folio.pincount) == (1, 0) for folio in machine.folios.states())


@pytest.mark.parametrize("t", [0, 121, 125, 140, 200, 400, 700, 2_000, 10_000, 21_000, 60_000, 100_000])
def test_a_call_that_nobody_asks_any_more_leaves_nothing(kind, t, nothing_held):
    """The generator of the call is closed in the midst of it, as when its task is thrown away."""
    world = World(*kind)
    call = world.task.syscalls.rw(world.fd, world.buf, NBYTES, 0, write=world.op == "pwrite")
    world.machine.clock.job(call)
    world.machine.clock.later(t, call.close)
    with suppress(ValueError):  # at that very moment it ran, and cannot be closed
        world.machine.clock.run()
    world.machine.clock.run()
    nothing_held(world.machine)
    assert world.go() == NBYTES
    nothing_held(world.machine)


def test_many_ios_fail_at_once_and_others_do_not(kind, nothing_held):
    world = World(*kind)
    world.machine.device._check = lambda sqe: 0x281 if (sqe[6] >> 12) % 2 else 0
    ends = {}

    def io(number):
        try:
            ends[number] = yield from world.task.syscalls.rw(
                world.fd, world.buf, NBYTES, number << 21, write=world.op == "pwrite"
            )
        except SyscallError as bad:
            ends[number] = bad.errno_name

    jobs = [world.machine.clock.job(io(number)) for number in range(6)]
    world.machine.clock.run(until=world.machine.clock.all_of(jobs))
    assert ends == {0: NBYTES, 1: "-ENODATA", 2: NBYTES, 3: "-ENODATA", 4: NBYTES, 5: "-ENODATA"}
    nothing_held(world.machine)


def test_a_watcher_that_breaks_changes_nothing(kind, nothing_held):
    def broken(_record):
        raise Broken

    system, op, iommu = kind
    machine = Machine(system=system.split()[0], iommu=iommu, ram="64 MiB", watch=(broken,))
    task = machine.task()
    assert getattr(task, op)(task.open("/dev/nvme0n1"), task.mmap("64 KiB"), "64 KiB") == 65536
    nothing_held(machine)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_controller_that_loses_its_completion_queue_fails_what_is_in_flight_and_nothing_is_held(k, nothing_held):
    machine = Machine(size="1 MiB", iommu="strict", seed=3)
    views, cq = machine.device.bus.views, machine.device._cq
    seen = []

    def lose(addr, nbytes, write=False):
        seen.append(addr) if cq <= addr < cq + 16384 else None
        if cq <= addr < cq + 16384 and len(seen) == k:
            raise BusFault(addr)
        return views(addr, nbytes, write)

    machine.device.bus.views = lose
    report = machine.run()
    assert report["result"] == "-EIO"
    assert len(seen) == 8
    nothing_held(machine)
