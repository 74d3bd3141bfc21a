"""A disk of bytes under a real queue: what is written can be read back, and any request can be made to fail."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.ram import RAM
from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.sched import SCHEDULERS
from labkit.kernel.version import KERNELS
from labkit.scatter.memory_class import RAM as RAM_CLASS
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.trace.state import state_at
from labkit.trace.tracer import typed

CPU = Cpu.load(Path(__file__).parents[3] / "data" / "cpu.toml")
MIB = 1 << 20


class Disk:
    """A driver with its medium, that serves `width` requests at a time, `service` ns each, and notes what it is told.

    `fate` gets each request: what it returns is the errno, what it raises is raised by queue_rq.
    """

    def __init__(self, clock, ram, *, service=1000, width=1 << 30, fate=lambda _rq: 0):
        self.clock, self.ram, self.service, self.width, self.fate = clock, ram, service, width, fate
        self.media = bytearray(8 * MIB)
        self.seen, self.busy, self.most = [], [], 0

    def queue_rq(self, rq):
        yield 10
        end = self.fate(rq)
        self.seen.append((rq.rq, "F" if rq.is_flush else "W" if rq.write else "R", rq.sector, rq.nbytes >> 9, rq.opf))
        self.busy.append(rq.rq)
        self.most = max(self.most, len(self.busy))
        assert 0 <= rq.tag < self.width
        self.clock.later(self.service, self.end, rq, end)

    def end(self, rq, error):
        self.busy.remove(rq.rq)
        if not error:
            at = rq.sector << 9
            for addr, nbytes in rq.vecs:
                if rq.write:
                    self.media[at : at + nbytes] = self.ram.view(addr, nbytes)
                else:
                    self.ram.view(addr, nbytes)[:] = self.media[at : at + nbytes]
                at += nbytes
        rq.end_io(rq, error)

    def requests(self):
        return [(kind, sector, nr) for _, kind, sector, nr, _ in self.seen]


class World(SimpleNamespace):
    """A clock, memory, and queues; whoever makes bios here can look at what was left."""

    def queue(self, sched="none", kernel="7.3", limits=None, **disk):
        limits = limits or QueueLimits(nr_requests=32, max_sectors=1280)
        driver = Disk(self.clock, self.ram, **disk)
        driver.width = limits.nr_requests
        queue = RequestQueue(self.clock, CPU, limits, driver, self.raw.append, KERNELS[kernel], SCHEDULERS[sched]())
        self.queues.append(queue)
        return queue

    def bio(self, sector, nbytes=4096, *, write=False, addr=None, opf=0, task=0, cls=RAM_CLASS, io=1):
        self.count += 1
        addr = MIB + (sector << 9) % (4 * MIB) if addr is None else addr
        payload = PhyrList([Phyr(addr, nbytes, cls)] if nbytes else [])
        bio = Bio(self.clock, self.count, io, sector, payload, write=write, opf=Op(opf))
        bio.task = task
        return bio

    def run(self, queue, *bios, plug=None):
        for bio in bios:
            self.clock.job(queue.submit_bio(bio, plug))
        self.clock.run()
        return [bio.error for bio in bios]

    def names(self, *kinds):
        return [rec[0] for rec in self.raw if not kinds or rec[0] in kinds]

    def nothing_left(self):
        self.clock.run()
        for queue in self.queues:
            assert queue.in_flight == {}
            assert (queue.tags.free, queue.tags.waiting) == (queue.tags.depth, 0)
            assert queue.driver_tags is None or queue.driver_tags.free == queue.driver_tags.depth
            assert (queue.timer.issued, queue._busy, queue._running, len(queue._inserted)) == ({}, False, False, 0)
            assert (queue._flushes._steps, queue._flushes._pending, queue._flushes._running) == ({}, [], [])
            assert queue.sched is None or not queue.sched.has_work()
        if len(self.queues) == 1:
            assert state_at(map(typed, self.raw), self.clock.now).tags == ()


@pytest.fixture
def world():
    clock = Clock()
    return World(clock=clock, ram=RAM(memoryview(bytearray(16 * MIB))), raw=[], queues=[], count=0)


@pytest.fixture(params=list(SCHEDULERS))
def sched(request):
    return request.param


@pytest.fixture(scope="session")
def no_room():
    return SyscallError("driver", "memory", "is not to be had", errno.ENOMEM)
