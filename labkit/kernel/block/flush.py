"""A write that must be on the medium becomes a flush before it, one behind it, or both: block/blk-flush.c.

Needed only where a device has a cache that it may lose (write_cache), and all that nobody has written back.
"""

from collections.abc import Callable
from itertools import count
from typing import Literal

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.drivers.ops import Request
from labkit.scatter.phyr import PhyrList
from labkit.units import Sector

Step = Literal["preflush", "data", "postflush"]
FLUSH_PENDING_TIMEOUT = 5_000_000_000
"""ns that a flush waits for data that is under way; then it goes beside it."""
FLUSH_FLAGS = Op.PREFLUSH | Op.FUA
"""What may make more than one step of a request."""


def strip_flush(bio: Bio, limits: QueueLimits) -> bool:
    """Take from `bio` what a device without a cache need not do; return whether nothing is left (submit_bio_noacct)."""
    if bio.opf & FLUSH_FLAGS and not limits.write_cache:
        bio.opf &= ~FLUSH_FLAGS
        return bio.nbytes == 0
    return False


def blk_flush_policy(opf: Op, nbytes: int, limits: QueueLimits) -> list[Step]:
    """Return the steps of a request of `nbytes` bytes, in their order; an ordinary one has the step "data" alone."""
    steps: list[Step] = ["data"] if nbytes else []
    if opf & Op.PREFLUSH:
        steps.insert(0, "preflush")
    if opf & Op.FUA and not limits.fua:
        steps.append("postflush")
    return steps


class FlushQueue:
    """The requests of one queue that have flushes among their steps. One flush at a time serves all that wait."""

    def __init__(
        self, env: Clock, rqs: "count[int]", dispatch: Callable[[Request], None], end: Callable[[Request, int], None]
    ) -> None:
        """Begin idle: number flushes with `rqs`, send requests on with `dispatch`, and `end` those that are through."""
        self._env, self._rqs, self._dispatch, self._end = env, rqs, dispatch, end
        self._steps: dict[int, list[Step]] = {}
        self._pending: list[Request] = []
        self._running: list[Request] = []
        self._flush = self._since = 0
        self._data: set[int] = set()

    def insert(self, rq: Request, steps: list[Step]) -> None:
        """Take `rq` through `steps`."""
        self._steps[rq.rq] = steps
        self._next(rq, 0)

    def expect(self, rq: Request, steps: list[Step]) -> None:
        """Let `rq` go its own way with its data, and take it through the `steps` behind that."""
        self._steps[rq.rq] = steps
        self._data.add(rq.rq)

    def completed(self, rq: Request, error: int) -> bool:
        """`rq` comes back from the driver: return whether it was one of these, and is seen to."""
        if rq.rq == self._flush:
            self._end(rq, error)
            waited, self._running, self._flush = self._running, [], 0
            for each in waited:
                each.why = rq.why
                self._next(each, error)
        elif rq.rq in self._data:
            self._data.remove(rq.rq)
            self._next(rq, error)
        else:
            return False
        return True

    def _next(self, rq: Request, error: int) -> None:
        """Let `rq` take its next step; an error is its last."""
        steps = self._steps[rq.rq]
        if error or not steps:
            del self._steps[rq.rq]
            self._end(rq, error)
        elif steps.pop(0) == "data":
            self._data.add(rq.rq)
            self._dispatch(rq)
        else:
            if not self._pending:
                self._since = self._env.now
            self._pending.append(rq)
        self._kick()

    def _kick(self) -> None:
        """Send one flush for all that wait, unless one is under way, or data that the next one is to cover."""
        late = self._env.now - self._since >= FLUSH_PENDING_TIMEOUT
        if not self._pending or self._running or (self._data and not late):
            return
        self._running, self._pending = self._pending, []
        first = self._running[0]
        rq = Request(next(self._rqs), first.io, first.tag, Sector(0), ((), 0, 0), write=True)
        rq.internal_tag, rq.end_io, rq.nomerge = first.internal_tag, first.end_io, True
        self._flush = rq.rq
        self._dispatch(rq)


def blkdev_issue_flush(device: BioConsumer, env: Clock, io: int, bio: int = 0) -> Steps:
    """Have `device` bring its cache to the medium, for IO `io`, and wait. Raises SyscallError: what the device says."""
    flush = Bio(env, bio, io, Sector(0), PhyrList(), write=True, opf=Op.PREFLUSH)
    yield from device.submit_bio(flush)
    yield flush.done
    if flush.error:
        raise flush.why or SyscallError("block", "a flush", "failed in the device (BLK-1)", flush.error)
