"""The NVMe path as one would first write it in SimPy: a process an IO, a Resource a thing, a dict an event.

It walks page tables, pins, maps, writes and parses the same 64 bytes, moves the same bytes between the same frames and
blocks, charges the same times, and must complete every IO at the same nanosecond as the engine. Only the style differs.
"""

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import simpy

from labkit.hardware.cpu import Cpu
from labkit.kernel.block.limits import QueueLimits

PAGE = 4096
SQE = struct.Struct("<BBHI8x8xQQQHH12x")
CQE = struct.Struct("<I4xHHHH")
QUEUES = 1 << 19
"""The page of device addresses where the queues begin."""
PRESENT_WRITE_USER = 7
FLUSH_QUEUE = 256


Process = Generator[simpy.Event, Any, None]


class Drive(NamedTuple):
    """The drive in numbers: ns, bytes a ns, entries of a queue."""

    dies: int
    read_ns: int
    overhead_ns: int
    link_bytes_per_ns: float
    queue_depth: int


@dataclass
class Bio:
    """Sectors from `sector` on, and (physical address, bytes) of memory."""

    io: Any
    sector: int
    vecs: list[tuple[int, int]]


@dataclass
class Request:
    """A bio with a tag, and what its memory is to the device."""

    bio: Bio
    sector: int
    vecs: list[tuple[int, int]]
    tag: int
    segments: int
    dma: list[tuple[int, int]] = field(default_factory=list)


class NaiveMachine:
    """One drive, one buffer of one page for each job, 4 KiB reads."""

    def __init__(self, cpu: Cpu, drive: Drive, limits: QueueLimits, frames: list[int], media: memoryview) -> None:
        """Give job number i the one page in frame `frames[i]`; `media` is what the drive holds."""
        self.env = simpy.Environment()
        self.cpu, self.drive, self.limits, self.media = cpu, drive, limits, media
        self.tags = simpy.Store(self.env)
        self.tags.items = list(range(limits.nr_requests))
        self.dies = [simpy.Resource(self.env, capacity=1) for _ in range(drive.dies)]
        self.link = simpy.Resource(self.env, capacity=1)
        self.ram = bytearray((len(frames) + 64) * PAGE)
        self.page_table: dict[int, Any] = {}
        for index, frame in enumerate(frames):
            self.map_page(self.address(index), frame)
        self.pins: dict[int, dict[str, Any]] = {}
        self.token = 0
        self.log: list[dict[str, Any]] = []
        self.done: list[int] = []
        self.make_queues(len(frames))

    def make_queues(self, frame: int) -> None:
        """Put both queues at `frame`, behind an IOMMU."""
        self.iommu: dict[int, int] = {}
        self.iotlb: dict[int, int] = {}
        self.iovas = list(range(1 << 10, 1 << 9, -1))
        self.flush_queue: list[int] = []
        self.sq, self.cq = frame * PAGE, (frame + 32) * PAGE
        for page in range(64):
            self.iommu[QUEUES + page] = frame + page
        self.tail = self.cq_tail = self.cq_head = 0
        self.phase = self.expected = 1

    @staticmethod
    def address(index: int) -> int:
        """Return where job `index` has its buffer."""
        return 0x7F00_0000_0000 + index * (2 << 20)

    def map_page(self, addr: int, frame: int) -> None:
        """Map one page, through four levels."""
        table = self.page_table
        for shift in (39, 30, 21):
            table = table.setdefault(addr >> shift & 511, {})
        table[addr >> 12 & 511] = frame << 12 | PRESENT_WRITE_USER

    def walk(self, addr: int, nbytes: int) -> Iterator[tuple[int, int]]:
        """Yield the (physical address, bytes) of user memory, page by page."""
        while nbytes:
            table = self.page_table
            for shift in (39, 30, 21):
                table = table[addr >> shift & 511]
            pte = table[addr >> 12 & 511]
            if pte & PRESENT_WRITE_USER != PRESENT_WRITE_USER:
                raise PermissionError
            take = min(nbytes, PAGE - addr % PAGE)
            yield (pte & ~4095) + addr % PAGE, take
            addr, nbytes = addr + take, nbytes - take

    def emit(self, event: str, **fields: Any) -> None:
        """Keep a record."""
        self.log.append({"t": self.env.now, "event": event, **fields})

    def job(self, index: int, work: list[tuple[int, int]]) -> Process:
        """Do one read after the other: think so many ns, then read at this byte."""
        for io, (think, pos) in enumerate(work):
            yield self.env.timeout(think)
            yield self.env.process(self.read((index, io), self.address(index), pos))

    def read(self, io: Any, buf: int, pos: int) -> Process:
        """Read one page into user address `buf`."""
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
        yield env.timeout(cpu.unpin * len(ranges) + cpu.wakeup)
        self.emit("sys_exit", io=io, name="pread64", ret=PAGE)
        self.done.append(int(env.now))

    def segments(self, vecs: list[tuple[int, int]]) -> int:
        """Return how many segments a bio has; raise for one that breaks a limit."""
        count = 0
        for addr, nbytes in vecs:
            if (addr | nbytes) & self.limits.dma_alignment:
                raise ValueError
            count += -(-nbytes // self.limits.max_segment_size)
        if count > self.limits.max_segments or sum(n for _, n in vecs) >> 9 > self.limits.max_sectors:
            raise ValueError
        return count

    def submit(self, bio: Bio) -> Process:
        """Take a bio through the block layer and the driver, down and up."""
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
        yield env.timeout(cpu.irq)
        self.dma_unmap(rq)
        self.emit("dma_unmap", io=io, tag=tag, stale=True)
        yield env.timeout(cpu.lazy_unmap)
        yield self.tags.put(tag)
        self.emit("block_rq_complete", io=io, tag=tag, sector=rq.sector, nr_sector=8, error=0)

    def dma_map(self, rq: Request) -> None:
        """Give each page a device address."""
        for addr, nbytes in rq.vecs:
            iova = self.iovas.pop()
            self.iommu[iova] = addr // PAGE
            rq.dma.append((iova * PAGE + addr % PAGE, nbytes))

    def dma_unmap(self, rq: Request) -> None:
        """Take the addresses back, lazily."""
        for addr, _nbytes in rq.dma:
            del self.iommu[addr // PAGE]
            self.flush_queue.append(addr // PAGE)
        if len(self.flush_queue) >= FLUSH_QUEUE:
            self.iotlb.clear()
            self.iovas.extend(self.flush_queue)
            self.flush_queue.clear()

    def setup_cmd(self, rq: Request) -> tuple[int, bytes]:
        """Write the submission queue entry; return its slot."""
        prps = [addr for addr, _nbytes in rq.dma]
        sqe = SQE.pack(2, 0, rq.tag, 1, prps[0], 0, rq.sector, 7, 0)
        slot = self.tail
        self.ram[self.sq + slot * 64 : self.sq + slot * 64 + 64] = sqe
        self.tail = (self.tail + 1) % self.drive.queue_depth
        return slot, sqe

    def reap(self) -> int:
        """Take the next completion queue entry; return its status."""
        at = self.cq + self.cq_head * 16
        status = CQE.unpack(self.ram[at : at + 16])[-1]
        if status & 1 != self.expected:
            raise LookupError
        self.cq_head += 1
        if self.cq_head == self.drive.queue_depth:
            self.cq_head, self.expected = 0, self.expected ^ 1
        return int(status) >> 1

    def translate(self, addr: int) -> int:
        """Return the physical address behind a device address."""
        page = addr // PAGE
        if page not in self.iotlb:
            self.iotlb[page] = self.iommu[page]
        return self.iotlb[page] * PAGE + addr % PAGE

    def device(self, io: Any, slot: int) -> Process:
        """Fetch the command in `slot`, and serve it."""
        env, drive = self.env, self.drive
        at = self.translate(QUEUES * PAGE + slot * 64)
        _op, _flags, cid, _ns, prp1, _prp2, slba, blocks, _control = SQE.unpack(self.ram[at : at + 64])
        nbytes = (blocks + 1) * 512
        die = slba * 512 // PAGE % drive.dies
        with self.dies[die].request() as turn:
            yield turn
            self.emit("device_start", io=io, unit=die)
            yield env.timeout(drive.read_ns)
        yield env.timeout(drive.overhead_ns)
        with self.link.request() as turn:
            yield turn
            yield env.timeout(int(nbytes / drive.link_bytes_per_ns))
        misses = int(prp1 // PAGE not in self.iotlb)
        to = self.translate(prp1)
        self.ram[to : to + nbytes] = self.media[slba * 512 : slba * 512 + nbytes]
        self.emit("device_dma", io=io, write=False, nbytes=nbytes)
        self.emit("iotlb_fill", io=io, hits=1 - misses, misses=misses)
        at = self.translate((QUEUES + 32) * PAGE + self.cq_tail * 16)
        self.ram[at : at + 16] = CQE.pack(0, 0, 1, cid, self.phase)
        self.cq_tail += 1
        if self.cq_tail == drive.queue_depth:
            self.cq_tail, self.phase = 0, self.phase ^ 1
