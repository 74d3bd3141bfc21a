"""loop: a request's memory goes back up, as an iterator into a file; there is no DMA of its own (LOOP-3)."""

from collections.abc import Callable
from functools import partial

from simpy import Event

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command, Device
from labkit.kernel.drivers.ops import Request, Steps
from labkit.trace.events import BlockRqIssue, LoRwAio, Record


class LoopDriver:
    """One loop device."""

    def __init__(self, env: Clock, cpu: Cpu, device: Device, emit: Callable[[Record], None]) -> None:
        """Drive `device`, whose commands name physical addresses."""
        self.env, self.cpu, self.device, self._emit = env, cpu, device, emit

    def queue_rq(self, rq: Request) -> Steps:
        """Hand the request's memory to the file (lo_rw_aio): nothing is pinned, the upper IO holds the pages."""
        self._emit(LoRwAio(self.env.now, rq.io, rq.rq, rq.sector << 9, rq.nbytes))
        yield self.env.timeout(int(self.cpu.vec * len(rq.vecs)))
        self._emit(BlockRqIssue(self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
        done = self.device.submit(Command(rq.io, rq.rq, 0, rq.write, rq.sector, rq.nbytes, rq.vecs))
        assert done.callbacks is not None  # noqa: S101 - it cannot have fired yet
        done.callbacks.append(partial(self._finish, rq))

    def _finish(self, rq: Request, done: Event) -> None:
        rq.end_io(rq, done.value or 0)
