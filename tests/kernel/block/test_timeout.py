import errno

import pytest

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.drivers.timeouts import EhReturn

SECOND = 1_000_000_000
APART = QueueLimits(nr_requests=4, nomerges=2)


class Slow:
    """What is wrong with requests of even numbers: they never come back by themselves."""

    def __init__(self, queue, *answers):
        self.queue, self.disk, self.answers, self.asked, self.lost = queue, queue.driver, list(answers), [], {}
        self.sound, self.disk.end = self.disk.end, self.end

    def end(self, rq, error):
        if rq.rq % 2:
            self.sound(rq, error)
        else:
            self.lost[rq.rq] = rq

    def timeout(self, rq):
        self.asked.append((self.disk.clock.now, rq.rq))
        answer = self.answers.pop(0) if self.answers else EhReturn.BLK_EH_DONE
        self.disk.action = "abort" if answer is EhReturn.BLK_EH_RESET_TIMER else "reset"
        if answer is EhReturn.BLK_EH_DONE:
            self.sound(self.lost.pop(rq.rq), errno.EIO)
        return answer


@pytest.fixture
def slow(world):
    def make(*answers, kind="none"):
        queue = world.queue(kind, limits=APART)
        slow = Slow(queue, *answers)
        queue.driver.timeout = slow.timeout
        return queue, slow

    return make


def test_what_takes_30_seconds_is_told_to_the_driver_and_the_rest_is_not(world, slow, sched):
    queue, driver = slow(kind=sched)
    assert world.run(queue, *[world.bio(16 * i) for i in range(3)]) == [0, errno.EIO, 0]
    ((at, rq),) = driver.asked
    assert (rq, at // SECOND) == (2, 30)
    assert [rec[2:] for rec in world.raw if rec[0] == "BlkMqRqTimedOut"] == [(1, 2, "reset")]
    world.nothing_left()


def test_a_driver_that_wants_more_time_is_asked_again_when_that_is_over(world, slow):
    queue, driver = slow(EhReturn.BLK_EH_RESET_TIMER, EhReturn.BLK_EH_RESET_TIMER)
    assert world.run(queue, world.bio(0), world.bio(16)) == [0, errno.EIO]
    assert [at // SECOND for at, _ in driver.asked] == [30, 60, 90]
    assert [rec[4] for rec in world.raw if rec[0] == "BlkMqRqTimedOut"] == ["abort", "abort", "reset"]
    world.nothing_left()


def test_a_driver_that_is_done_with_a_request_later_is_not_asked_again(world, slow):
    queue, driver = slow()
    queue.driver.timeout = lambda rq: (
        driver.asked.append(rq.rq),
        world.clock.later(70 * SECOND, driver.sound, rq, errno.EIO),
        EhReturn.BLK_EH_DONE,
    )[2]
    assert world.run(queue, world.bio(0), world.bio(16)) == [0, errno.EIO]
    assert driver.asked == [2]
    assert world.clock.now // SECOND == 100
    world.nothing_left()


def test_one_timer_looks_after_all_and_each_has_its_own_time(world, slow):
    queue, driver = slow()
    bios = [world.bio(16 * i) for i in range(4)]
    for i, bio in enumerate(bios):
        world.clock.later(i * SECOND, world.clock.job, queue.submit_bio(bio))
    world.clock.run()
    assert [(at // SECOND, rq) for at, rq in driver.asked] == [(31, 2), (33, 4)]
    world.nothing_left()


def test_a_shorter_io_timeout_is_kept(world, slow):
    queue, driver = slow()
    queue.timer.io_timeout = 2 * SECOND
    world.run(queue, world.bio(0), world.bio(16))
    assert [at // SECOND for at, _ in driver.asked] == [2]
    world.nothing_left()


def test_a_driver_that_ends_the_others_too_is_asked_for_one_alone(world, slow):
    queue, driver = slow()

    def reset(rq):
        driver.asked.append(rq.rq)
        for each in list(driver.lost.values()):
            driver.sound(each, errno.EIO)
        return EhReturn.BLK_EH_DONE

    queue.driver.timeout = reset
    assert world.run(queue, *[world.bio(16 * i) for i in range(4)]) == [0, errno.EIO, 0, errno.EIO]
    assert driver.asked == [2]
    world.nothing_left()


def test_a_request_whose_driver_has_no_answer_is_given_up_after_the_fifth_time(world):
    queue = world.queue(limits=APART)
    driver = Slow(queue)
    bio = world.bio(16)
    assert world.run(queue, world.bio(0), bio) == [0, errno.EIO]
    assert [rec[4] for rec in world.raw if rec[0] == "BlkMqRqTimedOut"] == ["reset timer"] * 4 + ["given up (ours)"]
    assert world.clock.now // SECOND == 150
    driver.sound(driver.lost[2], 0)  # too late: nobody listens
    assert bio.error == errno.EIO
    world.nothing_left()


def test_a_device_that_is_gone_gives_back_what_it_has_at_once_even_what_it_is_just_given(world, slow):
    queue, driver = slow()
    bios = [world.bio(16 * i) for i in range(4)]
    for bio in bios:
        world.clock.job(queue.submit_bio(bio))
    while not queue.timer.issued:
        world.clock.step()
    queue.mark_dead()  # in the middle of queue_rq
    queue.driver.timeout = lambda rq: driver.sound(rq, errno.EIO) or EhReturn.BLK_EH_DONE
    driver.end = queue.driver.end = lambda _rq, _error: None  # nothing comes back by itself
    world.clock.run(until=SECOND)
    assert [bio.error for bio in bios] == [errno.EIO] * 4
    assert world.names("BlkMqRqTimedOut") == []  # no time was over
    world.nothing_left()
