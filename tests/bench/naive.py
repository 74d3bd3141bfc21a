"""The same path as one would first write it in SimPy: a process for each IO, a Resource for each thing, a dict for each event.

It moves the same bytes between the same frames and blocks, charges the same times, and must complete every IO at the
same nanosecond as the engine. Only the style differs; the benchmark compares the two.
"""

from typing import Any

import simpy

from labkit.hardware.cpu import Cpu
from labkit.hardware.nvme_ssd import Profile

PAGE = 4096


class NaiveMachine:
    """One drive, one buffer of one page for each job, 4 KiB reads."""

    def __init__(self, cpu: Cpu, profile: Profile, frames: list[int], ram: bytearray, media: memoryview) -> None:
        self.env = simpy.Environment()
        self.cpu, self.profile, self.frames, self.ram, self.media = cpu, profile, frames, ram, media
        self.tags = simpy.Resource(self.env, capacity=profile.queue_depth - 1)
        self.dies = [simpy.Resource(self.env, capacity=1) for _ in range(profile.dies)]
        self.link = simpy.Resource(self.env, capacity=1)
        self.pins: dict[int, int] = {}
        self.iommu: dict[int, int] = {}
        self.iovas = list(range(1 << 20, 0, -1))
        self.log: list[dict[str, Any]] = []
        self.done: list[int] = []

    def emit(self, event: str, **fields: Any) -> None:
        self.log.append({"t": self.env.now, "event": event, **fields})

    def job(self, index: int, work: list[tuple[int, int]]) -> Any:
        for io, (think, pos) in enumerate(work):
            yield self.env.timeout(think)
            yield self.env.process(self.read((index, io), index, pos))

    def read(self, io: tuple[int, int], index: int, pos: int) -> Any:
        cpu, env = self.cpu, self.env
        self.emit("sys_enter", io=io, name="pread64", pos=pos, count=PAGE)
        yield env.timeout(int(cpu.syscall))
        frame = self.frames[index]
        self.pins[frame] = self.pins.get(frame, 0) + 1
        self.emit("gup_pin", io=io, ranges=[(frame * PAGE, PAGE)])
        yield env.timeout(int(cpu.walk + cpu.pin + cpu.vec))
        self.emit("blkdev_direct_IO", io=io, pos=pos)
        yield env.timeout(int(cpu.bio_alloc))
        bio = {"sector": pos >> 9, "vecs": [(frame * PAGE, PAGE)], "io": io}
        self.emit("block_bio_queue", io=io, sector=bio["sector"], nr_sector=8)
        yield env.process(self.submit(bio, pos))
        self.pins[frame] -= 1
        self.emit("gup_unpin", io=io)
        yield env.timeout(int(cpu.unpin))
        yield env.timeout(int(cpu.wakeup))
        self.emit("sys_exit", io=io, ret=PAGE)
        self.done.append(int(env.now))

    def submit(self, bio: dict[str, Any], pos: int) -> Any:
        cpu, env, io = self.cpu, self.env, bio["io"]
        with self.tags.request() as tag:
            yield tag
            self.emit("block_getrq", io=io, sector=bio["sector"], nr_sector=8)
            yield env.timeout(int(cpu.getrq))
            ranges = []
            for addr, nbytes in bio["vecs"]:
                iova = self.iovas.pop()
                self.iommu[iova] = addr // PAGE
                ranges.append((iova * PAGE, nbytes))
            self.emit("dma_map", io=io, ranges=ranges)
            yield env.timeout(int(cpu.dma_map + cpu.iova_alloc + cpu.iopte))
            command = {"opcode": 2, "slba": bio["sector"], "blocks": 8, "prps": [addr for addr, _ in ranges]}
            self.emit("nvme_setup_cmd", io=io, **command)
            yield env.timeout(int(cpu.sqe + cpu.prp + cpu.doorbell))
            self.emit("block_rq_issue", io=io, sector=bio["sector"], nr_sector=8)
            yield env.process(self.device(io, command, pos))
            self.emit("nvme_complete_rq", io=io, status=0)
            yield env.timeout(int(cpu.irq + cpu.lazy_unmap))
            for addr, _nbytes in ranges:
                del self.iommu[addr // PAGE]
                self.iovas.append(addr // PAGE)
            self.emit("dma_unmap", io=io)
            self.emit("block_rq_complete", io=io, sector=bio["sector"], nr_sector=8, error=0)

    def device(self, io: tuple[int, int], command: dict[str, Any], pos: int) -> Any:
        env, profile = self.env, self.profile
        with self.dies[pos // PAGE % profile.dies].request() as die:
            yield die
            self.emit("device_start", io=io)
            yield env.timeout(profile.read_ns)
        yield env.timeout(profile.overhead_ns)
        with self.link.request() as link:
            yield link
            yield env.timeout(int(PAGE / profile.link_bytes_per_ns))
        at = command["slba"] * 512
        for prp in command["prps"]:
            frame = self.iommu[prp // PAGE]
            self.ram[frame * PAGE : (frame + 1) * PAGE] = self.media[at : at + PAGE]
            at += PAGE
        self.emit("device_dma", io=io, nbytes=PAGE)
