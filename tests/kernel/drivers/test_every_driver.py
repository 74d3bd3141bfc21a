"""One suite for every driver: what a request finds, and that nothing of it is left, whatever happens."""

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
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.machine import DATA, Machine
from labkit.scatter.memory_class import RAM as ORDINARY
from labkit.scatter.memory_class import MemoryClass

BOTH = ((0x6807000, 4096), (0x6821000, 4096))
MAPPED = [
    (name, knobs)
    for name in ("nvme", "virtio", "ahci")
    for knobs in ({"iommu": "off"}, {"iommu": "strict"}, {"iommu": "lazy"}, {"dma": "swiotlb"}, {"dma": "xen"})
]
ALL = [*MAPPED, *((name, {}) for name in ("disk", "pmem", "null", "delay", "loop"))]
MINE = [pair for pair in ALL if pair[0] != "nvme"]
ANSWERED_BY_NOBODY = [pair for pair in MINE if pair[0] != "pmem"]


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

    def batch(self, transfers):
        return [(self.pwritev if write else self.preadv)(views, pos) for views, pos, write in transfers]

    def flush(self):
        pass

    def peek(self, pos, nbytes):
        return bytes(self.bytes[pos : pos + nbytes])

    def poke(self, pos, data):
        self.bytes[pos : pos + len(data)] = data


def build(name, knobs=None):
    if name == "loop":
        clock, ram, raw = Clock(), RAM(memoryview(bytearray(128 << 20))), []
        device = Loop(clock, ram, File())
        driver = LoopDriver(clock, Cpu.load(Path(DATA / "cpu.toml")), device, raw.append)
        return SimpleNamespace(driver=driver, device=device, ram=ram, clock=clock, raw=raw, machine=None)
    machine = Machine(device=name, ram="128 MiB", fragmentation=0, **(knobs or {}))
    return SimpleNamespace(
        driver=machine.driver, device=machine.device, ram=machine.ram, clock=machine.clock, raw=machine.tracer.raw,
        machine=machine,
    )  # fmt: skip


@pytest.fixture(params=ALL, ids=lambda pair: "-".join([pair[0], *pair[1].values()]))
def floor(request):
    return build(*request.param)


def nothing_left(floor):
    """Run the clock out, and assert that the driver and the DMA layer hold nothing of any request."""
    floor.clock.run()
    assert floor.driver.outstanding == 0
    maps = getattr(floor.driver, "maps", None)
    assert maps is None or maps.held == {}
    swiotlb = getattr(floor.machine.dma, "swiotlb", None) if floor.machine else None
    assert swiotlb is None or swiotlb.in_use == 0
    return True


def request_of(vecs=BOTH, *, write=False, sector=16, rq=1, tag=0, cls=ORDINARY):
    """Return a request, and the list in which its errno will be."""
    ended, nbytes = [], sum(nbytes for _, nbytes in vecs)
    made = Request(rq, 1, tag, sector, (vecs, nbytes, len(vecs)), cls, write=write)
    made.end_io = lambda _rq, error: ended.append(error)
    return made, ended


def queue(floor, rq):
    """Give `rq` to the driver; return the job, which is over."""
    job = floor.clock.job(floor.driver.queue_rq(rq))
    job.defused = True
    while not job.processed:
        floor.clock.step()
    return job


def send(floor, vecs=BOTH, *, write, sector=16):
    """Queue a request, run the clock out, and return the errno that it ended with, if it did."""
    rq, ended = request_of(vecs, write=write, sector=sector)
    job = queue(floor, rq)
    floor.clock.run()
    return ended, job


def test_a_write_takes_the_bytes_of_memory_to_the_device(floor):
    floor.ram.scatter(BOTH, bytes(range(256)) * 32)
    ended, _ = send(floor, write=True)
    assert ended == [0]
    assert floor.device.peek(8192, 8192) == bytes(range(256)) * 32
    assert nothing_left(floor)


def test_a_read_brings_the_bytes_of_the_device_to_memory(floor):
    floor.device.poke(8192, bytes(range(256)) * 32)
    ended, _ = send(floor, write=False)
    assert ended == [0]
    assert floor.ram.gather(BOTH) == bytes(range(256)) * 32
    assert nothing_left(floor)


def test_the_issue_is_told_once_before_the_end(floor):
    send(floor, write=True)
    assert [rec[3:] for rec in floor.raw if rec[0] == "BlockRqIssue"] == [(1, 0, 16, 16)]


def test_a_request_of_one_sector_from_the_middle_of_a_page(floor):
    floor.ram.view(0x6807E00, 512)[:] = b"x" * 512
    assert send(floor, ((0x6807E00, 512),), write=True, sector=1)[0] == [0]
    assert floor.device.peek(0, 1536) == bytes(512) + b"x" * 512 + bytes(512)


def test_a_flush_moves_nothing_and_ends(floor):
    assert send(floor, (), write=True)[0] == [0]
    assert [rec for rec in floor.raw if rec[0] == "DeviceDma"] == []
    assert nothing_left(floor)


def test_a_device_that_does_not_take_the_command_leaves_nothing_mapped(floor, monkeypatch):
    def refuse(*_args):
        raise BusFault(0xDEAD)

    copies = floor.machine is not None and floor.machine.scenario.device == "pmem"
    monkeypatch.setattr(floor.device, "copy" if copies else "submit", refuse)
    ended, job = send(floor, write=True)
    assert ended == []
    assert isinstance(job.value, BusFault)
    assert nothing_left(floor)


def test_a_device_without_room_is_asked_again_and_nothing_is_held_meanwhile(floor):
    floor.device.health.refusing = 1
    _, job = send(floor, write=True)
    assert job.value.errno in {errno.EBUSY, errno.ENOMEM}
    assert nothing_left(floor)
    assert send(floor, write=True)[0] == [0]


@pytest.mark.parametrize("name", ["virtio", "ahci", "pmem", "null", "loop"])
def test_a_device_that_is_gone_is_eio_and_never_asked(name):
    floor = build(name)
    floor.device.health.gone = True
    ended, job = send(floor, write=True)
    assert (ended, job.value.errno) == ([], errno.EIO)
    assert [rec for rec in floor.raw if rec[0] == "BlockRqIssue"] == []
    assert nothing_left(floor)


def wait_for_the_end(floor, rq, ended):
    """Ask the driver after a timeout until the request is over; return what it said it did."""
    told = []
    while not ended and len(told) < 10:
        floor.driver.timeout(rq)
        told.append(floor.driver.action)
        floor.clock.run()
    return told


@pytest.mark.parametrize("pair", ANSWERED_BY_NOBODY, ids=lambda pair: "-".join([pair[0], *pair[1].values()]))
@pytest.mark.parametrize("sick", ["stuck", "wedged", "losing"])
def test_a_command_that_nobody_answers_ends_after_timeouts_and_touches_no_memory_then(pair, sick):
    floor = build(*pair)
    setattr(floor.device.health, sick, 1)
    rq, ended = request_of()
    queue(floor, rq)
    floor.clock.run()
    assert ended == []
    assert wait_for_the_end(floor, rq, ended)
    works = pair[0] in {"ahci", "disk"} and sick != "wedged"
    lost = errno.ETIMEDOUT if pair[0] in {"null", "delay"} else errno.EIO
    assert ended == [0 if works else lost]
    assert nothing_left(floor)
    before = floor.ram.gather(BOTH)
    floor.device.poke(8192, b"late" * 2048)
    floor.clock.run()
    assert floor.ram.gather(BOTH) == before


@pytest.mark.parametrize("pair", MINE, ids=lambda pair: "-".join([pair[0], *pair[1].values()]))
@pytest.mark.parametrize("write", [False, True])
def test_a_sector_that_is_bad_is_the_errno_of_its_driver(pair, write):
    floor = build(*pair)
    floor.device.health.bad.append((20, 21))
    medium = pair[0] in {"ahci", "disk"}
    assert send(floor, write=write)[0] == [errno.ENODATA if medium else errno.EIO]
    assert nothing_left(floor)
    assert send(floor, write=write, sector=32)[0] == [0]


@pytest.mark.parametrize("pair", MINE, ids=lambda pair: "-".join([pair[0], *pair[1].values()]))
def test_a_transfer_that_stops_halfway_is_an_error_or_is_done_again(pair):
    floor = build(*pair)
    floor.device.health.short = 1
    floor.device.poke(8192, b"s" * 8192)
    ended, _ = send(floor, write=False)
    assert ended == [0 if pair[0] in {"ahci", "disk"} else errno.EIO]
    assert floor.ram.gather(BOTH) == (b"s" * 8192 if ended == [0] else b"s" * 4096 + bytes(4096))
    assert nothing_left(floor)


@pytest.mark.parametrize("name", ["virtio", "ahci", "null", "delay", "loop"])
def test_a_device_that_goes_with_a_request_on_its_way_ends_it_with_eio(name):
    floor = build(name)
    floor.device.health.stuck = 1
    rq, ended = request_of()
    queue(floor, rq)
    floor.device.health.gone = True
    assert floor.driver.timeout(rq) is EhReturn.BLK_EH_DONE
    floor.clock.run()
    assert ended == [errno.EIO]
    assert nothing_left(floor)
    assert queue(floor, request_of(rq=2)[0]).value.errno == errno.EIO


@pytest.mark.parametrize("name", ["virtio", "ahci", "null", "pmem", "loop"])
def test_a_request_whose_sender_gives_up_leaves_nothing(name):
    floor = build(name)
    rq, ended = request_of()
    steps = floor.driver.queue_rq(rq)
    next(steps)
    steps.close()
    assert nothing_left(floor)
    assert ended == []


@pytest.mark.parametrize("name", ["pmem", "null", "delay"])
@pytest.mark.parametrize("cls", [MemoryClass("foreign", "dom0"), MemoryClass("dma", "nvme")])
def test_memory_that_the_cpu_cannot_reach_is_refused_where_it_must_copy(name, cls):
    floor = build(name)
    rq, ended = request_of(cls=cls)
    with pytest.raises(SyscallError, match="are not mapped for the CPU") as caught:
        list(floor.driver.queue_rq(rq))
    assert (caught.value.errno, ended) == (errno.EINVAL, [])
    assert nothing_left(floor)


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
        def views(self, addr, nbytes, write=False):  # noqa: ARG002 - of every bus
            return [whole.view(at, 512) for at in range(addr, addr + nbytes, 512)]

    floor.device._bus = Sectors()
    floor.ram.scatter(BOTH, bytes(range(256)) * 32)
    assert send(floor, write=True)[0] == [0]
    assert floor.device.peek(8192, 8192) == bytes(range(256)) * 32


@pytest.mark.parametrize("pair", MINE, ids=lambda pair: "-".join([pair[0], *pair[1].values()]))
def test_thirty_two_requests_at_once_end_each_with_its_own_bytes(pair):
    floor, ended = build(*pair), []
    data = [bytes([number + 1]) * 4096 for number in range(32)]
    for write in (True, False):
        for number in range(32):
            at = 0x6400000 + (number * 7 % 32) * 8192
            floor.ram.scatter(((at, 4096),), data[number] if write else bytes(4096))
            piece = (((at, 4096),), 4096, 1)
            rq = Request(64 * write + number + 1, 1, number, number * 8, piece, write=write)
            rq.end_io = lambda rq, error: ended.append((rq.rq, error))
            floor.clock.job(floor.driver.queue_rq(rq))
        floor.clock.run()
    assert floor.device.peek(0, 32 * 4096) == b"".join(data)
    assert [floor.ram.gather(((0x6400000 + (n * 7 % 32) * 8192, 4096),)) for n in range(32)] == data
    assert sorted(ended) == [(n + 1, 0) for n in range(32)] + [(64 + n + 1, 0) for n in range(32)]
    assert nothing_left(floor)
