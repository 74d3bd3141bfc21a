"""Persistent memory: there is no command and no interrupt, a CPU loads and stores."""

from labkit.hardware.clock import Clock
from labkit.hardware.controller import Controller, Verdict, Work
from labkit.hardware.device import Bus, Command, Done
from labkit.hardware.media.ops import Medium
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT

STATUS_IOERR = 5


class PmemDevice(Controller):
    """Modules in the slots of RAM; addresses of commands are physical.

    Of what Health knows, bad sectors, a stop halfway (a machine check) and being gone happen to it.
    """

    def __init__(self, env: Clock, bus: Bus, medium: Medium, emit: Emit) -> None:
        """Keep data in `medium`; `bus` takes physical addresses."""
        super().__init__(env, bus, medium, emit, overhead_ns=0, link_bytes_per_ns=1.0)

    def latency(self, cmd: Command) -> int:
        """Take a turn for the copy of `cmd`; return the ns until it is through."""
        pos = cmd.sector << SECTOR_SHIFT
        if not cmd.nbytes:
            return self.medium.flush()
        turn = self.medium.reserve(pos, cmd.nbytes, write=cmd.write)
        return turn.wait + turn.busy

    def copy(self, cmd: Command) -> int:
        """Copy the bytes of `cmd` now; return 0, or EIO."""
        work = Work(cmd.slot, cmd.io, cmd.rq, cmd.write, cmd.sector << SECTOR_SHIFT, cmd.nbytes, cmd.ranges)
        if self.health.gone or work.pos + work.nbytes > self.nbytes:
            return STATUS_IOERR
        verdict = self._move(work)[0] if work.nbytes else Verdict.OK
        return 0 if verdict is Verdict.OK else STATUS_IOERR

    def submit(self, cmd: Command, done: Done) -> None:
        """Do what a CPU does for `cmd`, for whoever knows no better."""
        self.env.later(self.latency(cmd), lambda: done(self.copy(cmd)))
