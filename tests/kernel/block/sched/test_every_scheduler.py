"""One suite for every scheduler, and for none: what goes in comes out, once, whatever the order."""

import errno
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.hardware.clock import Clock
from labkit.hardware.ram import RAM
from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.sched import SCHEDULERS

LIMITS = QueueLimits(nr_requests=4, max_sectors=64, max_segments=6)
SPECS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([1, 2, 8]), st.booleans(), st.integers(0, 3), st.integers(0, 3000)),
    min_size=1, max_size=60,
)  # fmt: skip
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fresh(world):
    return type(world)(clock=Clock(), ram=RAM(memoryview(bytearray(8 << 20))), raw=[], queues=[], count=0)


def go(world, queue, specs):
    """Submit a bio for each (8 sectors, pages, write, task, delay); return them."""
    bios = []

    def submit(delay, bio):
        yield delay
        yield from queue.submit_bio(bio)

    for place, pages, write, task, delay in specs:
        bio = world.bio(8 * place, 4096 * pages, write=write, task=task, addr=(1 << 20) + 65536 * len(bios))
        bios.append(bio)
        world.clock.job(submit(delay, bio))
    world.clock.run()
    return bios


def covered(seen):
    """Return how often each sector was asked for, by direction."""
    return Counter((kind, sector + i) for kind, sector, nr in seen for i in range(nr))


@QUIET
@given(SPECS)
def test_every_sector_of_every_bio_goes_to_the_driver_once_within_limits_and_all_end(sched, world, specs):
    world = fresh(world)
    queue = world.queue(sched, limits=LIMITS)
    bios = go(world, queue, specs)
    assert all(bio.done.processed and not bio.error for bio in bios)
    wanted = [("W" if bio.write else "R", bio.sector, bio.nbytes >> 9) for bio in bios]
    assert covered(queue.driver.requests()) == covered(wanted)
    assert all(nr <= 64 for _, _, nr in queue.driver.requests())
    assert queue.driver.most <= 4
    assert max(Counter(number for number, *_ in queue.driver.seen).values()) == 1
    world.nothing_left()


@QUIET
@given(SPECS)
def test_rule_r16_without_merges_the_set_of_requests_is_the_same_for_all(world, specs):
    found = []
    for name in SCHEDULERS:
        mine = fresh(world)
        queue = mine.queue(name, limits=QueueLimits(nr_requests=4, max_sectors=64, max_segments=6, nomerges=2))
        go(mine, queue, specs)
        found.append(Counter(queue.driver.requests()))
    assert found.count(found[0]) == len(SCHEDULERS)


def test_the_schedulers_are_these():
    assert [(name, make() and make().name) for name, make in SCHEDULERS.items()] == [
        ("none", None), ("mq-deadline", "mq-deadline"), ("bfq", "bfq"), ("kyber", "kyber"),
    ]  # fmt: skip


def test_bytes_arrive_where_they_belong(sched, world):
    queue = world.queue(sched, limits=LIMITS)
    base = 1 << 20
    for page in range(16):
        world.ram.view(base + 4096 * page, 4096)[:] = bytes([page + 1]) * 4096
    order = [5, 4, 6, 0, 15, 1, 14, 3, 2, 9, 8, 7, 10, 13, 12, 11]
    bios = [world.bio(8 * page, write=True, addr=base + 4096 * page) for page in order]
    assert world.run(queue, *bios) == [0] * 16
    assert queue.driver.media[: 16 * 4096] == world.ram.view(base, 16 * 4096)
    bios = [world.bio(8 * page, addr=(4 << 20) + 4096 * page) for page in order]
    assert world.run(queue, *bios) == [0] * 16
    assert world.ram.view(4 << 20, 16 * 4096) == world.ram.view(base, 16 * 4096)
    world.nothing_left()


@pytest.mark.parametrize("k", [1, 2, 7])
def test_a_driver_that_breaks_takes_nobody_else_along(sched, world, k):
    calls = []

    def fate(rq):
        calls.append(rq)
        if len(calls) == k:
            raise RuntimeError("a bug")
        return 0

    queue = world.queue(sched, limits=QueueLimits(nr_requests=4, max_sectors=64, nomerges=2), fate=fate)
    bios = [world.bio(16 * i) for i in range(12)]
    for bio in bios:
        world.clock.job(queue.submit_bio(bio))
    with pytest.raises(RuntimeError, match="a bug"):
        world.clock.run()
    world.nothing_left()
    assert sorted(bio.error for bio in bios) == [0] * 11 + [errno.EIO]


def test_what_the_device_says_reaches_every_bio_of_a_merged_request(sched, world):
    queue = world.queue(sched, fate=lambda _rq: errno.ENODATA)
    plug = Plug()
    bios = [world.bio(8 * i, addr=(1 << 20) + 4096 * i) for i in range(4)]

    def task():
        for bio in bios:
            yield from queue.submit_bio(bio, plug)
        yield from queue.flush(plug)

    world.clock.job(task())
    world.clock.run()
    assert queue.driver.requests() == [("R", 0, 32)]
    assert [bio.error for bio in bios] == [errno.ENODATA] * 4
    world.nothing_left()


def test_a_driver_without_room_is_asked_again_and_no_user_hears_of_it(sched, world, no_room):
    queue = world.queue(sched, limits=QueueLimits(nr_requests=8, max_sectors=64, nomerges=2))

    def fate(_rq):
        if len(queue.driver.busy) >= 2:
            raise no_room
        return 0

    queue.driver.fate = fate
    bios = [world.bio(16 * i) for i in range(12)]
    assert world.run(queue, *bios) == [0] * 12
    assert 0 < world.names().count("BlockRqRequeue") <= 24  # with completions, not all the time
    assert queue.driver.most == 2
    world.nothing_left()


def test_a_driver_that_never_has_room_fails_the_request_when_nobody_can_make_any(sched, world, no_room):
    def fate(_rq):
        raise no_room

    queue = world.queue(sched, fate=fate)
    bios = [world.bio(16 * i) for i in range(5)]
    assert world.run(queue, *bios) == [errno.ENOMEM] * 5
    assert {bio.why for bio in bios} == {no_room}
    world.nothing_left()


def test_nowait_finds_no_tag_and_leaves_nothing(sched, world):
    queue = world.queue(sched, limits=QueueLimits(nr_requests=1, nomerges=2))
    bios = [world.bio(16 * i) for i in range(queue.tags.depth)]
    late = world.bio(4096, opf=Op.NOWAIT)
    assert world.run(queue, *bios, late) == [0] * len(bios) + [errno.EAGAIN]
    world.nothing_left()


def test_a_task_that_dies_while_it_waits_for_a_tag_ends_its_bio_and_leaves_nothing(sched, world):
    queue = world.queue(sched, limits=QueueLimits(nr_requests=1, nomerges=2), service=100_000)
    bios = [world.bio(16 * i) for i in range(queue.tags.depth + 2)]
    jobs = [queue.submit_bio(bio) for bio in bios]
    dying = jobs[queue.tags.depth]
    for steps in jobs:
        world.clock.job(steps)
    world.clock.run(until=5000)
    assert queue.tags.waiting == 2
    with pytest.raises(KeyboardInterrupt):
        dying.throw(KeyboardInterrupt())
    world.clock.run()
    assert [bio.error for bio in bios] == [0] * queue.tags.depth + [errno.EIO, 0]
    world.nothing_left()


def test_a_scheduler_has_twice_as_many_tags_as_the_driver_up_to_256(world):
    depths = [(n, world.queue("mq-deadline", limits=QueueLimits(nr_requests=n)).tags.depth) for n in (1, 32, 128, 1023)]
    assert depths == [(1, 2), (32, 64), (128, 256), (1023, 256)]
    assert world.queue("none", limits=QueueLimits(nr_requests=1023)).tags.depth == 1023
