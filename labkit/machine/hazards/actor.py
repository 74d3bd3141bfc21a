"""An actor waits for its moment in the trace, gets in the way of the IO, and the bytes are compared at the end."""

from collections.abc import Generator
from typing import Any, NamedTuple

from labkit.errors import LabkitError
from labkit.hardware.clock import Wait
from labkit.machine.hazards.acts import ACTS, Done
from labkit.machine.hazards.stage import Io, Stage
from labkit.machine.hazards.victim import Victim, take_over, wrong_bytes
from labkit.machine.run import fills, pattern
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.trace.events import Record
from labkit.units import PAGE_SIZE

_SHOWN = 16
"""Bytes that a violation shows."""


class Wrong(NamedTuple):
    """The first bytes that are not what they should be: where (physical), what is expected there, and what is found."""

    text: str
    addr: int
    expected: bytes
    found: bytes


class Actor:
    """Does one act of `scenario.hazard` in the instant of the first record `scenario.at` of the first IO.

    It is a sink that looks, and starts a job of its own; the job alone changes anything.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Wait for nothing yet: `enter` says where."""
        self.scenario, self.name = scenario, str(scenario.hazard)
        self.stage: Stage | None = None
        self.io: Io | None = None
        self.done: Done | None = None
        self.victim: Victim | None = None
        self.wrong: list[Wrong] = []
        self._compared = self._met = self._filled = False
        self._job: Any = None

    def enter(self, stage: Stage, task: Task) -> None:
        """Watch the first IO of `task` from now on."""
        self.stage, self.io = stage, Io(task, int(self.scenario.size), self._compare_buffer)

    def __call__(self, rec: Record) -> None:
        """Look at `rec`; start the job when it is the one."""
        if self.io is None or self.stage is None:
            return
        self.io.see(rec)
        if self.io.buf and not self._met:
            self._met, self._filled = True, fills(self.scenario, self.io.task, self.io.buf)
        mine = rec.io == self.io.number != 0  # 0: a registration, before any IO
        if self._job is None and mine and type(rec).__name__ == self.scenario.at:
            self._job = self.stage.clock.job(self._act())

    def outcome(self) -> dict[str, Any]:
        """Return what came of it: name, at, outcome, text; "missed" where the IO never came to that record."""
        done = self.done or Done("missed", f"the IO never comes to {self.scenario.at}")
        return {"name": self.name, "at": self.scenario.at, "outcome": done.outcome, "text": done.text}

    def judge(self) -> tuple[Wrong, ...]:
        """Let the act come to its end; return the first wrong bytes of the buffer, of the next owner, of the medium."""
        if self._job is not None and not self._job.processed and self.stage is not None:
            self.stage.clock.run(until=self._job)
        self._compare_buffer()
        self._compare_owner()
        self._compare_medium()
        return tuple(self.wrong)

    def clean_up(self) -> None:
        """Set right what a bug left."""
        if self.done is not None and self.done.clean_up is not None:
            self.done.clean_up()

    def _act(self) -> Generator[Wait, Any, None]:
        stage, io = self.stage, self.io
        assert stage is not None  # noqa: S101 - a job is started on a stage
        assert io is not None  # noqa: S101 - the same
        try:
            self.done = yield from ACTS[self.name](stage, io)
        except LabkitError as bad:
            self.done = Done("refused", str(bad))
        stage.emit("Hazard", self.name, f"{self.done.outcome}: {self.done.text}", io=io.number)
        self.victim = self.done.victim or take_over(stage, io.frames)

    def _compare_owner(self) -> None:
        """Compare what the next owner of the memory wrote there."""
        if self.victim is not None and self.stage is not None:
            for addr, expected, found in wrong_bytes(self.stage, self.victim):
                self.wrong.append(Wrong("memory of its next owner is not as that one left it", addr, expected, found))
                return

    def _compare_medium(self) -> None:
        """Compare what a write put on the medium with what the task had written to its buffer."""
        moved = max(self.io.moved or 0, 0) if self.io is not None else 0
        if self.scenario.op == "write" and self.stage is not None and moved:
            at = self._first_other(self.stage.medium(int(self.scenario.offset), moved))
            if at is not None:
                text = f"byte {at[0]} of the IO is on the medium, and is not what the task wrote"
                self.wrong.append(Wrong(text, self._phys(at[0]), at[1], at[2]))

    def _compare_buffer(self) -> None:
        """Compare what a read left in the buffer, page by page as far as it is mapped; once."""
        io = self.io
        if self.scenario.op != "read" or io is None or not io.pins or self.stage is None or self._compared:
            return
        self._compared = True
        nbytes = io.nbytes if io.moved is None else max(io.moved, 0)
        medium = self.stage.medium(int(self.scenario.offset), nbytes)
        for at in range(0, nbytes, PAGE_SIZE):
            expected = medium[at : at + PAGE_SIZE]
            try:
                found = io.task.load(io.buf + at, len(expected))
            except LabkitError:  # unmapped meanwhile: nobody reads it
                continue
            if found != expected:
                i = next(i for i in range(len(found)) if found[i] != expected[i])
                addr = next(iter(io.task.frames(io.buf + at + i, 1)))[0]
                text = f"byte {at + i} of the buffer is not what the device read"
                self.wrong.append(Wrong(text, addr, expected[i : i + _SHOWN], found[i : i + _SHOWN]))
                return

    def _first_other(self, medium: bytes) -> tuple[int, bytes, bytes] | None:
        """Return (byte of the IO, expected, found) where `medium` is not what the buffer held: zeros, if nothing."""
        for at, written in pattern(self.scenario, 0):
            found = medium[at : at + len(written)]
            chunk = (written if self._filled else bytes(len(written)))[: len(found)]
            if found != chunk:
                i = next(i for i in range(len(found)) if found[i] != chunk[i])
                return at + i, chunk[i : i + _SHOWN], found[i : i + _SHOWN]
        return None

    def _phys(self, at: int) -> int:
        """Return the physical address that byte `at` of the IO had when it was pinned."""
        for addr, nbytes in self.io.ranges if self.io else ():
            if at < nbytes:
                return addr + at
            at -= nbytes
        return 0
