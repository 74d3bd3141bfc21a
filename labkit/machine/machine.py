"""The machine of a scenario: hardware, kernel and trace, put together."""

from collections.abc import Generator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from labkit.errors import LabkitError
from labkit.hardware.clock import Clock, Wait
from labkit.hardware.cpu import Cpu
from labkit.hardware.pcie import Pcie
from labkit.hardware.ram import RAM
from labkit.host.memory.arena import arena_or_chunks, release
from labkit.host.signals import taken
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.sched import SCHEDULERS
from labkit.kernel.currency.ops import Currency
from labkit.kernel.currency.page import PageCurrency
from labkit.kernel.currency.phyr import PhyrCurrency
from labkit.kernel.currency.premapped import PremappedCurrency
from labkit.kernel.currency.unified import UnifiedCurrency
from labkit.kernel.dio import DirectIO
from labkit.kernel.dma.xen import XenMap
from labkit.kernel.drivers.nvme.driver import NvmeDriver
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.ageing import age
from labkit.kernel.mm.page_alloc.buddy import UNMOVABLE, Buddy
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.syscall.table import Syscalls
from labkit.kernel.version import rules_of
from labkit.machine.build import BUILD, DATA, Board, overridden
from labkit.machine.fixed import Fixed
from labkit.machine.kinds import MachineKinds
from labkit.machine.placed import Placed
from labkit.machine.plug import Slots
from labkit.machine.premapped import Premapped
from labkit.machine.run import Work, perform
from labkit.machine.stack import STACKS
from labkit.machine.trial import Trial
from labkit.machine.volume import FileVolume
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.trace.others import Others
from labkit.trace.snapshot import DmaState, MemoryMap, Snapshot, translation_runs
from labkit.trace.summary import summary
from labkit.trace.trace import Trace
from labkit.trace.tracer import Sink, Tracer
from labkit.units import PAGE_SIZE, PFN_PHYS, SECTOR_SHIFT, PhysAddr, human_bytes

_ORIGIN = {
    "phyr": {"memory": "proposed (Wilcox, 2022 and 2024)", "pins": "ours (the ledger), as a whole: proposed"},
    "page": {"memory": "upstream {}", "pins": "upstream {}"},
    "unified": {"memory": "proposed (Overstreet, 2024)", "pins": "upstream {}, at the entry: proposed"},
    "premapped": {"memory": "proposed (dma-buf RFC, 2026)", "pins": "upstream {}, at the registration: proposed"},
}


class Machine:
    """Hardware, kernel and trace of one scenario. A context manager: a real loop device goes when it ends."""

    def __init__(
        self, scenario: Scenario | None = None, *, watch: tuple[Sink, ...] = (), placed: Placed | None = None,
        **knobs: Any,
    ) -> None:  # fmt: skip
        """Build `scenario`, or the one that `knobs` describe; tell `watch` of every record.

        `placed`: what of memory and limits is not for the machine to choose.

        Raises ScenarioError for what cannot be built, NotAllowed where this machine has no loop device to give.
        """
        self.scenario, self.placed = scenario or Scenario.of(knobs), placed or Placed()
        self.rules, _ = rules_of(self.scenario.kernel)
        self.trial = Trial(self.scenario)
        self.clock = Clock()
        self.tracer = Tracer(*watch, *self.trial.sinks, struck=self.clock.interrupt)
        self.cpu = Cpu.load(DATA / "cpu.toml")
        self._kept = Others.of(())
        self._aged: dict[int, int] = {}
        self._exit = ExitStack()
        self._result: dict[str, Any] = {}
        self.error: LabkitError | None = None
        """What the IO of `run` met."""
        self.mms: list[Mm] = []
        self._build_memory()
        self._build_device()
        self._build_kernel()
        self.trial.begin(self)

    def _build_memory(self) -> None:
        """Build RAM with its allocator, and all that is known of its frames."""
        self.buddy = Buddy(self.scenario.ram, pci_hole=self.placed.pci_hole)
        self.placed.reserve(self.buddy)
        backed = [(r.start, r.end - r.start) for r in self.buddy.memblock.ram]
        self.ram = RAM(arena_or_chunks(self.buddy.phys_end), backed, release)
        self.frames = Frames(self.buddy, self.tracer.emit, lambda: self.clock.now, self.ram.wipe, self._copy)
        self.folios, self.ledger = self.frames.folios, self.frames.ledger

    def _build_device(self) -> None:
        """Build the device and its queue; what is real goes again where that fails. Errors: those of __init__."""
        self.pcie = Pcie.of(self.scenario.route, acs=self.scenario.acs)
        board = Board(
            self.scenario, self.rules, self.clock, self.cpu, self.ram, self.pcie, self.tracer.emit, self._shared,
            self._exit,
        )  # fmt: skip
        try:
            built = self.placed.device(board, BUILD[self.scenario.device](board))
        except BaseException:
            self.close()
            raise
        self.device, self.dma, self.driver, self.real = built.device, built.dma, built.driver, built.real
        self.medium = built.medium
        limits = overridden(built.limits, self.scenario.limits)
        sched = SCHEDULERS[self.scenario.sched]()
        self.queue = RequestQueue(
            self.clock, self.cpu, limits, built.driver, self.tracer.emit, self.rules, sched,
            nr_sectors=built.device.nbytes >> SECTOR_SHIFT,
        )  # fmt: skip
        self.disk = built.name

    def _build_kernel(self) -> None:
        """Build direct IO in its currency, and every kind of memory that it may meet."""
        self.currency = _currency(self)
        self.dio = DirectIO(self.clock, self.cpu, self.currency, self.tracer.emit, self.rules)
        self.stack = STACKS[self.scenario.stack](self, self.tracer.emit)
        self.volume = FileVolume(self, self.stack, self._shared, self.scenario.completion)
        self.slots = Slots(self.frames, self.ram, self.pcie, self._behind_xen, page=self.currency.name != "phyr")
        self.fixed = Fixed(self.frames, self.dio, self.mms, self.rules)
        self._kinds = MachineKinds(self.slots, self.fixed)

    def task(self) -> Task:
        """Return a new process."""
        mm = Mm(self.frames, len(self.mms))
        self.mms.append(mm)
        calls = Syscalls(self.clock, self.cpu, self.dio, mm, self.tracer.emit)
        return Task(calls, mm, self.ram, self.volume, self._wait, self._grow_old, self._kinds, self.task)

    def run(self, work: Work = perform) -> dict[str, Any]:
        """Do what the scenario says, compare the bytes, and return the summary; raises nothing that the IO met.

        `work` does it, and returns whether every byte arrived.

        Besides trace.summary: `verified` (bytes that arrived are the bytes that were there), `error` (one sentence, or
        None), and what was run.
        """
        self.scenario.check_device(self.volume.disk.nbytes)
        self.error, verified, task = None, False, self.task()
        self.trial.enter(self, task)
        try:
            verified = work(self.scenario, task, self.volume, compare=not self.scenario.hazard)
        except LabkitError as bad:
            self.error = bad
        told = self.trial.judge(self)
        verified = verified and told.get("survived") is not False
        self._result = {"verified": verified, "error": str(self.error) if self.error else None, **told}
        told = {"system": self.scenario.system, "device": self.scenario.device, "seed": self.scenario.seed}
        report = {**told, **summary(self.trace), **self._result, "scenario": self.scenario.model_dump(mode="json")}
        if report["result"] is None and self.error:  # the memory could not be mapped, and no call was made
            report["result"] = self.error.errno_name
        return report

    @property
    def trace(self) -> Trace:
        """The whole story so far, as a value."""
        real = self.scenario.device == "loop"
        meta = {
            "scenario": self.scenario.model_dump(mode="json"),
            "device": {
                "name": self.disk,
                "nbytes": self.device.nbytes,
                "clock": "measured" if real else "simulated",
            },
            "kernel": self.scenario.kernel,
            "pcie": self.pcie.told() if self.maps is not None else None,
            "origin": _origin(self.scenario, self.currency.policy),
            **self._result,
        }
        return Trace(self.tracer.records, MemoryMap(tuple(self.buddy.spans()), self._kept), meta)

    @property
    def nvme(self) -> NvmeDriver | None:
        """The driver, where it is NVMe's."""
        return self.driver if isinstance(self.driver, NvmeDriver) else None

    @property
    def maps(self) -> RequestMaps | None:
        """The memory that is mapped for requests; None where the driver maps none."""
        found = getattr(self.driver, "maps", None)
        return found if isinstance(found, RequestMaps) else None

    def kernel_frames(self) -> int:
        """Return how many frames the kernel has for itself: an earlier life's, the device's, a driver's, buffers."""
        kept = int(self._kept.frames.sum()) + self.placed.waiting
        return kept + self.slots.kept + self.fixed.kernel_frames + self.stack.kernel_frames

    def snapshot(self) -> Snapshot:
        """Return the machine as it is now, read from its live parts."""
        live = self.maps.held.values() if self.maps else ()
        stale = self.maps.stale if self.maps else ()
        mappings = [(m, True) for m in live] + [(m, False) for m in stale]
        return Snapshot(
            t=self.clock.now,
            vmas=tuple(
                sorted((v.start, v.end - v.start, v.prot, v.name, mm.task) for mm in self.mms for v in mm.space.vmas)
            ),
            pages=tuple(run for mm in self.mms for run in translation_runs(mm.translations(), mm.task)),
            folios=tuple(self.folios.states()),
            pins=tuple(self.ledger.held[token] for token in sorted(self.ledger.held)),
            dma=tuple(sorted(DmaState(m.dma, m.phys, alive) for m, alive in mappings)),
            tags=tuple(sorted(self.queue.in_flight.items())),
        )

    def __repr__(self) -> str:
        """Return what it is, and how far it came."""
        asked = self.scenario
        what = f"{asked.system} on {self.disk}, {human_bytes(asked.ram)}, kernel {asked.kernel}, seed {asked.seed}"
        return f"<Machine {what}, {len(self.tracer.records):,} records>"

    def close(self) -> None:
        """Give back what is real: the loop device, if there is one. A second call does nothing."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _shared(self, order: int, below: int = 0) -> PhysAddr:
        """Take memory that driver and device share, `below` an address, or where the device reaches; return where."""
        reach = 0 if self.scenario.backend == "iommu" else 1 << self.scenario.device_mask
        pfn = self.buddy.alloc_pages(order, UNMOVABLE, below=below or reach)
        self._kept += ((pfn, 1 << order, "slab"),)
        return PFN_PHYS(pfn)

    def _behind_xen(self, p2m: dict[int, int]) -> None:
        """Let the device's DMA look guest frames up in `p2m` from now on."""
        ops = self.maps.ops if self.maps is not None else None
        if isinstance(ops, XenMap):
            ops.p2m.grants = p2m
        elif self.maps is not None:
            self.maps.ops = XenMap(self.maps.ops, p2m)

    def _copy(self, to: int, source: int, nbytes: int) -> None:
        """Copy between physical addresses."""
        self.ram.scatter(((to, nbytes),), self.ram.gather(((source, nbytes),)))

    def _grow_old(self, order: int, nbytes: int) -> None:
        """Age what the next `nbytes` of folios of `order` will be made of."""
        blocks, seed = -(-nbytes // (PAGE_SIZE << order)), self.scenario.seed + self._aged.get(order, 0)
        self._aged[order] = self._aged.get(order, 0) + blocks
        self._kept += age(self.buddy, self.scenario.fragmentation, order, blocks, seed)

    def _wait(self, call: Generator[Wait, Any, int]) -> int:
        """Run the machine until `call` returns, or raises.

        Ctrl-C comes between two steps: `call` is given up, and what is on its way ends when the clock runs again.
        """
        job = self.clock.job(call)
        try:
            with taken(self.clock.interrupt):
                return int(self.clock.run(until=job))  # type: ignore[arg-type]
        finally:
            job.abandon()


def _currency(machine: Machine) -> Currency:
    """Return the currency that the scenario asks for, with its own way to pin or another."""
    scenario, rules = machine.scenario, machine.rules
    if scenario.system == "page":
        return PageCurrency(rules)
    if scenario.system == "unified":
        return UnifiedCurrency(rules)
    if scenario.system == "premapped":
        return PremappedCurrency(Premapped(machine))
    return PhyrCurrency(POLICIES[scenario.pin or "range"], scenario.chunk)


def _origin(scenario: Scenario, policy: str) -> dict[str, str]:
    """Return whose idea the currency is, and whose the way to pin."""
    origin = {name: text.format(scenario.kernel) for name, text in _ORIGIN[scenario.system].items()}
    own = {"page": "page", "phyr": "range", "unified": "page"}
    if policy == own.get(scenario.system, policy):
        return origin
    return origin | {"pins": f"{POLICIES[policy].label} ({policy}), as a whole: proposed"}
