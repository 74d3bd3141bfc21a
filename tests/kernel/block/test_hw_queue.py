import errno

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
