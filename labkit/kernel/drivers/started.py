"""What the drivers have in common: who may start, what is started, and how all of it ends when a device goes."""

import errno
from collections.abc import Callable
from typing import Protocol

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command, Health
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.status import BlkStatus, blk_status_to_errno
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.trace.tracer import Emit

MOST_WAITS = 3
"""Ours: a driver that has no answer to a timeout waits so often; the kernel waits for ever."""


class Resettable(Protocol):
    """As much of a device as this needs."""

    health: Health

    def submit(self, cmd: Command, done: Callable[[int], None]) -> None:
        """Take `cmd`."""

    def reset(self) -> bool:
        """Forget every command; return whether the device answers."""


class Started:
    """Every request that one driver has with its device. A driver is one of these."""

    name = "driver"
    busy = BlkStatus.BLK_STS_DEV_RESOURCE
    """What it answers while the device has no room."""

    def __init__(self, env: Clock, cpu: Cpu, device: Resettable, emit: Emit) -> None:
        """Drive `device`."""
        self.env, self.cpu, self.device, self._emit = env, cpu, device, emit
        self.started: dict[int, Request] = {}
        """By number of the request."""
        self.action = ""
        """What was done about the last timeout."""
        self.dead = False
        self._waits: dict[int, int] = {}

    @property
    def outstanding(self) -> int:
        """How many requests are with the device, each with whatever it takes there."""
        return len(self.started)

    def admit(self) -> None:
        """Raise SyscallError: EIO where the device is gone; EBUSY or ENOMEM, ask again, where it is full (BLK-1)."""
        health = self.device.health
        if self.dead or health.gone:
            raise SyscallError(self.name, "the device", "is gone (BLK-5)", errno.EIO)
        if health.refusing:
            health.refusing -= 1
            raise SyscallError(self.name, "the queue of the device", "is full (BLK-1)", blk_status_to_errno(self.busy))

    def start(self, rq: Request, cmd: Command, done: Callable[[int], None]) -> None:
        """Give `cmd` to the device. Raises SyscallError EIO if that was taken away meanwhile."""
        if self.dead:
            raise SyscallError(self.name, "the device", "is gone (BLK-5)", errno.EIO)
        self.started[rq.rq] = rq
        self._emit(("BlockRqIssue", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
        try:
            self.device.submit(cmd, done)
        except BaseException:
            del self.started[rq.rq]
            raise

    def finish(self, rq: Request, status: BlkStatus) -> None:
        """End `rq`, once, after what it held is released and paid for."""
        if self.started.pop(rq.rq, None) is None:
            return
        self._waits.pop(rq.rq, None)
        ns = self.release(rq)
        if ns:
            self.env.later(ns, rq.end_io, rq, blk_status_to_errno(status))
        else:
            rq.end_io(rq, blk_status_to_errno(status))

    def release(self, rq: Request) -> int:  # noqa: ARG002 - there is nothing to release in general
        """Give back what `rq` holds; return the ns that it takes."""
        return 0

    def timeout(self, rq: Request) -> EhReturn:
        """Have no answer: wait on (VIO-4, LOOP-6). Ours: the third time the device is taken away."""
        waits = self._waits[rq.rq] = self._waits.get(rq.rq, 0) + 1
        if self.device.health.gone or self.dead:
            return self.remove(f"{self.name}: the device is gone")
        if waits < MOST_WAITS:
            self.action = f"{self.name} has no answer and waits on"
            return EhReturn.BLK_EH_RESET_TIMER
        return self.remove(f"{self.name}: the device is taken away (ours)")

    def remove(self, action: str) -> EhReturn:
        """Take the device away: it forgets everything, and all that was started is an error."""
        self.action, self.dead = action, True
        self.device.reset()
        self._waits.clear()
        for rq in list(self.started.values()):
            self.env.later(0, self.finish, rq, BlkStatus.BLK_STS_IOERR)
        return EhReturn.BLK_EH_DONE
