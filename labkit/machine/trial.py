"""A run on trial: an actor gets in its way, a checker looks on, and in the end it is judged; each only when asked."""

from collections.abc import Iterator
from typing import Any, Protocol

from labkit.kernel.currency.ops import Currency
from labkit.kernel.dio import DirectIO
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine.faults.injector import Injector
from labkit.machine.faults.plant import Plant
from labkit.machine.hazards.actor import Actor
from labkit.machine.hazards.faulty import Faulty
from labkit.machine.hazards.stage import Stage
from labkit.machine.invariants.census import Broken
from labkit.machine.invariants.checker import Checker, Watched
from labkit.machine.invariants.flight import Flight
from labkit.machine.run import path_of
from labkit.machine.verdict import moved_by, violations
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.trace.tracer import Sink


class Parts(Plant, Protocol):
    """As much of a machine as a trial needs."""

    mms: list[Mm]
    dio: DirectIO
    currency: Currency

    @property
    def maps(self) -> RequestMaps | None:
        """Return the memory that is mapped for requests; None where the driver maps none."""

    def task(self) -> Task:
        """Return a new process."""

    def kernel_frames(self) -> int:
        """Return how many frames the kernel has for itself."""


class Trial:
    """Nothing, for a scenario without a hazard that does not ask for a check."""

    def __init__(self, scenario: Scenario) -> None:
        """Make the actor, the checker and the faults that `scenario` asks for.

        Raises ScenarioError for a fault that is none, or cannot be.
        """
        self.actor = Actor(scenario) if scenario.hazard else None
        self.checker = Checker() if scenario.check or scenario.hazard else None
        self.injector = Injector(scenario) if scenario.faults else None
        self.each = scenario.check
        """Whether the checker looks after every record, not at the end alone."""
        self._before: frozenset[int] = frozenset()
        """Tokens that were held before the run: registrations of other tasks."""

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Who is told of every record."""
        return tuple(sink for sink in (self.actor, self.checker, self.injector) if sink is not None)

    def begin(self, machine: Parts) -> None:
        """Let the checker look on from now, and put the bug in that the scenario asks for."""
        scenario, frames = machine.scenario, machine.frames
        if scenario.hazard == "early-unpin":
            machine.dio.currency = Faulty(machine.dio.currency)
        if self.checker is not None:
            flight = Flight(
                frames, machine.mms, machine.queue.limits,
                translated=scenario.backend == "iommu" and machine.maps is not None,
                strict=scenario.iommu == "strict", minimal=scenario.system == "phyr",
            ) if self.each else None  # fmt: skip
            self.checker.watch(Watched(machine.clock, frames, machine.mms, machine.kernel_frames, flight))

    def enter(self, machine: Parts, task: Task) -> None:
        """Let the actor wait for the first IO of `task`; what is held before is not the run's."""
        self._before = frozenset(machine.frames.ledger.held)
        if self.injector is not None:
            self.injector.enter(machine)
        if self.actor is not None:
            stage = Stage(
                machine.clock, machine.frames, machine.ram, machine.mms, machine.slots, machine.dio, machine.task,
                lambda pos, nbytes: machine.volume.peek(path_of(machine.scenario, machine.volume), pos, nbytes),
            )  # fmt: skip
            self.actor.enter(stage, task)

    def judge(self, machine: Parts) -> dict[str, Any]:
        """Return what came of it: faults, hazard, violations, survived; nothing where nobody asked.

        `survived` is None where the hazard never came to its record and nothing broke: nobody was put to the test.
        """
        faults = {"faults": self.injector.told()} if self.injector is not None else {}
        return faults if self.checker is None else faults | self._verdict(machine, self.checker)

    def _verdict(self, machine: Parts, checker: Checker) -> dict[str, Any]:
        """Return what became of memory: hazard, violations, survived."""
        if self.actor is not None:
            for text, addr, expected, found in self.actor.judge():
                at = moved_by(machine.tracer.records, addr)
                rec = ("Violation", machine.clock.now, 0, "bytes", at, text, addr, expected.hex(), found.hex())
                machine.tracer.emit(rec)
        last = max(0, len(machine.tracer.records) - 1)
        checker.tell((last, broken) for broken in self._left(machine.frames))
        checker.look()
        told = violations(machine.tracer.records)
        if self.actor is None:
            return {"violations": told, "survived": not told}
        self.actor.clean_up()
        hazard = self.actor.outcome()
        survived = None if hazard["outcome"] == "missed" and not told else not told
        return {"hazard": hazard, "violations": told, "survived": survived}

    def _left(self, frames: Frames) -> Iterator[Broken]:
        """Yield the pins that are held still: of an IO that is over, or of a buffer that is released (io 0)."""
        for pin in frames.ledger.held.values():
            if pin.policy != "none" and pin.token not in self._before:
                over = f"IO {pin.io} is over" if pin.io else "its buffer is released"
                yield Broken("pins", f"token {pin.token} is held still, and {over}", pin.ranges[0][0])
