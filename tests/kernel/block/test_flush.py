import errno

import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.bio import Op
from labkit.kernel.block.flush import blk_flush_policy, blkdev_issue_flush
from labkit.kernel.block.limits import QueueLimits

NO_CACHE = QueueLimits(nr_requests=4)
CACHE = QueueLimits(nr_requests=4, write_cache=True)
FUA = QueueLimits(nr_requests=4, write_cache=True, fua=True)
PREFLUSH_FUA = Op.PREFLUSH | Op.FUA


@pytest.mark.parametrize(
    ("opf", "nbytes", "limits", "steps"),
    [
        (Op.SYNC, 4096, CACHE, ["data"]),
        (Op.PREFLUSH, 0, CACHE, ["preflush"]),
        (Op.PREFLUSH, 4096, CACHE, ["preflush", "data"]),
        (Op.FUA, 4096, CACHE, ["data", "postflush"]),
        (Op.FUA, 4096, FUA, ["data"]),
        (PREFLUSH_FUA, 4096, CACHE, ["preflush", "data", "postflush"]),
        (PREFLUSH_FUA, 4096, FUA, ["preflush", "data"]),
    ],
)
def test_a_write_takes_these_steps(opf, nbytes, limits, steps):
    assert blk_flush_policy(opf, nbytes, limits) == steps


@pytest.mark.parametrize("sched", ["none", "mq-deadline", "bfq", "kyber"])
@pytest.mark.parametrize(
    ("limits", "opf", "seen"),
    [
        (NO_CACHE, PREFLUSH_FUA, [("W", 8, 8, 0)]),
        (CACHE, Op.PREFLUSH, [("F", 0, 0, 0), ("W", 8, 8, 0)]),
        (CACHE, Op.FUA, [("W", 8, 8, 0), ("F", 0, 0, 0)]),
        (CACHE, PREFLUSH_FUA, [("F", 0, 0, 0), ("W", 8, 8, 0), ("F", 0, 0, 0)]),
        (FUA, PREFLUSH_FUA, [("F", 0, 0, 0), ("W", 8, 8, Op.FUA)]),
        (FUA, Op.FUA, [("W", 8, 8, Op.FUA)]),
    ],
)
def test_the_driver_sees_flushes_around_the_data(world, limits, opf, seen, sched):
    queue = world.queue(sched, limits=limits)
    world.ram.view(1 << 20, 4096)[:] = b"d" * 4096
    bio = world.bio(8, write=True, addr=1 << 20, opf=opf)
    assert world.run(queue, bio) == [0]
    assert [each[1:] for each in queue.driver.seen] == seen
    assert queue.driver.media[4096:8192] == b"d" * 4096
    world.nothing_left()


def test_an_empty_flush_without_a_cache_is_done_at_once_and_nobody_hears_of_it(world):
    queue = world.queue(limits=NO_CACHE)
    world.clock.job(blkdev_issue_flush(queue, world.clock, 1))
    world.clock.run()
    assert (world.clock.now, world.raw, queue.driver.seen) == (0, [], [])


def test_a_flush_is_these_records(world):
    queue = world.queue(limits=CACHE)
    world.clock.run(until=world.clock.job(blkdev_issue_flush(queue, world.clock, 7)))
    assert world.raw == [
        ("BlockBioQueue", 0, 7, 0, 0, 0, 0, 0, "FW"),
        ("BlockGetrq", 90, 7, 0, 1, 0, 0, 0, 0),
        ("BlockRqComplete", 1100, 7, 2, 0, 0, 0, 0),
        ("BlockRqComplete", 1100, 7, 1, 0, 0, 0, 0),
    ]
    world.nothing_left()


def test_many_that_wait_share_one_flush(world):
    queue = world.queue(limits=QueueLimits(nr_requests=64, write_cache=True))
    bios = [world.bio(0, 0, write=True, opf=Op.PREFLUSH) for _ in range(20)]
    assert world.run(queue, *bios) == [0] * 20
    assert queue.driver.requests() == [("F", 0, 0)] * 2  # the first goes alone, all others came while it was under way
    world.nothing_left()


def test_more_flushes_than_tags_all_come_to_their_end(world):
    queue = world.queue(limits=CACHE)
    assert world.run(queue, *[world.bio(8 * i, write=True, opf=PREFLUSH_FUA) for i in range(30)]) == [0] * 30
    assert sum(kind == "W" for kind, _, _ in queue.driver.requests()) == 30
    world.nothing_left()


def test_what_was_to_be_flushed_first_is_done_before_the_data_goes(world):
    queue = world.queue(limits=CACHE)
    world.run(queue, *[world.bio(8 * i, write=True, opf=Op.PREFLUSH) for i in range(3)])
    kinds = [kind for kind, _, _ in queue.driver.requests()]
    assert kinds[0] == "F"
    assert kinds.count("W") == 3
    world.nothing_left()


def test_a_flush_that_fails_fails_all_who_wait_for_it_and_their_data_is_not_sent(world):
    queue = world.queue(limits=CACHE, fate=lambda rq: errno.EIO if rq.is_flush else 0)
    assert world.run(queue, *[world.bio(8 * i, write=True, opf=Op.PREFLUSH) for i in range(3)]) == [errno.EIO] * 3
    assert {kind for kind, _, _ in queue.driver.requests()} == {"F"}
    world.nothing_left()


def test_data_that_fails_is_not_flushed_after(world):
    queue = world.queue(limits=CACHE, fate=lambda rq: 0 if rq.is_flush else errno.ENODATA)
    assert world.run(queue, world.bio(8, write=True, opf=PREFLUSH_FUA)) == [errno.ENODATA]
    assert [kind for kind, _, _ in queue.driver.requests()] == ["F", "W"]
    world.nothing_left()


def test_whoever_asks_for_a_flush_hears_why_it_failed(world, no_room):
    def refuse(_rq):
        raise no_room

    queue = world.queue(limits=CACHE, fate=refuse)
    job = world.clock.job(blkdev_issue_flush(queue, world.clock, 1))
    with pytest.raises(SyscallError) as caught:
        world.clock.run(until=job)
    assert caught.value is no_room
    world.nothing_left()


def test_a_flush_waits_for_data_that_the_next_one_is_to_cover_but_not_for_ever(world):
    queue = world.queue(limits=QueueLimits(nr_requests=64, write_cache=True), service=1_000_000_000)

    def stream():
        for i in range(12):
            world.clock.job(queue.submit_bio(world.bio(8 * i, write=True, opf=Op.FUA)))
            yield 900_000_000

    world.clock.job(stream())
    world.clock.run()
    kinds = "".join(kind for kind, _, _ in queue.driver.requests())
    assert kinds.index("F") < kinds.rindex("W")
    world.nothing_left()


def test_a_flush_that_waits_for_data_serves_that_too(world):
    queue = world.queue(limits=QueueLimits(nr_requests=64, write_cache=True))
    world.clock.job(queue.submit_bio(world.bio(0, write=True, opf=Op.FUA)))
    world.clock.run(until=500)
    world.clock.job(queue.submit_bio(world.bio(8, write=True, opf=Op.FUA)))
    world.clock.run()
    assert queue.driver.requests() == [("W", 0, 8), ("W", 8, 8), ("F", 0, 0)]
    world.nothing_left()
