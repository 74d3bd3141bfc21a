"""The face of a real loop device: commands become O_DIRECT calls, and the time they took becomes service time."""

import time
from collections.abc import Sequence
from typing import Protocol

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.device import Bus, Command, Done


class RealDevice(Protocol):
    """What is asked of host.loopdev.LoopDevice; a recording can stand in for it."""

    nbytes: int

    def preadv(self, views: Sequence[memoryview], pos: int) -> int:
        """Read at `pos` bytes into `views` with O_DIRECT; return the bytes read."""

    def pwritev(self, views: Sequence[memoryview], pos: int) -> int:
        """Write `views` at `pos` bytes with O_DIRECT; return the bytes written."""

    def flush(self) -> None:
        """Bring what was written to the medium (fdatasync)."""

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the backing file holds."""

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the backing file holds."""


class Loop:
    """A loop device that serves commands from and into the frames of the simulated machine.

    The bytes move at once, zero-copy from the arena; the command is done `measured ns` later on the machine's clock.
    """

    def __init__(self, env: Clock, bus: Bus, real: RealDevice) -> None:
        """Serve through `real`; `ranges` of a command are physical addresses, which `bus` takes: loop does no DMA."""
        self.env, self._bus, self._real = env, bus, real
        self.nbytes = real.nbytes

    def submit(self, cmd: Command, done: Done) -> None:
        """Do `cmd` now; the status is 0, or a positive errno. A write of nothing is a flush."""
        views = [view for addr, nbytes in cmd.ranges for view in self._bus.views(addr, nbytes)]
        begin = time.monotonic_ns()
        status = self._transfer(cmd, views)
        self.env.later(time.monotonic_ns() - begin, done, status)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the backing file holds."""
        return self._real.peek(pos, nbytes)

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the backing file holds."""
        self._real.poke(pos, data)

    def _transfer(self, cmd: Command, views: list[memoryview]) -> int:
        call = self._real.pwritev if cmd.write else self._real.preadv
        pos, left = cmd.sector << 9, cmd.nbytes
        try:
            if not left:
                self._real.flush()
            while left:
                moved = call(views, pos)
                if moved == 0:
                    return 5  # EIO: the kernel's loop driver fails a transfer that makes no progress (LOOP-4)
                pos, left = pos + moved, left - moved
                views = _rest(views, moved)
        except SyscallError as bad:
            return bad.errno
        return 0


def _rest(views: list[memoryview], moved: int) -> list[memoryview]:
    """Return what is left of `views` after `moved` bytes."""
    for i, view in enumerate(views):
        if moved < view.nbytes:
            return [view[moved:], *views[i + 1 :]]
        moved -= view.nbytes
    return []
