"""One suite for every simulated device and a real loop device: what any block device does, as its driver sees it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.loop import Loop
from labkit.hardware.ram import RAM
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.arena import arena
from labkit.kernel.drivers.loop import LoopDriver
from labkit.kernel.drivers.ops import Request
from labkit.machine import DATA, Machine

MIB = 1 << 20
SIMULATED = ("nvme", "optane", "virtio", "ahci", "disk", "pmem", "null", "delay")


def simulated(name, **knobs):
    machine = Machine(device=name, ram="128 MiB", fragmentation=0, **knobs)
    return SimpleNamespace(device=machine.device, driver=machine.driver, ram=machine.ram, clock=machine.clock)


@pytest.fixture
def loop(tmp_path):
    clock, ram = Clock(), RAM(arena(128 * MIB))
    with LoopDevice.attach(64 * MIB, directory=tmp_path) as real:
        device = Loop(clock, ram, real)
        driver = LoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), device, lambda _raw: None)
        yield SimpleNamespace(device=device, driver=driver, ram=ram, clock=clock)


@pytest.fixture(params=[*SIMULATED, pytest.param("loop", marks=pytest.mark.host)])
def floor(request):
    if request.param == "loop":
        return request.getfixturevalue("loop")
    return simulated(request.param, iommu="strict")


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
    floor.ram.scatter(((97 * MIB, 4096), (100 * MIB, 4096)), data)
    error, took = do(floor, ((97 * MIB, 4096), (100 * MIB, 4096)), write=True, sector=24)
    assert error == 0
    assert took > 0
    assert floor.device.peek(24 << 9, 8192) == data
    assert floor.device.peek(23 << 9, 512) == bytes(512)


def test_a_read_brings_what_was_poked(floor):
    data = noise(65536)
    floor.device.poke(1 * MIB, data)
    vecs = tuple((97 * MIB + i * 8192, 4096) for i in range(16))
    assert do(floor, vecs, write=False, sector=2048)[0] == 0
    assert floor.ram.gather(vecs) == data


def test_a_read_sees_the_write_before_it(floor):
    data = noise(131072, 9)
    floor.ram.scatter(((98 * MIB, 131072),), data)
    assert do(floor, ((98 * MIB, 131072),), write=True, sector=8)[0] == 0
    assert do(floor, ((104 * MIB, 131072),), write=False, sector=8)[0] == 0
    assert floor.ram.gather(((104 * MIB, 131072),)) == data


def test_one_sector_from_the_middle_of_a_page(floor):
    floor.ram.scatter(((97 * MIB + 1536, 512),), b"s" * 512)
    assert do(floor, ((97 * MIB + 1536, 512),), write=True, sector=3)[0] == 0
    assert floor.device.peek(1024, 1536) == bytes(512) + b"s" * 512 + bytes(512)


def test_the_last_sector_can_be_written(floor):
    last = (floor.device.nbytes >> 9) - 1
    floor.ram.scatter(((97 * MIB, 512),), b"l" * 512)
    assert do(floor, ((97 * MIB, 512),), write=True, sector=last)[0] == 0
    assert floor.device.peek(last << 9, 512) == b"l" * 512


def test_beyond_the_end_is_an_error_and_nothing_is_written(floor):
    last = (floor.device.nbytes >> 9) - 1
    floor.ram.scatter(((97 * MIB, 1024),), b"x" * 1024)
    assert do(floor, ((97 * MIB + 4096, 512),), write=True, sector=last + 1)[0] != 0
    assert floor.device.peek(last << 9, 512) == bytes(512)


def test_a_flush_moves_nothing_and_what_was_written_is_there(floor):
    data = noise(4096, 5)
    floor.ram.scatter(((97 * MIB, 4096),), data)
    assert do(floor, ((97 * MIB, 4096),), write=True, sector=16)[0] == 0
    assert do(floor, (), write=True)[0] == 0
    assert floor.device.peek(16 << 9, 4096) == data


@pytest.mark.parametrize("name", ["virtio", "ahci", "nvme"])
@pytest.mark.parametrize("knobs", [{"dma": "direct"}, {"dma": "swiotlb"}, {"dma": "xen"}, {"iommu": "lazy"}], ids=str)
def test_bytes_arrive_however_their_memory_is_mapped(name, knobs):
    floor, data = simulated(name, **knobs), noise(12288, 3)
    vecs = ((97 * MIB, 4096), (99 * MIB + 512, 3584), (103 * MIB, 4608))
    if name == "nvme":  # whose PRPs want whole pages in the middle
        vecs = ((97 * MIB, 4096), (99 * MIB, 4096), (103 * MIB, 4096))
    floor.ram.scatter(vecs, data)
    assert do(floor, vecs, write=True, sector=40)[0] == 0
    assert floor.device.peek(40 << 9, 12288) == data
    floor.ram.scatter(vecs, bytes(12288))
    assert do(floor, vecs, write=False, sector=40)[0] == 0
    assert floor.ram.gather(vecs) == data


HEALTHY = [name for name in SIMULATED if name not in {"nvme", "optane"}]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_bad_sector_is_an_error_and_its_neighbours_are_none(name):
    floor = simulated(name)
    floor.device.health.bad.append((8, 9))
    assert do(floor, ((97 * MIB, 4096),), write=False, sector=8)[0] != 0
    assert do(floor, ((97 * MIB, 4096),), write=False, sector=0)[0] == 0
    assert do(floor, ((97 * MIB, 4096),), write=False, sector=9)[0] == 0


@pytest.mark.parametrize("name", ["virtio", "null", "pmem"])
def test_a_write_that_stops_halfway_has_written_that_half(name):
    floor = simulated(name)
    floor.ram.scatter(((97 * MIB, 4096),), b"h" * 4096)
    floor.device.health.short = 1
    assert do(floor, ((97 * MIB, 4096),), write=True)[0] != 0
    assert floor.device.peek(0, 4096) == b"h" * 2048 + bytes(2048)
    assert do(floor, ((97 * MIB, 4096),), write=True)[0] == 0


@pytest.mark.parametrize("name", HEALTHY)
def test_a_device_that_is_gone_takes_nothing_and_answers_no_reset(name):
    floor, told = simulated(name), []
    floor.device.health.gone = True
    assert floor.device.reset() is False
    if name != "pmem":
        floor.device.submit(Command(1, 1, 0, False, 0, 4096, ((97 * MIB, 4096),)), told.append)
        floor.clock.run()
        assert told == []


@pytest.mark.parametrize("name", ["virtio", "ahci", "delay", "disk"])
def test_a_command_that_was_forgotten_touches_no_memory(name):
    floor, ended = simulated(name), []
    floor.device.poke(0, b"n" * 4096)
    rq = Request(1, 1, 0, 0, (((97 * MIB, 4096),), 4096, 1), write=False)
    rq.end_io = lambda _rq, error: ended.append(error)
    floor.clock.run(until=floor.clock.job(floor.driver.queue_rq(rq)))
    before = floor.ram.gather(((97 * MIB, 4096),))
    floor.device.reset()
    floor.clock.run()
    assert ended == []
    assert floor.ram.gather(((97 * MIB, 4096),)) == before
