"""mq-deadline: sector by sector in batches, reads first, and nobody waits for ever (MQ-5)."""

from collections.abc import Sequence

from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side
from labkit.kernel.block.sched.by_sector import BySector
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.units import Sector

READ_EXPIRE, WRITE_EXPIRE = 500_000_000, 5_000_000_000
"""ns after which a request is due, wherever its sector is."""
FIFO_BATCH = 16
"""Requests of one direction, sector by sector, before deadlines are looked at again."""
WRITES_STARVED = 2
"""Batches of reads that may go before a batch of writes that waits."""


class _Direction:
    """What waits to be read, or to be written."""

    def __init__(self, expire: int) -> None:
        self.expire, self.position = expire, 0
        self.sorted = BySector()
        self.fifo: dict[int, Request] = {}
        """In the order in which they are due."""

    def add(self, rq: Request, now: int) -> None:
        rq.stats["due"] = now + self.expire
        self.fifo[rq.rq] = rq
        self.sorted.add(rq)

    def take(self, rq: Request) -> Request:
        del self.fifo[rq.rq]
        self.sorted.remove(rq)
        self.position = rq.sector + (rq.nbytes >> 9)
        return rq

    def first(self) -> Request:
        """Return the request that is due first."""
        return next(iter(self.fifo.values()))

    def next(self) -> Request | None:
        """Return the request that begins where the last one ended, or behind that."""
        return self.sorted.at_or_behind(self.position)

    def inherit(self, rq: Request, gone: Request) -> None:
        """Let `rq` have the place of `gone`, which it has taken in, if that was due before."""
        if gone.stats["due"] < rq.stats["due"]:
            rq.stats["due"] = gone.stats["due"]
            self.fifo = {key: rq if other is gone else other for key, other in self.fifo.items() if other is not rq}
            self.fifo = {other.rq: other for other in self.fifo.values()}
        else:
            del self.fifo[gone.rq]


class MqDeadline:
    """The scheduler of single-queue devices, unless another is asked for."""

    name = "mq-deadline"
    looks_up = True

    def __init__(self) -> None:
        """Begin empty."""
        self._dirs = {False: _Direction(READ_EXPIRE), True: _Direction(WRITE_EXPIRE)}
        self._write = True  # as upstream: the first batch is of writes where both wait
        self._batching = self._starved = 0

    def bio_merge(
        self, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
    ) -> tuple[Request, tuple[Side, int]] | None:
        """Find the request of the same direction that `piece` continues, on either side."""
        return self._dirs[bio.write].sorted.bio_merge(bio, piece, sector, limits)

    def request_merged(self, rq: Request) -> None:
        """Sort `rq` in again."""
        self._dirs[rq.write].sorted.move(rq)

    def merge_neighbour(self, rq: Request, limits: QueueLimits) -> tuple[Request, Request] | None:
        """Let neighbours become one, which is due when the first of them was (dd_merged_requests)."""
        way = self._dirs[rq.write]
        pair = way.sorted.merge_neighbour(rq, limits)
        if pair is not None:
            way.inherit(*pair)
        return pair

    def insert_requests(self, rqs: Sequence[Request], now: int) -> None:
        """Let `rqs` wait, each until its deadline at `now` + 0.5 s (reads) or 5 s (writes)."""
        for rq in rqs:
            self._dirs[rq.write].add(rq, now)

    def dispatch_request(self, now: int) -> Request | None:
        """Go on with the batch, or begin one: where a request is due, or else where the last one ended."""
        way = self._dirs[self._write]
        rq = way.next() if self._batching < FIFO_BATCH else None
        if rq is None:
            if not self.has_work():
                return None
            self._write, self._batching = self._choose(), 0
            way = self._dirs[self._write]
            rq = way.next()
            if rq is None or way.first().stats["due"] <= now:
                rq = way.first()
        self._batching += 1
        return way.take(rq)

    def _choose(self) -> bool:
        """Return whether the next batch is of writes: if there are no reads, or two batches of those went before."""
        reads, writes = bool(self._dirs[False].fifo), bool(self._dirs[True].fifo)
        if reads and not (writes and self._starved >= WRITES_STARVED):
            self._starved += writes
            return False
        self._starved = 0
        return True

    def completed_request(self, rq: Request, now: int) -> None:
        """Nothing is counted."""

    def has_work(self) -> bool:
        """Return whether a request waits."""
        return any(way.fifo for way in self._dirs.values())

    def idle_ns(self, now: int) -> int:  # noqa: ARG002 - the protocol's
        """Nobody is ever kept waiting for somebody who may come."""
        return 0
