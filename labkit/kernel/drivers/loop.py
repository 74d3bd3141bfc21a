"""loop: a request's memory goes back up, as an iterator into a file; there is no DMA of its own (LOOP-3)."""

import errno
from collections.abc import Callable
from functools import partial

from labkit.hardware.clock import Steps
from labkit.hardware.device import Command
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus, errno_to_blk_status
from labkit.units import SECTOR_SIZE


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


class FileLoopDriver(LoopDriver):
    """A loop device over a file that is simulated, too, and is opened with O_DIRECT where `aligned` is a mask."""

    aligned = SECTOR_SIZE - 1
    """What memory has to be a multiple of, less 1, unless the device below the file asks for less (DIO-9)."""

    def start(self, rq: Request, cmd: Command, done: Callable[[int], None]) -> None:
        """Give `cmd` to the file, which refuses several bios of one request where their memory is not aligned.

        Where they stood alone nobody looked (SPLIT-1); as one IO of several vectors on a file they are looked at again
        (LOOP-3). Errors: Started.start.
        """
        if len(rq.parts) > 1 and any((addr | nbytes) & self.aligned for part in rq.parts for addr, nbytes in part):
            self.started[rq.rq] = rq
            self._emit(("BlockRqIssue", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
            self.env.later(0, done, errno.EINVAL)
        else:
            super().start(rq, cmd, done)
