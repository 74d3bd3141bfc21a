"""loop: a request's memory goes back up, as an iterator into a file; there is no DMA of its own (LOOP-3)."""

from functools import partial

from labkit.hardware.clock import Steps
from labkit.hardware.device import Command
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus, errno_to_blk_status


class LoopDriver(Started):
    """One loop device, whose commands name physical addresses. A timeout finds no answer here (LOOP-6)."""

    name = "loop"

    def queue_rq(self, rq: Request) -> Steps:
        """Hand the request's memory to the file (lo_rw_aio): nothing is pinned, the upper IO holds the pages.

        Errors: EIO for a device that is gone, EBUSY (ask again).
        """
        self.admit()
        self._emit(("LoRwAio", self.env.now, rq.io, rq.rq, rq.sector << 9, rq.nbytes))
        yield self.cpu.vec * len(rq.vecs)
        command = Command(rq.io, rq.rq, 0, rq.write, rq.sector, rq.nbytes, rq.vecs)
        self.start(rq, command, partial(self._done, rq))

    def _done(self, rq: Request, status: int) -> None:
        self.finish(rq, errno_to_blk_status(status) if status else BlkStatus.BLK_STS_OK)
