from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.device import Command, Health
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import MOST_WAITS, Started
from labkit.kernel.drivers.status import BlkStatus
from labkit.kernel.drivers.timeouts import EhReturn


class Device:
    """A device that keeps what it is given."""

    def __init__(self):
        self.health, self.given, self.resets = Health(), [], 0

    def submit(self, cmd, done):
        self.given.append((cmd, done))

    def reset(self):
        self.resets += 1
        return True


@pytest.fixture
def floor():
    clock, device, raw, ended = Clock(), Device(), [], []
    driver = Started(clock, None, device, raw.append)
    rq = Request(1, 1, 0, 0, (((0x1000, 512),), 512, 1), write=False)
    rq.end_io = lambda _rq, error: ended.append(error)
    return SimpleNamespace(driver=driver, device=device, clock=clock, raw=raw, rq=rq, ended=ended)


def start(floor):
    floor.driver.start(floor.rq, Command(1, 1, 0, False, 0, 512, ()), lambda _status: None)


def test_a_request_ends_once_whoever_says_so_first(floor):
    start(floor)
    assert floor.driver.outstanding == 1
    floor.driver.finish(floor.rq, BlkStatus.BLK_STS_MEDIUM)
    floor.driver.finish(floor.rq, BlkStatus.BLK_STS_OK)
    assert (floor.ended, floor.driver.outstanding) == ([61], 0)


def test_without_an_answer_a_driver_waits_twice_and_the_third_time_the_device_goes(floor):
    start(floor)
    answers = [floor.driver.timeout(floor.rq) for _ in range(MOST_WAITS)]
    assert answers == [EhReturn.BLK_EH_RESET_TIMER, EhReturn.BLK_EH_RESET_TIMER, EhReturn.BLK_EH_DONE]
    assert "taken away (ours)" in floor.driver.action
    floor.clock.run()
    assert (floor.ended, floor.device.resets) == ([5], 1)
    with pytest.raises(SyscallError, match="is gone"):
        floor.driver.admit()


def test_a_device_that_went_while_a_request_was_prepared_gets_nothing(floor):
    floor.driver.remove("gone")
    with pytest.raises(SyscallError, match="is gone"):
        start(floor)
    assert (floor.raw, floor.device.given) == ([], [])


def test_what_release_costs_passes_before_the_end(floor):
    floor.driver.release = lambda _rq: 70
    start(floor)
    floor.driver.finish(floor.rq, BlkStatus.BLK_STS_OK)
    assert floor.ended == []
    floor.clock.run()
    assert (floor.ended, floor.clock.now) == ([0], 70)
