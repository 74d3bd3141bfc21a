"""A machine, built bottom-up from a scenario; the only file that knows everything.

m = Machine(ram="4 GiB", device="nvme", system="phyr", iommu="lazy", fragmentation=0.6, seed=7)
task = m.task()
buf = task.mmap("1 MiB", folio="4 KiB")
fd = task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT")
task.pread(fd, buf, "1 MiB", offset=0)
m.trace
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from labkit.errors import LabkitError
from labkit.hardware.clock import Clock, Wait
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Device
from labkit.hardware.iommu import Iommu
from labkit.hardware.loop import Loop, RealDevice
from labkit.hardware.nvme_ssd import NvmeSsd, Profile
from labkit.hardware.ram import RAM
from labkit.host.arena import arena
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.limits import QueueLimits, nvme_limits
from labkit.kernel.currency.ops import Currency
from labkit.kernel.currency.page import PageCurrency
from labkit.kernel.currency.phyr import PhyrCurrency
from labkit.kernel.dio import DirectIO, File
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaMapOps
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.loop import LoopDriver
from labkit.kernel.drivers.nvme import NvmeDriver, Queues
from labkit.kernel.drivers.ops import BlkMqOps
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.kernel.mm.ageing import Kept, age
from labkit.kernel.mm.buddy import Buddy
from labkit.kernel.mm.fault import Mm
from labkit.kernel.mm.folio import Folios
from labkit.kernel.mm.page_table import ADDR_MASK
from labkit.kernel.mm.pin import PinLedger
from labkit.kernel.syscall import Syscalls
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.trace.snapshot import DmaState, FolioState, MemoryMap, Snapshot, translation_runs
from labkit.trace.summary import summary
from labkit.trace.trace import Trace
from labkit.trace.tracer import Sink, Tracer
from labkit.units import PAGE_SIZE, PFN_PHYS, DmaAddr, PhysAddr, UserAddr

DATA = next(path for path in (Path(__file__).parent / "data", Path(__file__).parent.parent / "data") if path.is_dir())
"""Device profiles and cost tables: inside an installed package, beside it in a checkout."""

_CURRENCIES: dict[str, Callable[[], Currency]] = {"phyr": PhyrCurrency, "page": PageCurrency}
_ORIGIN = {
    "phyr": {"memory": "proposed (Wilcox, 2022 and 2024)", "pins": "ours (the ledger), as a whole: proposed"},
    "page": {"memory": "upstream 6.18", "pins": "upstream 6.18"},
}
_LOOP_BYTES = 16 << 30
_UNMAPPED = UserAddr(0x7E00_0000_0000)
_CHUNK = 16 << 20
"""Bytes that are filled in and compared at a time."""


class Machine:
    """Hardware, kernel and trace of one scenario. A context manager: a real loop device goes when it ends."""

    def __init__(self, scenario: Scenario | None = None, *, watch: tuple[Sink, ...] = (), **knobs: Any) -> None:
        """Build `scenario`, or the one that `knobs` describe; tell `watch` of every record.

        Raises ScenarioError for what cannot be built, NotAllowed where this machine has no loop device to give.
        """
        self.scenario = scenario or Scenario.of(knobs)
        self.clock, self.tracer = Clock(), Tracer(*watch)
        self.cpu = Cpu.load(DATA / "cpu.toml")
        self.buddy, self.folios, self.ledger = Buddy(self.scenario.ram), Folios(), PinLedger()
        self.ram = RAM(arena(self.buddy.phys_end))
        self._kept: list[Kept] = []
        self._aged: dict[int, int] = {}
        self._exit = ExitStack()
        self._result: dict[str, Any] = {}
        self.error: LabkitError | None = None
        """What the IO of `run` met."""
        self.mms: list[Mm] = []
        self.dma: DmaMapOps = DirectMap()
        self.nvme: NvmeDriver | None = None
        self.real: RealDevice | None = None
        try:
            name, self.device, limits, driver = self._BUILD[self.scenario.device](self)
        except BaseException:
            self.close()
            raise
        self.queue = RequestQueue(self.clock, self.cpu, limits, driver, self.tracer.emit)
        self.file = File(BlockDeviceFile(self.clock, name, self.device.nbytes, limits), self.queue)
        self.currency = _CURRENCIES[self.scenario.system]()
        self.dio = DirectIO(self.clock, self.cpu, self.currency, self.tracer.emit)

    def task(self) -> Task:
        """Return a new process."""
        emit, nr = self.tracer.emit, len(self.mms)
        mm = Mm(self.buddy, self.folios, self.ledger, emit, lambda: self.clock.now, self.ram.wipe, nr)
        self.mms.append(mm)
        calls = Syscalls(self.clock, self.cpu, self.dio, mm, self.tracer.emit)
        return Task(calls, mm, self.ram, {f"/dev/{self.file.bdev.name}": self.file}, self._wait, self._grow_old)

    def run(self) -> dict[str, Any]:
        """Do what the scenario says, compare the bytes, and return the summary; raises nothing that the IO met.

        Besides trace.summary: `verified` (bytes that arrived are the bytes that were there), `error` (one sentence, or
        None), and what was run.
        """
        self.scenario.check_device(self.device.nbytes)
        self.error, verified = None, False
        try:
            verified = self._run(self.task())
        except LabkitError as bad:
            self.error = bad
        self._result = {"verified": verified, "error": str(self.error) if self.error else None}
        told = {"system": self.scenario.system, "device": self.scenario.device, "seed": self.scenario.seed}
        return {**told, **summary(self.trace), **self._result, "scenario": self.scenario.model_dump(mode="json")}

    @property
    def trace(self) -> Trace:
        """The whole story so far, as a value."""
        real = self.scenario.device == "loop"
        meta = {
            "scenario": self.scenario.model_dump(mode="json"),
            "device": {
                "name": self.file.bdev.name,
                "nbytes": self.device.nbytes,
                "clock": "measured" if real else "simulated",
            },
            "kernel": "6.18",
            "origin": _ORIGIN[self.scenario.system],
            **self._result,
        }
        return Trace(self.tracer.records, MemoryMap(tuple(self.buddy.spans()), tuple(self._kept)), meta)

    def snapshot(self) -> Snapshot:
        """Return the machine as it is now, read from its live parts."""
        vmas = sorted((vma for mm in self.mms for vma in mm.space.vmas), key=lambda vma: vma.start)
        pages = (
            (vma.start + i * PAGE_SIZE, pte & ADDR_MASK) for vma in vmas for i, pte in enumerate(vma.table.ptes) if pte
        )
        live = self.nvme.mappings.values() if self.nvme else ()
        stale = self.dma.queue if isinstance(self.dma, IommuMap) else ()
        mappings = [(m, True) for m in live] + [(m, False) for m in stale]
        return Snapshot(
            t=self.clock.now,
            vmas=tuple((vma.start, vma.end - vma.start, vma.prot, vma.name) for vma in vmas),
            pages=translation_runs(pages),
            folios=tuple(
                FolioState(f.pfn, f.order, f.refcount, f.pincount)
                for f in sorted(self.folios.by_head.values(), key=lambda f: f.pfn)
            ),
            pins=tuple(self.ledger.held[token] for token in sorted(self.ledger.held)),
            dma=tuple(sorted(DmaState(m.dma, m.phys, alive) for m, alive in mappings)),
            tags=tuple(sorted(self.queue.in_flight.items())),
        )

    def close(self) -> None:
        """Give back what is real: the loop device, if there is one. A second call does nothing."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _build_nvme(self) -> tuple[str, Device, QueueLimits, BlkMqOps]:
        profile, iommu_on = Profile.load(DATA / "nvme.toml"), self.scenario.iommu != "off"
        iommu = Iommu(self.ram)
        if iommu_on:
            strict = self.scenario.iommu == "strict"
            self.dma = IommuMap(iommu, self.clock.later, self._flushed, strict=strict)
        media = arena(profile.nbytes)
        ssd = NvmeSsd(self.clock, iommu if iommu_on else self.ram, media, profile, self.tracer.emit)
        (sq, sq_dma), (cq, cq_dma), pool = self._shared(4), self._shared(2), self._shared(10)
        ssd.create_queues(sq_dma, cq_dma)
        queues = Queues(sq, sq_dma, cq, cq_dma, profile.queue_depth)
        lists = DmaPool(*pool, PAGE_SIZE << 10)
        self.nvme = NvmeDriver(self.clock, self.cpu, self.ram, self.dma, ssd, queues, lists, self.tracer.emit)
        limits = nvme_limits(profile.mdts_bytes, iommu=iommu_on, depth=profile.queue_depth)
        return "nvme0n1", ssd, limits, self.nvme

    def _build_loop(self) -> tuple[str, Device, QueueLimits, BlkMqOps]:
        from labkit.host.loopdev import LoopDevice  # noqa: PLC0415 - the rest runs where there is no fcntl

        real = self._exit.enter_context(LoopDevice.attach(_LOOP_BYTES))
        self.real = real
        device = Loop(self.clock, self.ram, real)
        driver = LoopDriver(self.clock, self.cpu, device, self.tracer.emit)
        return real.path.removeprefix("/dev/"), device, QueueLimits.from_sysfs(real.limits), driver

    _BUILD: ClassVar = {"nvme": _build_nvme, "loop": _build_loop}

    def _shared(self, order: int) -> tuple[PhysAddr, DmaAddr]:
        """Take memory that driver and device share; return its physical and its bus address."""
        pfn = self.buddy.alloc_pages(order)
        self._kept.append((pfn, 1 << order, "slab"))
        return PFN_PHYS(pfn), self.dma.alloc_coherent(PFN_PHYS(pfn), PAGE_SIZE << order)

    def _flushed(self, syncs: int) -> None:
        self.tracer.emit(("IotlbFlush", self.clock.now, 0, syncs))

    def _grow_old(self, order: int, nbytes: int) -> None:
        """Age what the next `nbytes` of folios of `order` will be made of."""
        blocks, seed = -(-nbytes // (PAGE_SIZE << order)), self.scenario.seed + self._aged.get(order, 0)
        self._aged[order] = self._aged.get(order, 0) + blocks
        self._kept += age(self.buddy, self.scenario.fragmentation, order, blocks, seed)

    def _wait(self, call: Generator[Wait, Any, int]) -> int:
        """Run the machine until `call` returns, or raises."""
        return int(self.clock.run(until=self.clock.job(call)))  # type: ignore[arg-type]

    def _run(self, task: Task) -> bool:
        sc = self.scenario
        buf = self._buffer(task)
        fd, good = task.open(f"/dev/{self.file.bdev.name}"), True
        for i in range(sc.count):
            for at, chunk in _pattern(sc, i):
                if sc.op == "read":
                    self.device.poke(sc.offset + at, chunk)
                elif sc.buffer == "mapped":
                    task.store(buf + at, chunk)
            moved = (task.pread if sc.op == "read" else task.pwrite)(fd, buf, sc.size, sc.offset)
            good = good and moved > 0 and self._same(task, buf, moved)
        return good

    def _buffer(self, task: Task) -> int:
        """Map what the scenario's IO is to find at its address; return the address."""
        if self.scenario.buffer == "unmapped":
            return _UNMAPPED + self.scenario.skew
        prot = "r--" if self.scenario.buffer == "readonly" else "rw-"
        return task.mmap(self.scenario.size + self.scenario.skew, self.scenario.folio, prot) + self.scenario.skew

    def _same(self, task: Task, buf: int, nbytes: int) -> bool:
        """Return whether the first `nbytes` of the buffer and of the medium are equal."""
        spans = ((at, min(_CHUNK, nbytes - at)) for at in range(0, nbytes, _CHUNK))
        return all(task.load(buf + at, n) == self.device.peek(self.scenario.offset + at, n) for at, n in spans)


def _pattern(scenario: Scenario, turn: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte of the IO, random bytes) until the size of the scenario is reached; the seed and `turn` decide."""
    rng = np.random.default_rng([scenario.seed, turn])
    for at in range(0, scenario.size, _CHUNK):
        yield at, rng.bytes(min(_CHUNK, scenario.size - at))
