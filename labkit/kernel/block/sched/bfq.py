"""bfq: each task has a queue and a budget of sectors; one at a time is served, and waited for (MQ-5).

Simplified: as upstream on a rotating disk, without weight raising, without queues that are merged, and with one budget
for all. What can be seen is kept: whose turn it is, how long it lasts, and that a device may idle for a task's sake.
"""

from collections.abc import Sequence

from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side
from labkit.kernel.block.sched.by_sector import BySector
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.units import Sector

BUDGET = 16 * 1024
"""Sectors that a queue may have served in one turn."""
SLICE_IDLE = 8_000_000
"""ns that the device idles for the next request of a task that waits for its own data."""
TIMEOUT = 125_000_000
"""ns that a turn lasts at most."""
WEIGHT = 100
_SYNC = Op.SYNC | Op.FUA | Op.PREFLUSH
_ASYNC = -1


class _Queue:
    """What one task has asked for, or all tasks together, of what nobody waits for."""

    def __init__(self, *, sync: bool, weight: int) -> None:
        self.sync, self.weight = sync, weight
        self.reads, self.writes = BySector(), BySector()
        self.position = self.served = self.dispatched = 0
        self.start = self.finish = 0.0
        self.fifo: dict[int, Request] = {}

    def sorted(self, *, write: bool) -> BySector:
        return self.writes if write else self.reads

    def next(self) -> Request:
        """Return the request at the last sector or behind it; the oldest one where there is none."""
        behind = (way.at_or_behind(self.position) for way in (self.reads, self.writes))
        found = min((rq for rq in behind if rq is not None), key=lambda rq: rq.sector, default=None)
        return found or next(iter(self.fifo.values()))

    def add(self, rq: Request) -> None:
        self.fifo[rq.rq] = rq
        self.sorted(write=rq.write).add(rq)

    def take(self, rq: Request) -> None:
        del self.fifo[rq.rq]
        self.sorted(write=rq.write).remove(rq)
        self.position = rq.sector + (rq.nbytes >> 9)


class Bfq:
    """Budget fair queueing: who has had the least for his weight is next (B-WF2Q+)."""

    name = "bfq"
    looks_up = True

    def __init__(self) -> None:
        """Begin with nobody in service."""
        self.weights: dict[int, int] = {}
        """Weight by task; 100 where there is none."""
        self._queues: dict[int, _Queue] = {}
        self._serving: _Queue | None = None
        self._vtime = 0.0
        self._idle_until = self._turn_ends = 0

    def bio_merge(
        self, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
    ) -> tuple[Request, tuple[Side, int]] | None:
        """Find a request of the same task and direction that `piece` continues (bfq_allow_bio_merge)."""
        queue = self._queues.get(_key(bio.task, bio.opf, write=bio.write))
        return queue.sorted(write=bio.write).bio_merge(bio, piece, sector, limits) if queue is not None else None

    def request_merged(self, rq: Request) -> None:
        """Sort `rq` in again."""
        self._of(rq).sorted(write=rq.write).move(rq)

    def merge_neighbour(self, rq: Request, limits: QueueLimits) -> tuple[Request, Request] | None:
        """Let neighbours of one task become one."""
        queue = self._of(rq)
        pair = queue.sorted(write=rq.write).merge_neighbour(rq, limits)
        if pair is not None:
            del queue.fifo[pair[1].rq]
        return pair

    def insert_requests(self, rqs: Sequence[Request], now: int) -> None:  # noqa: ARG002 - the protocol's
        """Let `rqs` wait in their tasks' queues; a queue that was empty may not claim what it did not use."""
        for rq in rqs:
            queue = self._of(rq)
            if not queue.fifo and queue is not self._serving:
                queue.start = max(self._vtime, queue.finish)
            queue.add(rq)

    def dispatch_request(self, now: int) -> Request | None:
        """Serve the task whose turn it is; None while the device idles for it."""
        queue = self._serving
        if queue is not None and self._over(queue, now):
            self._expire(queue)
            queue = None
        if queue is None:
            queue = self._select(now)
        if queue is None or not queue.fifo:
            return None
        rq = queue.next()
        queue.take(rq)
        queue.served += rq.nbytes >> 9
        queue.dispatched += 1
        rq.stats["dispatched"] = now
        self._idle_until = 0
        return rq

    def _over(self, queue: _Queue, now: int) -> bool:
        """Return whether the turn of `queue` is over: its budget or its time is spent, or nothing of it will come."""
        if queue.fifo:
            return queue.served + (queue.next().nbytes >> 9) > BUDGET or now >= self._turn_ends
        if not queue.sync or now >= self._turn_ends:
            return True
        return queue.dispatched == 0 and now >= self._idle_until

    def _expire(self, queue: _Queue) -> None:
        """End the turn of `queue`: it is charged for what it had."""
        queue.finish = queue.start + queue.served / queue.weight
        self._vtime += queue.served / sum(each.weight for each in self._queues.values() if each.fifo or each is queue)
        queue.start, queue.served = queue.finish, 0
        self._serving = None

    def _select(self, now: int) -> _Queue | None:
        """Begin the turn of the queue that would be through first, of those that have not had too much."""
        waiting = [queue for queue in self._queues.values() if queue.fifo]
        if not waiting:
            return None
        self._vtime = max(self._vtime, min(queue.start for queue in waiting))
        eligible = [queue for queue in waiting if queue.start <= self._vtime]
        self._serving = min(eligible, key=lambda queue: queue.start + BUDGET / queue.weight)
        self._turn_ends = now + TIMEOUT
        return self._serving

    def completed_request(self, rq: Request, now: int) -> None:
        """Idle for the task in service if that was the last of its requests: it may ask for what comes next."""
        if rq.stats.pop("dispatched", None) is None:
            return
        queue = self._of(rq)
        queue.dispatched -= 1
        if queue is self._serving and queue.sync and not queue.fifo and not queue.dispatched:
            self._idle_until = now + SLICE_IDLE

    def has_work(self) -> bool:
        """Return whether a request waits."""
        return any(queue.fifo for queue in self._queues.values())

    def idle_ns(self, now: int) -> int:
        """Return how long the device idles for a task, while others wait."""
        if self._serving is None or self._serving.fifo or not self.has_work():
            return 0
        until = min(self._idle_until, self._turn_ends) if self._idle_until > now else self._turn_ends
        return max(0, until - now)

    def _of(self, rq: Request) -> _Queue:
        key = _key(rq.task, rq.opf, write=rq.write)
        if key not in self._queues:
            weight = self.weights.get(key, WEIGHT)
            self._queues[key] = _Queue(sync=key != _ASYNC, weight=weight)
        return self._queues[key]


def _key(task: int, opf: int, *, write: bool) -> int:
    """Return whose queue it is: the task's if it waits for the data, else the one of all tasks (op_is_sync)."""
    return _ASYNC if write and not opf & _SYNC else task
