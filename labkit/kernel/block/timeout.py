"""The one timer of a queue: its driver is told of what takes too long (block/blk-mq.c, block/blk-timeout.c)."""

import errno
from collections.abc import Callable

from labkit.hardware.clock import Clock
from labkit.kernel.drivers.ops import BlkMqOps, Request
from labkit.kernel.drivers.timeouts import IO_TIMEOUT_NS, EhReturn
from labkit.trace.tracer import Emit

MOST_RESETS = 4
"""Ours: so many times a driver that has no answer is given more time; the kernel gives it for ever."""


class Timer:
    """The requests that are with the driver, and when the time of the first of them is over (BLK-3)."""

    def __init__(self, env: Clock, driver: BlkMqOps, emit: Emit, fail: Callable[[Request, int], None]) -> None:
        """Watch nothing yet. `fail(rq, errno)` ends what its driver has no answer for."""
        self.env, self.driver, self._emit, self._fail = env, driver, emit, fail
        self.issued: dict[int, Request] = {}
        """What is with the driver, or just being handed over: by number of the request."""
        self.io_timeout = IO_TIMEOUT_NS
        """How long a request may be there, in ns: sysfs has it in ms, under this name."""
        self._resets: dict[int, int] = {}
        self._armed = False

    def start(self, rq: Request) -> None:
        """Let the time of `rq` begin, which the driver has now (blk_add_timer)."""
        rq.deadline = self.env.now + self.io_timeout
        if not self._armed:
            self._armed = True
            self.env.later(self.io_timeout, self._work)

    def cancel(self, rq: Request) -> None:
        """Let the driver look after `rq`, whose device is gone; whoever has no answer to that loses it (BLK-5)."""
        if rq.rq in self.issued and rq.deadline and self._ask(rq)[0] is not EhReturn.BLK_EH_DONE:
            self._give_up(rq)

    def _work(self) -> None:
        """Ask for all whose time is over, and wait for the next (blk_mq_timeout_work)."""
        self._armed = False
        for rq in [rq for rq in self.issued.values() if 0 < rq.deadline <= self.env.now]:
            if rq.rq in self.issued:  # with one that is over the driver may have ended others
                self._timed_out(rq)
        self._resets = {rq: times for rq, times in self._resets.items() if rq in self.issued}
        if waiting := [rq.deadline for rq in self.issued.values() if rq.deadline]:
            self._armed = True
            self.env.later(max(0, min(waiting) - self.env.now), self._work)

    def _timed_out(self, rq: Request) -> None:
        """Ask the driver what is to be done about `rq`, and do it (blk_mq_rq_timed_out)."""
        answer, action = self._ask(rq)
        times = self._resets[rq.rq] = self._resets.get(rq.rq, 0) + 1
        lost = answer is None and times > MOST_RESETS
        self._emit(("BlkMqRqTimedOut", self.env.now, rq.io, rq.rq, "given up (ours)" if lost else action))
        if lost:
            self._give_up(rq)
        elif answer is not EhReturn.BLK_EH_DONE and rq.rq in self.issued:
            rq.deadline = self.env.now + self.io_timeout

    def _ask(self, rq: Request) -> tuple[EhReturn | None, str]:
        """Return what the driver says of `rq`, and what it does; None where it has nobody to ask.

        What it is done with it ends by itself, now or later, and is not asked for again (RQF_TIMED_OUT).
        """
        timeout: Callable[[Request], EhReturn] | None = getattr(self.driver, "timeout", None)
        if timeout is None:
            return None, EhReturn.BLK_EH_RESET_TIMER.value
        rq.deadline = 0
        answer = timeout(rq)
        return answer, str(getattr(self.driver, "action", answer.value))

    def _give_up(self, rq: Request) -> None:
        """End `rq`, and hear no more of it."""
        rq.end_io = _too_late
        self._fail(rq, errno.EIO)


def _too_late(_rq: Request, _error: int) -> None:
    """Stand in for the completion of a request that is over already."""
