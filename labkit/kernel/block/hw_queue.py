"""Requests wait, go to the driver under tags, and come back: the lower half of a queue (struct blk_mq_hw_ctx)."""

import errno
from collections import deque
from collections.abc import Sequence
from itertools import count

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.block.elevator import Elevator
from labkit.kernel.block.flush import FlushQueue
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.tags import Tags
from labkit.kernel.block.timeout import Timer
from labkit.kernel.drivers.ops import BlkMqOps, Request
from labkit.kernel.drivers.status import blk_status_requeues
from labkit.kernel.version import Rules
from labkit.trace.tracer import Emit

MAX_SCHED_RQ = 256
"""Requests of a scheduler at most: twice what the driver takes, or this (MQ-2)."""
BLK_MQ_RESOURCE_DELAY = 3_000_000
"""ns after which a driver that had no room is asked again, if nothing ends before (BLK-4)."""
MOST_ASKS = 100
"""Ours: so many times in a row, with nothing on its way that could make room; the kernel asks for ever."""


class HwQueue:
    """One hardware queue: the tags of a scheduler if there is one, the tags of the driver, and what waits."""

    def __init__(
        self, env: Clock, limits: QueueLimits, driver: BlkMqOps, emit: Emit, rules: Rules, sched: Elevator | None
    ) -> None:
        """Send to `driver`, at most `limits.nr_requests` at a time, in the order of `sched` or as they come."""
        self.env, self.limits, self.driver, self._emit = env, limits, driver, emit
        self.rules, self.sched = rules, sched
        depth = limits.nr_requests if sched is None else min(2 * limits.nr_requests, MAX_SCHED_RQ)
        self.tags = Tags(env, depth)
        """As many requests as may be under way: sysfs calls their number nr_requests."""
        self.driver_tags = Tags(env, limits.nr_requests) if sched is not None else None
        """What the driver counts by, where a scheduler has tags of its own (MQ-2)."""
        self._inserted: deque[Request] = deque()
        self._last_merge: Request | None = None
        self._running = self._busy = False
        self._asks = self._refusals = 0
        self.timer = Timer(env, driver, emit, self._complete)
        self.dying = False
        """Whether the device is gone: nothing goes to the driver any more (QUEUE_FLAG_DYING)."""
        self._rqs = count(1)
        self._flushes = FlushQueue(env, self._rqs, self._insert_first, self._end)
        self.in_flight: dict[int, int] = {}
        """Tag to request; a scheduler's tag where there is one."""

    def unplug(self, rqs: Sequence[Request], held: int, *, from_schedule: bool) -> Steps:
        """Take `rqs` back, which were among the `held` requests of a plug whose task sends, or falls asleep (MQ-1)."""
        left = deque(rqs)
        try:
            if self.rules.tells_flush or from_schedule or self.sched:
                self._emit(("BlockUnplug", self.env.now, rqs[0].io, held))
            if self.sched or from_schedule:
                left.clear()
                self.insert(rqs)
            while left:
                yield from self.issue(left.popleft())
        except BaseException:
            self.insert(left)
            raise

    def insert(self, rqs: Sequence[Request]) -> None:
        """Let `rqs` wait in the queue, and see to it that somebody takes them out (blk_mq_insert_requests)."""
        if self.sched is not None:
            self.sched.insert_requests(rqs, self.env.now)
            self._last_merge = self._last_merge or next((rq for rq in rqs if not rq.nomerge), None)
        else:
            self._inserted.extend(rqs)
        self.run_hw_queue()
        for rq in rqs:
            self._emit(("BlockRqInsert", self.env.now, rq.io, rq.rq, tag_of(rq), rq.sector, rq.nbytes >> 9))

    def run_hw_queue(self) -> None:
        """Let a worker issue what waits, unless one does already."""
        if not self._running:
            self._running = True
            self.env.job(self._dispatch())

    def issue(self, rq: Request) -> Steps:
        """Hand `rq` to the driver; what that refuses ends here with its errno, or goes back into the queue."""
        if self.driver_tags is not None:
            tag = self.driver_tags.take()
            rq.tag = -1 if tag is None else tag
        self.timer.issued[rq.rq] = rq
        if self.dying:
            gone = SyscallError("block", f"sector {rq.sector}", "is of a device that is gone (BLK-5)", errno.EIO)
            self._refused(rq, gone)
            return
        try:
            yield from self.driver.queue_rq(rq)
        except SyscallError as bad:
            self._refused(rq, bad)
        except BaseException:
            self._complete(rq, errno.EIO)
            raise
        else:
            self._issued(rq)

    def mark_dead(self) -> None:
        """Let what is with the driver come back, and nothing go there: its device is gone (blk_mark_disk_dead)."""
        self.dying = True
        self.env.later(0, self._cancel)

    def _cancel(self) -> None:
        for rq in list(self.timer.issued.values()):
            self.timer.cancel(rq)

    def _issued(self, rq: Request) -> None:
        """Let the time of `rq` begin: the driver has taken it, and there was room."""
        self._asks = 0
        self.timer.start(rq)
        if self.dying:
            self.timer.cancel(rq)

    def _refused(self, rq: Request, bad: SyscallError) -> None:
        """Ask again with the next completion, or after a while, where the driver has no room now (BLK-1, BLK-4)."""
        alone = len(self.timer.issued) == 1
        if blk_status_requeues(bad.errno) and not (alone and self._asks >= MOST_ASKS):
            self._return(rq)
            self._emit(("BlockRqRequeue", self.env.now, rq.io, rq.rq, tag_of(rq), rq.sector, rq.nbytes >> 9))
            self._inserted.appendleft(rq)
            self._busy = True
            self._refusals += 1
            self.env.later(BLK_MQ_RESOURCE_DELAY, self._ask_again, self._refusals)
        else:
            rq.why = bad
            self._complete(rq, bad.errno)

    def _ask_again(self, refusal: int) -> None:
        """Let what waits go to the driver, unless something has ended since `refusal`, or more was refused."""
        if self._busy and refusal == self._refusals:
            self._busy = False
            self._asks += not self.timer.issued
            self.run_hw_queue()

    def _return(self, rq: Request) -> None:
        """Take `rq` back from the driver, with the tag that it had there."""
        del self.timer.issued[rq.rq]
        if self.driver_tags is not None:
            self.driver_tags.put(rq.tag)
            rq.tag = -1

    def _complete(self, rq: Request, error: int) -> None:
        """Take `rq` back for good: that is its end, unless there are flushes to come."""
        self._return(rq)
        self._busy = False
        try:
            if self.sched is not None:
                self.sched.completed_request(rq, self.env.now)
            if not self._flushes.completed(rq, error):
                self._end(rq, error)
        finally:
            if self._inserted or (self.sched is not None and self.sched.has_work()):
                self.run_hw_queue()
            else:
                self._asks = 0

    def _insert_first(self, rq: Request) -> None:
        """Let `rq` go to the driver past whatever order there is: flushes, and what goes with them."""
        self._inserted.append(rq)
        self.run_hw_queue()

    def _dispatch(self) -> Steps:
        """Issue what waits, until nothing may go (blk_mq_sched_dispatch_requests)."""
        try:
            while (rq := self._next()) is not None:
                yield from self.issue(rq)
        except BaseException:
            self._running = False
            self.run_hw_queue()  # what the driver broke at is one request; the others are still here
            raise
        self._running = False
        idle = self.sched.idle_ns(self.env.now) if self.sched is not None else 0
        if idle:
            self.env.later(idle, self.run_hw_queue)

    def _next(self) -> Request | None:
        if self._busy or (self.driver_tags is not None and not self.driver_tags.free):
            return None
        if self._inserted:
            return self._inserted.popleft()
        rq = self.sched.dispatch_request(self.env.now) if self.sched is not None else None
        if rq is self._last_merge:
            self._last_merge = None
        return rq

    def _end(self, rq: Request, error: int) -> None:
        """Free the tag, and tell the bios (blk_mq_end_request). A flush has only borrowed it."""
        if self.in_flight.get(tag_of(rq)) == rq.rq:
            self._free_tag(rq)
        ends = iter(rq.ends)
        try:
            self._emit((
                "BlockRqComplete", self.env.now, rq.io, rq.rq, tag_of(rq), rq.sector, rq.nbytes >> 9,
                -error if error else 0,
            ))  # fmt: skip
            for end in ends:
                end(error, rq.why)
        finally:
            for end in ends:  # one that broke is no reason not to tell the others
                end(error, rq.why)

    def _free_tag(self, rq: Request) -> None:
        del self.in_flight[tag_of(rq)]
        self.tags.put(tag_of(rq))


def tag_of(rq: Request) -> int:
    """Return the tag that `rq` has from its beginning to its end."""
    return rq.tag if rq.internal_tag < 0 else rq.internal_tag
