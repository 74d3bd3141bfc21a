import errno
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.tags import Tags
from labkit.scatter.bio_vec import BioVecs
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList

CPU = Cpu.load(Path(__file__).parents[3] / "data" / "cpu.toml")


class Driver:
    """A driver that takes 1000 ns a request, and does with each what it is told to."""

    def __init__(self, clock, fate=lambda _rq: 0):
        self.clock, self.fate, self.seen = clock, fate, []

    def queue_rq(self, rq):
        self.seen.append((self.clock.now, rq.rq, rq.tag, rq.sector, rq.vecs))
        yield 10
        end = self.fate(rq)
        if isinstance(end, BaseException):
            raise end
        self.clock.later(1000, rq.end_io, rq, end)


LIMITS = QueueLimits()


def queue_of(limits=LIMITS, fate=lambda _rq: 0):
    clock, raw = Clock(), []
    driver = Driver(clock, fate)
    return RequestQueue(clock, CPU, limits, driver, raw.append), driver, raw


def bio_of(queue, payload, sector=0, number=1):
    return Bio(queue.env, number, 1, sector, payload, write=False)


def pages(count, kind=PhyrList):
    ranges = [(0x100000 + i * 0x10000, 4096) for i in range(count)]
    return kind([Phyr(*each) for each in ranges]) if kind is PhyrList else kind.of(ranges)


def run(queue, *bios):
    for bio in bios:
        queue.env.job(queue.submit_bio(bio))
    queue.env.run()


def idle(queue):
    return queue.in_flight == {} and sorted(queue.tags._free) == list(range(queue.limits.nr_requests))


def test_a_bio_that_fits_is_one_request():
    queue, driver, raw = queue_of()
    bio = bio_of(queue, pages(2), sector=16)
    run(queue, bio)
    assert driver.seen == [(90, 1, 0, 16, ((0x100000, 4096), (0x110000, 4096)))]
    assert raw == [
        ("BlockBioQueue", 0, 1, 1, 16, 16, 2, 0, "R"),
        ("BlockGetrq", 90, 1, 1, 1, 0, 16, 16, 2),
        ("BlockRqComplete", 1100, 1, 1, 0, 16, 16, 0),
    ]
    assert (bio.done.value, bio.done.processed) == (0, True)
    assert idle(queue)


def test_a_bio_that_does_not_fit_is_split_and_each_front_says_where_it_ends():
    queue, driver, raw = queue_of(QueueLimits(max_segments=2))
    bio = bio_of(queue, pages(5), sector=16)
    run(queue, bio)
    assert [(sector, len(vecs)) for _, _, _, sector, vecs in driver.seen] == [(16, 2), (32, 2), (48, 1)]
    assert [rec[3:7] for rec in raw if rec[0] == "BlockSplit"] == [(1, 16, 32, "SPLIT-3d"), (1, 32, 48, "SPLIT-3d")]
    assert bio.done.value == 0


def test_the_time_of_a_split_is_paid():
    queue, driver, _ = queue_of(QueueLimits(max_segments=1))
    run(queue, bio_of(queue, pages(2)))
    assert [at for at, *_ in driver.seen] == [240, 490]


def test_vectors_of_pages_are_counted_as_conversions_phyrs_are_not():
    for kind, conversions in ((PhyrList, 0), (BioVecs, 3)):
        found = []
        queue, _, _ = queue_of(fate=lambda rq, found=found: found.append(rq.conversions) or 0)
        run(queue, bio_of(queue, pages(3, kind)))
        assert found == [conversions]


def test_without_a_tag_the_task_sleeps_and_goes_on_in_its_turn():
    queue, driver, raw = queue_of(QueueLimits(nr_requests=2, max_segments=1))
    bio = bio_of(queue, pages(7))
    run(queue, bio)
    assert bio.done.value == 0
    assert [rq for _, rq, *_ in driver.seen] == [1, 2, 3, 4, 5, 6, 7]
    held = 0
    for rec in raw:
        held += (rec[0] == "BlockGetrq") - (rec[0] == "BlockRqComplete")
        assert held <= 2
    assert {tag for _, _, tag, *_ in driver.seen} == {0, 1}
    assert [at for at, *_ in driver.seen] == [240, 490, 1250, 1500, 2260, 2510, 3270]
    assert idle(queue)


def test_tasks_that_wait_for_a_tag_are_served_first_come_first():
    queue, driver, _ = queue_of(QueueLimits(nr_requests=1))
    run(queue, *(bio_of(queue, pages(1), sector=8 * i, number=i) for i in range(5)))
    assert [sector for *_, sector, _ in driver.seen] == [0, 8, 16, 24, 32]
    assert idle(queue)


def test_what_the_device_says_ends_up_in_the_bio():
    queue, _, raw = queue_of(QueueLimits(max_segments=1), fate=lambda rq: errno.ENODATA if rq.rq == 2 else 0)
    bio = bio_of(queue, pages(3))
    run(queue, bio)
    assert bio.error == errno.ENODATA
    assert [rec[-1] for rec in raw if rec[0] == "BlockRqComplete"] == [0, -61, 0]
    assert idle(queue)


def test_a_piece_that_the_driver_refuses_fails_the_bio_with_its_reason_and_the_others_go_all_the_same():
    why = SyscallError("nvme", "the queue", "is gone", errno.ENODEV)
    queue, _, raw = queue_of(QueueLimits(max_segments=1), fate=lambda rq: why if rq.rq == 2 else 0)
    bio = bio_of(queue, pages(3))
    run(queue, bio)
    assert (bio.error, bio.why) == (errno.ENODEV, why)
    assert sorted(rec[-1] for rec in raw if rec[0] == "BlockRqComplete") == [-19, 0, 0]
    assert idle(queue)


def test_a_driver_that_breaks_gives_the_tag_back_too_and_whoever_waits_hears_of_it():
    queue, _, _ = queue_of(fate=lambda _rq: RuntimeError("a bug"))
    bio = bio_of(queue, pages(1))
    job = queue.env.job(queue.submit_bio(bio))
    with pytest.raises(RuntimeError, match="a bug"):
        queue.env.run(until=job)
    assert bio.error == errno.EIO
    assert idle(queue)


def test_a_vector_that_cannot_be_split_fails_the_bio_and_what_was_sent_is_waited_for():
    queue, driver, _ = queue_of(QueueLimits(max_segments=1))
    vecs = (Phyr(0x100000, 4096), Phyr(0x200000, 4096), Phyr(0x300001, 4096))
    bio = bio_of(queue, PhyrList(vecs))
    run(queue, bio)
    assert len(driver.seen) == 1
    assert (bio.error, bio.why.errno_name) == (errno.EINVAL, "-EINVAL")
    assert bio.done.processed
    assert idle(queue)


@pytest.mark.parametrize("cls", [RAM, MemoryClass("mmio", "gpu0")])
def test_a_request_is_of_the_class_of_its_bio(cls):
    seen = []
    queue, _, _ = queue_of(replace(LIMITS, max_segments=2), lambda rq: seen.append(rq.cls) or 0)
    run(queue, bio_of(queue, PhyrList([Phyr(0x100000 + i * 0x10000, 4096, cls) for i in range(4)])))
    assert seen == [cls, cls]


def waiting(world, kind, sectors, **limits):
    """Return a queue in which requests of a page at `sectors` wait, the last one newest; another is under way."""
    queue = world.queue(kind, limits=QueueLimits(nr_requests=32, max_sectors=64, **limits), service=10_000_000)
    queue.driver_tags = Tags(world.clock, 1) if queue.driver_tags else None
    queue._busy = kind == "none"
    for sector in sectors:
        world.clock.job(queue.submit_bio(world.bio(sector), own := Plug()))
        world.clock.run(until=world.clock.now + 1000)
        world.clock.job(own.flush(from_schedule=True))
        world.clock.run(until=world.clock.now + 1000)
    return queue


def joins(world, queue, sector):
    """Return whether a bio of a page at `sector` joins a request that waits."""
    before = len(world.names("BlockBioBackmerge", "BlockBioFrontmerge"))
    world.clock.job(queue.submit_bio(world.bio(sector)))
    world.clock.run(until=world.clock.now + 1000)
    return len(world.names("BlockBioBackmerge", "BlockBioFrontmerge")) > before


def let_go(world, queue):
    queue._busy = False
    queue.run_hw_queue()
    world.nothing_left()


def test_rule_merge5_without_a_scheduler_the_eight_newest_that_wait_are_looked_at(world):
    queue = waiting(world, "none", [100 * i for i in range(10)])
    assert len(queue._inserted) == 10
    assert not joins(world, queue, 108)  # the ninth from the end
    assert joins(world, queue, 308)
    assert joins(world, queue, 892)
    let_go(world, queue)


def test_rule_merge5_nobody_joins_what_waits_where_merges_are_off(world):
    queue = waiting(world, "none", [0], nomerges=2)
    assert not joins(world, queue, 8)
    let_go(world, queue)


@pytest.mark.parametrize("kind", ["mq-deadline", "bfq", "kyber"])
@pytest.mark.parametrize("nomerges", [0, 1])
def test_rule_merge5_with_nomerges_1_a_scheduler_has_only_the_request_of_the_last_merge(world, kind, nomerges):
    queue = waiting(world, kind, [9000, 100, 200, 300], nomerges=nomerges)
    found = [joins(world, queue, sector) for sector in (208, 216, 108, 308)]
    assert found == ([False, False, True, False] if nomerges and queue.sched.looks_up else [True] * 4)
    let_go(world, queue)
