from pathlib import Path

import numpy as np
import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.loop import Loop
from labkit.hardware.ram import RAM
from labkit.kernel.drivers.loop import FileLoopDriver, LoopDriver
from labkit.kernel.drivers.ops import Request
from labkit.machine import DATA


class File:
    """What stands in for the real one: it notes where the memory that it is given lies."""

    nbytes = 1 << 20

    def __init__(self):
        self.given = []

    def preadv(self, views, _pos):
        self.given += [(np.frombuffer(view, np.uint8).ctypes.data, view.nbytes) for view in views]
        return sum(view.nbytes for view in views)


def test_the_frames_that_came_down_go_down_again():
    clock, whole, file = Clock(), bytearray(1 << 20), File()
    ram = RAM(memoryview(whole))
    driver = LoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), Loop(clock, ram, file), lambda _raw: None)
    vecs, ended = ((0x7000, 4096), (0x21000, 512)), []
    rq = Request(1, 1, 0, 8, (vecs, 4608, 2), write=False)
    rq.end_io = lambda _rq, error: ended.append(error)
    clock.job(driver.queue_rq(rq))
    clock.run()
    start = np.frombuffer(whole, np.uint8).ctypes.data
    assert [(addr - start, nbytes) for addr, nbytes in file.given] == [(0x7000, 4096), (0x21000, 512)]
    assert (ended, driver.outstanding) == ([0], 0)


@pytest.mark.parametrize(
    ("second", "aligned", "error"),
    [(0x21200, 511, 0), (0x21201, 511, 22), (0x21201, 0, 0), (0x21204, 3, 0), (0x21202, 3, 22)],
)
def test_a_file_looks_at_the_memory_of_several_bios_that_became_one_request(second, aligned, error):
    clock, ram = Clock(), RAM(memoryview(bytearray(1 << 20)))
    driver = FileLoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), Loop(clock, ram, File()), lambda _raw: None)
    driver.aligned, ended = aligned, []
    rq = Request(1, 1, 0, 8, (((0x7000, 4096),), 4096, 1), write=False)
    rq.add(((second, 512),), 512, 1, front=False)
    rq.end_io = lambda _rq, error: ended.append(error)
    clock.job(driver.queue_rq(rq))
    clock.run()
    assert (ended, driver.outstanding) == ([error], 0)
