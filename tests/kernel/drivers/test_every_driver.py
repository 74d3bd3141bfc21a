import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import BusFault
from labkit.hardware.loop import Loop
from labkit.hardware.ram import RAM
from labkit.kernel.drivers.loop import LoopDriver
from labkit.kernel.drivers.ops import Request
from labkit.machine import DATA, Machine
from labkit.scatter.memory_class import RAM as ORDINARY
from labkit.scatter.memory_class import MemoryClass

BOTH = ((0x1807000, 4096), (0x1821000, 4096))


class File:
    """What stands in for a real loop device: bytes in memory, a few at a time if so asked."""

    def __init__(self, at_most=1 << 30):
        self.bytes, self.nbytes, self.at_most = bytearray(1 << 20), 1 << 20, at_most

    def preadv(self, views, pos):
        moved = 0
        for view in views:
            take = min(view.nbytes, self.at_most - moved)
            view[:take] = self.bytes[pos : pos + take]
            moved, pos = moved + take, pos + take
        return moved

    def pwritev(self, views, pos):
        moved = 0
        for view in views:
            take = min(view.nbytes, self.at_most - moved)
            self.bytes[pos : pos + take] = view[:take]
            moved, pos = moved + take, pos + take
        return moved

    def peek(self, pos, nbytes):
        return bytes(self.bytes[pos : pos + nbytes])

    def poke(self, pos, data):
        self.bytes[pos : pos + len(data)] = data


def build(name):
    if name != "loop":
        machine = Machine(ram="64 MiB", fragmentation=0, iommu=name)
        return SimpleNamespace(
            driver=machine.nvme, device=machine.device, ram=machine.ram, clock=machine.clock, raw=machine.tracer.raw,
            held=lambda: (machine.nvme.mappings, machine.nvme.pool.in_use),
        )  # fmt: skip
    clock, ram, raw = Clock(), RAM(memoryview(bytearray(64 << 20))), []
    device = Loop(clock, ram, File())
    driver = LoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), device, raw.append)
    return SimpleNamespace(driver=driver, device=device, ram=ram, clock=clock, raw=raw, held=lambda: ({}, 0))


@pytest.fixture(params=["off", "strict", "lazy", "loop"])
def floor(request):
    return build(request.param)


def send(floor, vecs=BOTH, *, write, sector=16):
    """Queue a request, run the clock out, and return the errno that it ended with, if it did."""
    ended = []
    piece = (vecs, sum(nbytes for _, nbytes in vecs), len(vecs))
    rq = Request(1, 1, 0, sector, piece, write=write)
    rq.end_io = lambda _rq, error: ended.append(error)
    job = floor.clock.job(floor.driver.queue_rq(rq))
    job.defused = True
    floor.clock.run()
    return ended, job


def test_a_write_takes_the_bytes_of_memory_to_the_device(floor):
    floor.ram.scatter(BOTH, bytes(range(256)) * 32)
    ended, _ = send(floor, write=True)
    assert ended == [0]
    assert floor.device.peek(8192, 8192) == bytes(range(256)) * 32
    assert floor.held() == ({}, 0)


def test_a_read_brings_the_bytes_of_the_device_to_memory(floor):
    floor.device.poke(8192, bytes(range(256)) * 32)
    ended, _ = send(floor, write=False)
    assert ended == [0]
    assert floor.ram.gather(BOTH) == bytes(range(256)) * 32
    assert floor.held() == ({}, 0)


def test_the_issue_is_told_once_before_the_end(floor):
    send(floor, write=True)
    assert [rec[3:] for rec in floor.raw if rec[0] == "BlockRqIssue"] == [(1, 0, 16, 16)]


def test_a_request_of_one_sector_from_the_middle_of_a_page(floor):
    floor.ram.view(0x1807E00, 512)[:] = b"x" * 512
    assert send(floor, ((0x1807E00, 512),), write=True, sector=1)[0] == [0]
    assert floor.device.peek(0, 1536) == bytes(512) + b"x" * 512 + bytes(512)


def test_a_device_that_does_not_take_the_command_leaves_nothing_mapped(floor, monkeypatch):
    def refuse(*_args):
        raise BusFault(0xDEAD)

    monkeypatch.setattr(floor.device, "submit", refuse)
    ended, job = send(floor, write=True)
    assert ended == []
    assert isinstance(job.value, BusFault)
    assert floor.held() == ({}, 0)


def test_loop_a_short_transfer_goes_on_where_it_stopped():
    floor = build("loop")
    floor.device._real.at_most = 1000
    floor.ram.scatter(BOTH, bytes(range(256)) * 32)
    assert send(floor, write=True)[0] == [0]
    assert floor.device.peek(8192, 8192) == bytes(range(256)) * 32


def test_loop_a_transfer_without_progress_is_eio():
    floor = build("loop")
    floor.device._real.at_most = 0
    assert send(floor, write=False)[0] == [errno.EIO]


def test_loop_what_the_real_device_says_is_the_errno(monkeypatch):
    floor = build("loop")

    def refuse(_views, _pos):
        raise SyscallError("preadv", "2 iovecs", "fails", errno.EINVAL)

    monkeypatch.setattr(floor.device._real, "preadv", refuse)
    assert send(floor, write=False)[0] == [errno.EINVAL]


def test_loop_hands_the_memory_to_a_file_and_maps_nothing():
    floor = build("loop")
    send(floor, write=True)
    assert [rec[0] for rec in floor.raw] == ["LoRwAio", "BlockRqIssue"]
    assert floor.raw[0] == ("LoRwAio", 0, 1, 1, 8192, 8192)


def test_a_bus_may_answer_in_pieces_to_loop_too():
    floor = build("loop")
    whole = floor.device._bus

    class Sectors:
        def views(self, addr, nbytes):
            return [whole.view(at, 512) for at in range(addr, addr + nbytes, 512)]

    floor.device._bus = Sectors()
    floor.ram.scatter(BOTH, bytes(range(256)) * 32)
    assert send(floor, write=True)[0] == [0]
    assert floor.device.peek(8192, 8192) == bytes(range(256)) * 32


@pytest.mark.parametrize("cls", [ORDINARY, MemoryClass("mmio", "gpu0")])
def test_the_map_is_told_the_class_of_a_request(cls):
    floor = build("off")
    inner, told = floor.driver.dma, []

    class Told(type(inner)):
        def map(self, ranges, cls=None):
            told.append(cls)
            return inner.map(ranges, cls)

    floor.driver.dma = Told()
    rq = Request(1, 1, 0, 16, (BOTH, 8192, 2), cls, write=True)
    floor.clock.job(floor.driver.queue_rq(rq))
    floor.clock.run()
    assert told == [cls]
