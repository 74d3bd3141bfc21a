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
from labkit.machine import DATA
from labkit.scatter.bio_vec import BioVecs
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList

CPU = Cpu.load(Path(DATA / "cpu.toml"))


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
    return queue.in_flight == {} and sorted(queue._free) == list(range(queue.limits.nr_requests))


def test_a_bio_that_fits_is_one_request():
    queue, driver, raw = queue_of()
    bio = bio_of(queue, pages(2), sector=16)
    run(queue, bio)
    assert driver.seen == [(90, 1, 0, 16, ((0x100000, 4096), (0x110000, 4096)))]
    assert raw == [
        ("BlockBioQueue", 0, 1, 1, 16, 16, 2, 0),
        ("BlockGetrq", 0, 1, 1, 1, 0, 16, 16, 2),
        ("BlockRqComplete", 1100, 1, 1, 0, 16, 16, 0),
    ]
    assert (bio.done.value, bio.done.processed) == (0, True)
    assert idle(queue)


def test_a_bio_that_does_not_fit_is_split_and_each_front_says_where_it_ends():
    queue, driver, raw = queue_of(QueueLimits(max_segments=2))
    bio = bio_of(queue, pages(5), sector=16)
    run(queue, bio)
    assert [(sector, len(vecs)) for _, _, _, sector, vecs in driver.seen] == [(16, 2), (32, 2), (48, 1)]
    assert [rec[3:] for rec in raw if rec[0] == "BlockSplit"] == [(1, 16, 32), (1, 32, 48)]
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
    assert [at for at, *_ in driver.seen] == [240, 490, 1490, 1740, 2740, 2990, 3990]
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


def test_a_piece_that_the_driver_refuses_is_the_last_its_tag_is_back_and_the_bio_carries_the_reason():
    why = SyscallError("dma_pool", "256 bytes", "are not to be had", errno.ENOMEM)
    queue, _, raw = queue_of(QueueLimits(max_segments=1), fate=lambda rq: why if rq.rq == 2 else 0)
    bio = bio_of(queue, pages(3))
    run(queue, bio)
    assert (bio.error, bio.why) == (errno.ENOMEM, why)
    assert sorted(rec[-1] for rec in raw if rec[0] == "BlockRqComplete") == [-12, 0]
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
