import errno
from itertools import pairwise

import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug
from labkit.trace.state import state_at
from labkit.trace.tracer import typed

APART = QueueLimits(nr_requests=4, nomerges=2)


def test_with_a_scheduler_requests_wait_under_its_tags_and_the_driver_has_its_own(world):
    queue = world.queue("mq-deadline", limits=QueueLimits(nr_requests=2, nomerges=2))
    world.run(queue, *[world.bio(16 * i) for i in range(6)])
    names = world.names("BlockGetrq", "BlockRqInsert", "BlockRqComplete")
    assert [names.count(name) for name in ("BlockGetrq", "BlockRqInsert", "BlockRqComplete")] == [6, 6, 6]
    assert {rec[5] for rec in world.raw if rec[0] == "BlockGetrq"} == {0, 1, 2, 3}
    assert queue.driver.most == 2
    world.nothing_left()


@pytest.mark.parametrize("kind", ["none", "mq-deadline", "bfq", "kyber"])
def test_the_trace_tells_at_every_instant_which_request_has_which_tag(world, kind):
    queue = world.queue(kind, limits=QueueLimits(nr_requests=2, max_sectors=64, write_cache=True))
    flags = [0, Op.PREFLUSH, Op.FUA, 0, 0, 0]
    bios = [world.bio(8 * i, write=True, opf=flags[i % 6], addr=(1 << 20) + 4096 * i) for i in range(18)]
    for bio in bios:
        world.clock.job(queue.submit_bio(bio))
    seen = []
    while not all(bio.done.processed for bio in bios):
        world.clock.run(until=world.clock.now + 70)
        seen.append(tuple(sorted(queue.in_flight.items())))
        assert state_at(map(typed, world.raw), world.clock.now).tags == seen[-1]
    assert max(map(len, seen)) >= 2
    assert [bio.error for bio in bios] == [0] * 18
    world.nothing_left()


def test_neighbours_that_become_one_give_a_tag_back_and_both_bios_end(world):
    queue = world.queue("mq-deadline", limits=QueueLimits(nr_requests=2, max_sectors=64), service=50_000)
    sectors = (800, 1600, 0, 16, 8)  # the first two keep the driver busy; the last one closes the gap
    bios = [world.bio(sector, addr=(1 << 20) + (sector << 9), write=True) for sector in sectors]
    for bio in bios:
        world.ram.view(bio.payload[0].addr, 4096)[:] = bytes([bio.sector % 251 + 1]) * 4096
        world.clock.job(queue.submit_bio(bio))
        world.clock.run(until=world.clock.now + 500)
    assert world.names("BlockRqMerge") == ["BlockRqMerge"]
    assert queue.tags.free == 1
    world.clock.run()
    assert queue.driver.requests()[2:] == [("W", 0, 24)]
    assert all(queue.driver.media[bio.sector << 9] == bio.sector % 251 + 1 for bio in bios)
    assert [bio.error for bio in bios] == [0] * 5
    world.nothing_left()


def test_a_refused_request_is_first_when_there_is_room_again(world):
    queue = world.queue(limits=APART)
    busy = SyscallError("driver", "the device", "is busy", errno.EBUSY)
    refused = []

    def fate(rq):
        if rq.rq == 2 and not refused:
            refused.append(rq.rq)
            raise busy
        return 0

    queue.driver.fate = fate
    assert world.run(queue, *[world.bio(16 * i) for i in range(6)]) == [0] * 6
    assert (refused, world.names("BlockRqRequeue")) == ([2], ["BlockRqRequeue"])
    assert sorted(number for number, *_ in queue.driver.seen) == [1, 2, 3, 4, 5, 6]
    world.nothing_left()


@pytest.mark.parametrize("kind", ["none", "kyber"])
def test_an_error_that_is_no_lack_of_room_is_told_at_once(world, kind):
    gone = SyscallError("driver", "the device", "is gone", errno.ENODEV)

    def fate(rq):
        if rq.rq == 2:
            raise gone
        return 0

    queue = world.queue(kind, limits=APART, fate=fate)
    bios = [world.bio(16 * i) for i in range(3)]
    assert world.run(queue, *bios) == [0, errno.ENODEV, 0]
    assert (bios[1].why, world.names("BlockRqRequeue")) == (gone, [])
    world.nothing_left()


def test_a_task_that_falls_asleep_for_a_tag_sends_on_what_it_keeps(world):
    queue, plug = world.queue(limits=APART), Plug()
    bios = [world.bio(16 * i) for i in range(6)]

    def task():
        for bio in bios:
            yield from queue.submit_bio(bio, plug)
        yield from plug.flush()

    world.clock.job(task())
    world.clock.run()
    assert world.names("BlockUnplug", "BlockRqInsert") == ["BlockUnplug", *["BlockRqInsert"] * 4, "BlockUnplug"]
    assert [bio.error for bio in bios] == [0] * 6
    world.nothing_left()


@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_driver_without_room_is_asked_every_3_ms_when_nothing_is_on_its_way(world, sched, no_room, times):
    asked = []

    def fate(_rq):
        asked.append(world.clock.now)
        if len(asked) <= times:
            raise no_room
        return 0

    queue = world.queue(sched, limits=APART, fate=fate)
    assert world.run(queue, world.bio(0)) == [0]
    assert [after - before for before, after in pairwise(asked)] == [3_000_010] * times
    assert world.names("BlockRqRequeue") == ["BlockRqRequeue"] * times
    world.nothing_left()


def test_who_never_has_room_is_asked_100_times_and_then_the_errno_is_told(world, sched, no_room):
    def fate(_rq):
        raise no_room

    queue = world.queue(sched, limits=APART, fate=fate)
    bios = [world.bio(16 * i) for i in range(3)]
    assert world.run(queue, *bios) == [errno.ENOMEM] * 3
    assert {bio.why for bio in bios} == {no_room}
    assert 100 <= len(world.names("BlockRqRequeue")) <= 103  # the others need not be asked for as often again
    assert 300_000_000 <= max(rec[1] for rec in world.raw if rec[0] == "BlockRqComplete") < 301_000_000
    world.nothing_left()


def test_a_refusal_long_after_another_is_asked_for_as_often_again(world, no_room):
    def fate(_rq):
        raise no_room

    queue = world.queue(limits=APART, fate=fate)
    assert [world.run(queue, world.bio(16 * i)) for i in range(2)] == [[errno.ENOMEM]] * 2
    assert len(world.names("BlockRqRequeue")) == 200
    world.nothing_left()


def test_a_driver_without_room_is_asked_as_long_as_there_is_something_that_may_make_some(world, no_room):
    slow = []

    def fate(rq):
        if rq.rq > 1 and not slow:
            raise no_room
        return 0

    queue = world.queue(limits=APART, fate=fate, service=1_000_000_000)
    world.clock.later(900_000_000, slow.append, True)
    assert world.run(queue, world.bio(0), world.bio(16)) == [0, 0]
    assert 299 <= len(world.names("BlockRqRequeue")) <= 301
    world.nothing_left()


def test_of_a_device_that_is_gone_all_that_waits_ends_at_once(world, sched):
    queue = world.queue(sched, limits=APART, service=50_000)
    bios = [world.bio(16 * i, io=i + 1) for i in range(12)]
    for bio in bios:
        world.clock.job(queue.submit_bio(bio))
    world.clock.later(70_000, queue.mark_dead)
    world.clock.run()
    assert [bio.error for bio in bios] == [0] * 4 + [errno.EIO] * 8
    assert str(bios[-1].why) == "block: sector 176 is of a device that is gone (BLK-5) (-EIO)"
    assert max(rec[1] for rec in world.raw if rec[0] == "BlockRqComplete") < 80_000
    queue.driver.busy.clear()
    world.nothing_left()
