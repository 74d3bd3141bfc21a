from itertools import groupby

from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.sched.bfq import BUDGET, SLICE_IDLE, TIMEOUT, Bfq

MS = 1_000_000


def tasks(rqs):
    return [task for task, _ in groupby(rq.task for rq in rqs)]


def test_the_reads_of_one_task_are_not_mixed_with_those_of_another(make_rq):
    sched = Bfq()
    for i in range(20):
        sched.insert_requests([make_rq(8 * i, task=1), make_rq(8000 + 8 * i, task=2)], 0)
    out = [sched.dispatch_request(0) for _ in range(20)]
    assert tasks(out) == [1]
    assert [rq.sector for rq in out] == [8 * i for i in range(20)]


def reader(world, queue, task, start, bios, think):
    """Read page after page, each when the one before has come, after `think` ns."""
    for i in range(20):
        bio = world.bio(start + 8 * i, addr=(1 << 20) + 4096 * task, task=task)
        bios.append(bio)
        yield from queue.submit_bio(bio)
        yield bio.done
        yield think


def test_two_tasks_that_read_step_by_step_are_served_one_after_the_other(world):
    found = {}
    for name in ("bfq", "mq-deadline"):
        queue, bios = world.queue(name, limits=QueueLimits(nr_requests=1)), []
        world.clock.job(reader(world, queue, 1, 0, bios, MS))
        world.clock.job(reader(world, queue, 2, 8000, bios, MS))
        world.clock.run()
        assert all(not bio.error and bio.done.processed for bio in bios)
        found[name] = [start for start, _ in groupby(sector >= 8000 for _, sector, _ in queue.driver.requests())]
    assert found["bfq"] == [False, True]
    assert len(found["mq-deadline"]) == 40
    world.nothing_left()


def test_a_task_that_thinks_too_long_loses_its_turn(world):
    queue, bios = world.queue("bfq", limits=QueueLimits(nr_requests=1)), []
    world.clock.job(reader(world, queue, 1, 0, bios, SLICE_IDLE + MS))
    world.clock.job(reader(world, queue, 2, 8000, bios, SLICE_IDLE + MS))
    world.clock.run()
    turns = [start for start, _ in groupby(sector >= 8000 for _, sector, _ in queue.driver.requests())]
    assert len(turns) == 40
    world.nothing_left()


def test_a_turn_ends_with_its_budget(make_rq):
    sched = Bfq()
    for i in range(40):
        sched.insert_requests([make_rq(1024 * i, nr=1024, task=1), make_rq(1 << 20 | 1024 * i, nr=1024, task=2)], 0)
    out = [sched.dispatch_request(0) for _ in range(72)]
    assert [(task, len(list(rqs))) for task, rqs in groupby(rq.task for rq in out)] == [
        (1, BUDGET // 1024), (2, 16), (1, 16), (2, 16), (1, 8),
    ]  # fmt: skip


def test_a_turn_ends_with_its_time(make_rq):
    sched = Bfq()
    for i in range(4):
        sched.insert_requests([make_rq(8 * i, task=1), make_rq(8000 + 8 * i, task=2)], 0)
    assert [sched.dispatch_request(now).task for now in (0, MS, TIMEOUT - 1, TIMEOUT)] == [1, 1, 1, 2]


def test_who_has_twice_the_weight_gets_twice_the_sectors(make_rq):
    sched = Bfq()
    sched.weights = {1: 200, 2: 100}
    for i in range(150):
        sched.insert_requests([make_rq(1024 * i, nr=1024, task=1), make_rq(1 << 20 | 1024 * i, nr=1024, task=2)], 0)
    out = [sched.dispatch_request(0).task for _ in range(144)]
    assert (out.count(1), out.count(2)) == (96, 48)


def test_writes_that_nobody_waits_for_are_in_one_queue_whoever_sends_them(make_rq):
    sched = Bfq()
    sched.insert_requests([make_rq(8 * task, write=True, task=task) for task in (3, 1, 2)], 0)
    sched.insert_requests([make_rq(800, write=True, task=4, opf=Op.SYNC)], 0)
    out = [sched.dispatch_request(0) for _ in range(4)]
    assert [rq.sector for rq in out] == [8, 16, 24, 800]


def test_nobody_idles_for_writes_that_nobody_waits_for(make_rq):
    sched = Bfq()
    write, read = make_rq(0, write=True), make_rq(80, task=1)
    sched.insert_requests([write], 0)
    assert sched.dispatch_request(0) is write
    sched.insert_requests([read], 1)
    assert sched.dispatch_request(1) is read


def test_the_device_idles_for_eight_milliseconds_and_says_so(make_rq):
    sched = Bfq()
    mine, other = make_rq(0, task=1), make_rq(80, task=2)
    sched.insert_requests([mine, other], 0)
    assert sched.dispatch_request(0) is mine
    assert sched.dispatch_request(0) is None
    sched.completed_request(mine, MS)
    assert sched.dispatch_request(MS) is None
    assert sched.idle_ns(MS) == SLICE_IDLE
    assert sched.dispatch_request(MS + SLICE_IDLE) is other


def test_a_bio_does_not_join_the_request_of_another_task(world):
    queue = world.queue("bfq", limits=QueueLimits(nr_requests=4), service=100_000)
    bios = [world.bio(0, addr=1 << 20, task=1), world.bio(8, addr=(1 << 20) + 4096, task=2),
            world.bio(8, addr=(1 << 20) + 4096, task=1)]  # fmt: skip
    for bio in (world.bio(4000), *bios):
        world.clock.job(queue.submit_bio(bio))
        world.clock.run(until=world.clock.now + 1000)
    world.clock.run()
    assert sorted(queue.driver.requests()) == [("R", 0, 16), ("R", 8, 8), ("R", 4000, 8)]
    world.nothing_left()
