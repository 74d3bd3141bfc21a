"""One suite for the simulated drive and for a real loop device: what any block device does, as its driver sees it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.loop import Loop
from labkit.hardware.ram import RAM
from labkit.host.arena import arena
from labkit.host.loopdev import LoopDevice
from labkit.kernel.drivers.loop import LoopDriver
from labkit.kernel.drivers.ops import Request
from labkit.machine import DATA, Machine

MIB = 1 << 20


@pytest.fixture
def nvme():
    machine = Machine(ram="64 MiB", fragmentation=0, iommu="strict")
    return SimpleNamespace(device=machine.device, driver=machine.nvme, ram=machine.ram, clock=machine.clock)


@pytest.fixture
def loop(tmp_path):
    clock, ram = Clock(), RAM(arena(64 * MIB))
    with LoopDevice.attach(64 * MIB, directory=tmp_path) as real:
        device = Loop(clock, ram, real)
        driver = LoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), device, lambda _raw: None)
        yield SimpleNamespace(device=device, driver=driver, ram=ram, clock=clock)


@pytest.fixture(params=["nvme", pytest.param("loop", marks=pytest.mark.host)])
def floor(request):
    return request.getfixturevalue(request.param)


def do(floor, vecs, *, write, sector=0):
    """Let one request through; return its errno, and the ns that it took."""
    ended, begin = [], floor.clock.now
    piece = (vecs, sum(nbytes for _, nbytes in vecs), len(vecs))
    rq = Request(1, 1, 0, sector, piece, write=write)
    rq.end_io = lambda _rq, error: ended.append((error, floor.clock.now - begin))
    floor.clock.run(until=floor.clock.job(floor.driver.queue_rq(rq)))
    while not ended:
        floor.clock.step()
    return ended[0]


def noise(nbytes, seed=1):
    return np.random.default_rng(seed).bytes(nbytes)


def test_a_fresh_device_holds_zeros(floor):
    assert floor.device.nbytes >= 64 * MIB
    assert floor.device.peek(0, 4096) == bytes(4096)
    assert floor.device.peek(floor.device.nbytes - 512, 512) == bytes(512)


def test_what_is_poked_is_peeked_and_what_lies_around_it_stays(floor):
    floor.device.poke(4096, b"p" * 4096)
    assert floor.device.peek(3584, 5120) == bytes(512) + b"p" * 4096 + bytes(512)


def test_a_write_arrives_at_its_sector(floor):
    data = noise(8192)
    floor.ram.scatter(((17 * MIB, 4096), (20 * MIB, 4096)), data)
    error, took = do(floor, ((17 * MIB, 4096), (20 * MIB, 4096)), write=True, sector=24)
    assert error == 0
    assert took > 0
    assert floor.device.peek(24 << 9, 8192) == data
    assert floor.device.peek(23 << 9, 512) == bytes(512)


def test_a_read_brings_what_was_poked(floor):
    data = noise(65536)
    floor.device.poke(1 * MIB, data)
    vecs = tuple((17 * MIB + i * 8192, 4096) for i in range(16))
    assert do(floor, vecs, write=False, sector=2048)[0] == 0
    assert floor.ram.gather(vecs) == data


def test_a_read_sees_the_write_before_it(floor):
    data = noise(131072, 9)
    floor.ram.scatter(((18 * MIB, 131072),), data)
    assert do(floor, ((18 * MIB, 131072),), write=True, sector=8)[0] == 0
    assert do(floor, ((24 * MIB, 131072),), write=False, sector=8)[0] == 0
    assert floor.ram.gather(((24 * MIB, 131072),)) == data


def test_one_sector_from_the_middle_of_a_page(floor):
    floor.ram.scatter(((17 * MIB + 1536, 512),), b"s" * 512)
    assert do(floor, ((17 * MIB + 1536, 512),), write=True, sector=3)[0] == 0
    assert floor.device.peek(1024, 1536) == bytes(512) + b"s" * 512 + bytes(512)


def test_the_last_sector_can_be_written(floor):
    last = (floor.device.nbytes >> 9) - 1
    floor.ram.scatter(((17 * MIB, 512),), b"l" * 512)
    assert do(floor, ((17 * MIB, 512),), write=True, sector=last)[0] == 0
    assert floor.device.peek(last << 9, 512) == b"l" * 512


def test_beyond_the_end_is_an_error_and_nothing_is_written(floor):
    last = (floor.device.nbytes >> 9) - 1
    floor.ram.scatter(((17 * MIB, 1024),), b"x" * 1024)
    assert do(floor, ((17 * MIB + 4096, 512),), write=True, sector=last + 1)[0] != 0
    assert floor.device.peek(last << 9, 512) == bytes(512)


def test_a_flush_moves_nothing_and_what_was_written_is_there(floor):
    data = noise(4096, 5)
    floor.ram.scatter(((17 * MIB, 4096),), data)
    assert do(floor, ((17 * MIB, 4096),), write=True, sector=16)[0] == 0
    assert do(floor, (), write=True)[0] == 0
    assert floor.device.peek(16 << 9, 4096) == data
