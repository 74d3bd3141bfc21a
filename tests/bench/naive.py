"""The same path as one would first write it in SimPy: a process an IO, a Resource a thing, a dict an event.

It walks page tables, pins, maps, writes and parses the same 64 bytes, moves the same bytes between the same frames and
blocks, charges the same times, and must complete every IO at the same nanosecond as the engine. Only the style differs;
the benchmark compares the two.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import simpy

from labkit.hardware.cpu import Cpu
from labkit.hardware.nvme_ssd import Profile
from labkit.kernel.block.limits import QueueLimits

PAGE = 4096
SQE = struct.Struct("<BBHI8x8xQQQHH12x")
CQE = struct.Struct("<I4xHHHH")


@dataclass
class Bio:
    io: Any
    sector: int
    vecs: list[tuple[int, int]]


@dataclass
class Request:
    bio: Bio
    sector: int
    vecs: list[tuple[int, int]]
    tag: int
    segments: int
    dma: list[tuple[int, int]] = field(default_factory=list)


class NaiveMachine:
    """One drive, one buffer of one page for each job, 4 KiB reads."""

    def __init__(self, cpu: Cpu, profile: Profile, limits: QueueLimits, frames: list[int], media: memoryview) -> None:
        self.env = simpy.Environment()
        self.cpu, self.profile, self.limits, self.media = cpu, profile, limits, media
        self.tags = simpy.Store(self.env)
        self.tags.items = list(range(limits.nr_requests))
        self.dies = [simpy.Resource(self.env, capacity=1) for _ in range(profile.dies)]
        self.link = simpy.Resource(self.env, capacity=1)
        self.ram = bytearray((len(frames) + 64) * PAGE)
        self.frames = frames
        self.page_table: dict[int, Any] = {}
        for index, frame in enumerate(frames):
            self.map_page(self.address(index), frame)
        self.pins: dict[int, dict[str, Any]] = {}
        self.token = 0
        self.iommu: dict[int, int] = {}
        self.iotlb: dict[int, int] = {}
        self.iovas = list(range(1 << 10, 1 << 9, -1))
        self.flush_queue: list[int] = []
        self.sq, self.cq = len(frames) * PAGE, (len(frames) + 32) * PAGE
        for page in range(64):
            self.iommu[(1 << 19) + page] = len(frames) + page
        self.tail = self.cq_tail = self.cq_head = 0
        self.phase = self.expected = 1
        self.log: list[dict[str, Any]] = []
        self.done: list[int] = []

    @staticmethod
    def address(index: int) -> int:
        return 0x7F00_0000_0000 + index * (2 << 20)

    def map_page(self, addr: int, frame: int) -> None:
        table = self.page_table
        for shift in (39, 30, 21):
            table = table.setdefault(addr >> shift & 511, {})
        table[addr >> 12 & 511] = frame << 12 | 7

    def walk(self, addr: int, nbytes: int) -> Iterator[tuple[int, int]]:
        while nbytes:
            table = self.page_table
            for shift in (39, 30, 21):
                table = table[addr >> shift & 511]
            pte = table[addr >> 12 & 511]
            if pte & 7 != 7:
                raise PermissionError
            take = min(nbytes, PAGE - addr % PAGE)
            yield (pte & ~4095) + addr % PAGE, take
            addr, nbytes = addr + take, nbytes - take

    def emit(self, event: str, **fields: Any) -> None:
        self.log.append({"t": self.env.now, "event": event, **fields})

    def job(self, index: int, work: list[tuple[int, int]]) -> Any:
        for io, (think, pos) in enumerate(work):
            yield self.env.timeout(think)
            yield self.env.process(self.read((index, io), self.address(index), pos))

    def read(self, io: Any, buf: int, pos: int) -> Any:
        cpu, env = self.cpu, self.env
        self.emit("sys_enter", io=io, name="pread64", fd=3, buf=buf, nbytes=PAGE, pos=pos)
        yield env.timeout(cpu.syscall)
        if pos % self.limits.logical_block_size or PAGE % self.limits.logical_block_size:
            raise ValueError
        ranges = list(self.walk(buf, PAGE))
        self.token += 1
        token = self.token
        self.pins[token] = {"io": io, "since": env.now, "ranges": ranges}
        self.emit("gup_pin", io=io, token=token, ranges=ranges, ptes=1, atomics=len(ranges))
        yield env.timeout(cpu.walk + cpu.pin * len(ranges) + cpu.vec * len(ranges))
        self.emit("blkdev_direct_IO", io=io, pos=pos, nbytes=PAGE, path="simple")
        yield env.timeout(cpu.bio_alloc)
        bio = Bio(io, pos >> 9, ranges)
        self.emit("block_bio_queue", io=io, sector=bio.sector, nr_sector=8, vecs=len(bio.vecs))
        yield env.process(self.submit(bio))
        del self.pins[token]
        self.emit("gup_unpin", io=io, token=token, atomics=len(ranges))
        yield env.timeout(cpu.unpin * len(ranges))
        yield env.timeout(cpu.wakeup)
        self.emit("sys_exit", io=io, name="pread64", ret=PAGE)
        self.done.append(int(env.now))

    def segments(self, vecs: list[tuple[int, int]]) -> int:
        count = 0
        for addr, nbytes in vecs:
            if (addr | nbytes) & self.limits.dma_alignment:
                raise ValueError
            count += -(-nbytes // self.limits.max_segment_size)
        if count > self.limits.max_segments or sum(n for _, n in vecs) >> 9 > self.limits.max_sectors:
            raise ValueError
        return count

    def submit(self, bio: Bio) -> Any:
        cpu, env, io = self.cpu, self.env, bio.io
        segments = self.segments(bio.vecs)
        tag = yield self.tags.get()
        rq = Request(bio, bio.sector, bio.vecs, tag, segments)
        self.emit("block_getrq", io=io, tag=tag, sector=rq.sector, nr_sector=8, segments=segments)
        yield env.timeout(cpu.getrq)
        self.dma_map(rq)
        self.emit("dma_map", io=io, tag=tag, dma=rq.dma, phys=rq.vecs, maps=len(rq.vecs))
        yield env.timeout(cpu.dma_map + cpu.iova_alloc + cpu.iopte)
        slot, sqe = self.setup_cmd(rq)
        self.emit("nvme_setup_cmd", io=io, cid=tag, slba=rq.sector, prp1=rq.dma[0][0], sqe=sqe.hex())
        yield env.timeout(cpu.sqe + cpu.prp + cpu.doorbell)
        self.emit("block_rq_issue", io=io, tag=tag, sector=rq.sector, nr_sector=8)
        yield env.process(self.device(io, slot))
        status = self.reap()
        self.emit("nvme_complete_rq", io=io, cid=tag, status=status)
        yield env.timeout(cpu.irq + cpu.lazy_unmap)
        self.dma_unmap(rq)
        self.emit("dma_unmap", io=io, tag=tag, stale=True)
        yield self.tags.put(tag)
        self.emit("block_rq_complete", io=io, tag=tag, sector=rq.sector, nr_sector=8, error=0)

    def dma_map(self, rq: Request) -> None:
        for addr, nbytes in rq.vecs:
            iova = self.iovas.pop()
            self.iommu[iova] = addr // PAGE
            rq.dma.append((iova * PAGE + addr % PAGE, nbytes))

    def dma_unmap(self, rq: Request) -> None:
        for addr, _nbytes in rq.dma:
            del self.iommu[addr // PAGE]
            self.flush_queue.append(addr // PAGE)
        if len(self.flush_queue) >= 256:
            self.iotlb.clear()
            self.iovas.extend(self.flush_queue)
            self.flush_queue.clear()

    def setup_cmd(self, rq: Request) -> tuple[int, bytes]:
        prps = [addr for addr, _nbytes in rq.dma]
        sqe = SQE.pack(2, 0, rq.tag, 1, prps[0], 0, rq.sector, 7, 0)
        slot = self.tail
        self.ram[self.sq + slot * 64 : self.sq + slot * 64 + 64] = sqe
        self.tail = (self.tail + 1) % self.profile.queue_depth
        return slot, sqe

    def reap(self) -> int:
        at = self.cq + self.cq_head * 16
        status = CQE.unpack(self.ram[at : at + 16])[-1]
        assert status & 1 == self.expected
        self.cq_head += 1
        if self.cq_head == self.profile.queue_depth:
            self.cq_head, self.expected = 0, self.expected ^ 1
        return status >> 1

    def translate(self, addr: int) -> int:
        page = addr // PAGE
        if page not in self.iotlb:
            self.iotlb[page] = self.iommu[page]
        return self.iotlb[page] * PAGE + addr % PAGE

    def device(self, io: Any, slot: int) -> Any:
        env, profile = self.env, self.profile
        at = self.translate((1 << 19) * PAGE + slot * 64)
        _op, _flags, cid, _ns, prp1, _prp2, slba, blocks, _control = SQE.unpack(self.ram[at : at + 64])
        nbytes = (blocks + 1) * 512
        die = slba * 512 // PAGE % profile.dies
        with self.dies[die].request() as turn:
            yield turn
            self.emit("device_start", io=io, unit=die)
            yield env.timeout(profile.read_ns)
        yield env.timeout(profile.overhead_ns)
        with self.link.request() as turn:
            yield turn
            yield env.timeout(int(nbytes / profile.link_bytes_per_ns))
        to = self.translate(prp1)
        self.ram[to : to + nbytes] = self.media[slba * 512 : slba * 512 + nbytes]
        self.emit("device_dma", io=io, write=False, nbytes=nbytes)
        at = self.translate(((1 << 19) + 32) * PAGE + self.cq_tail * 16)
        self.ram[at : at + 16] = CQE.pack(0, 0, 1, cid, self.phase)
        self.cq_tail += 1
        if self.cq_tail == profile.queue_depth:
            self.cq_tail, self.phase = 0, self.phase ^ 1
