"""A device without DMA: a CPU copies between memory and the medium at once, and the medium says when that is over.

null_blk with memory_backed=1, and the delay device, which is the same with four numbers.
"""

from labkit.hardware.clock import Clock
from labkit.hardware.controller import Answer, Controller, Verdict, Work
from labkit.hardware.device import Bus, Command, Done
from labkit.hardware.media.ops import Medium, Turn
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT

STATUS_IOERR = 5


class NullBlk(Controller):
    """A medium; addresses of its commands are physical."""

    def __init__(self, env: Clock, bus: Bus, medium: Medium, emit: Emit) -> None:
        """Keep data in `medium`; `bus` takes physical addresses."""
        super().__init__(env, bus, medium, emit, overhead_ns=0, link_bytes_per_ns=1.0)
        self._aborted: set[int] = set()

    def abort(self, rq: int) -> None:
        """Forget the command of request `rq`: if it has not begun, it never will."""
        self._aborted.add(rq)

    def submit(self, cmd: Command, done: Done) -> None:
        """Take `cmd`; the status is 0 or EIO."""
        work = Work(cmd.slot, cmd.io, cmd.rq, cmd.write, cmd.sector << SECTOR_SHIFT, cmd.nbytes, cmd.ranges)
        if work.pos + work.nbytes > self.nbytes:
            self.env.later(0, self._tell, done, STATUS_IOERR, self._life)
            return
        self.begin(work, lambda _work, verdict, _moved: done(0 if verdict is Verdict.OK else STATUS_IOERR))

    def _start(self, life: int, work: Work, turn: Turn, answer: Answer) -> None:
        """Copy now; `turn` says when that is told. A copy that was forgotten meanwhile ends nothing."""
        if life != self._life or self.silent or work.rq in self._aborted:
            return
        self._emit(("DeviceStart", self.env.now, work.io, work.rq, turn.unit))
        verdict, moved = self._move(work) if work.nbytes else (Verdict.OK, 0)
        self.env.later(turn.busy, self._over, life, work, verdict, moved, answer)

    def _over(self, life: int, work: Work, verdict: Verdict, moved: int, answer: Answer) -> None:
        if life == self._life and self.rings():
            answer(work, verdict, moved)

    def _tell(self, done: Done, status: int, life: int) -> None:
        if life == self._life and self.rings():
            done(status)
