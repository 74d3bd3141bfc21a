"""loop: a request's memory goes back up, as an iterator into a file; there is no DMA of its own (LOOP-3)."""

from functools import partial

from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command, Device
from labkit.kernel.drivers.ops import Request
from labkit.trace.tracer import Emit


class LoopDriver:
    """One loop device."""

    def __init__(self, env: Clock, cpu: Cpu, device: Device, emit: Emit) -> None:
        """Drive `device`, whose commands name physical addresses."""
        self.env, self.cpu, self.device, self._emit = env, cpu, device, emit

    def queue_rq(self, rq: Request) -> Steps:
        """Hand the request's memory to the file (lo_rw_aio): nothing is pinned, the upper IO holds the pages."""
        self._emit(("LoRwAio", self.env.now, rq.io, rq.rq, rq.sector << 9, rq.nbytes))
        yield self.cpu.vec * len(rq.vecs)
        self._emit(("BlockRqIssue", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
        command = Command(rq.io, rq.rq, 0, rq.write, rq.sector, rq.nbytes, rq.vecs)
        self.device.submit(command, partial(rq.end_io, rq))
