"""Pieces become requests under tags, and go to the driver (block/blk-mq.c, scheduler none)."""

import errno
from collections import deque
from itertools import count

from simpy import Event

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.split import Piece, split_to_limits
from labkit.kernel.drivers.ops import BlkMqOps, Request
from labkit.trace.tracer import Emit


class RequestQueue:
    """One hardware queue of one device: its limits, its tags, its driver."""

    def __init__(self, env: Clock, cpu: Cpu, limits: QueueLimits, driver: BlkMqOps, emit: Emit) -> None:
        """Queue for `driver` whatever fits `limits`."""
        self.env, self.cpu, self.limits, self.driver, self._emit = env, cpu, limits, driver, emit
        self._free = list(range(limits.nr_requests - 1, -1, -1))
        self._waiting: deque[Event] = deque()
        self._rqs = count(1)
        self.in_flight: dict[int, int] = {}
        """Tag to request."""

    def submit_bio(self, bio: Bio) -> Steps:
        """Split `bio`, and send each piece on its way (blk_mq_submit_bio). An error ends up in the bio, never raised."""
        payload = bio.payload
        vecs = payload.vecs
        self._emit(("BlockBioQueue", self.env.now, bio.io, bio.bio, bio.sector, bio.nbytes >> 9, len(vecs), bio.start))
        sector, end, why = bio.sector, bio.sector + (bio.nbytes >> 9), None
        try:
            for piece in split_to_limits(vecs, sector, self.limits):
                rest = sector + (piece.nbytes >> 9)
                if rest < end:
                    self._emit(("BlockSplit", self.env.now, bio.io, bio.bio, sector, rest))
                yield from self._send(bio, sector, piece)
                sector = rest
        except SyscallError as bad:
            why = bad
        finally:
            bio.endio(why.errno if why else 0, why)

    def _send(self, bio: Bio, sector: int, piece: Piece) -> Steps:
        """Find a tag, make the request, give it to the driver."""
        while not self._free:
            turn = self.env.event()
            self._waiting.append(turn)
            yield turn  # MQ-2: no tag, so the task sleeps
        rq = Request(
            next(self._rqs), bio.io, self._free.pop(), sector, piece.vecs, write=bio.write, segments=piece.segments
        )
        if bio.payload.struct_pages:
            rq.conversions = len(piece.vecs)
        self.in_flight[rq.tag] = rq.rq
        bio.remaining += 1
        rq.end_io = lambda rq, error: self._end(bio, rq, error)
        self._emit(
            ("BlockGetrq", self.env.now, bio.io, bio.bio, rq.rq, rq.tag, sector, piece.nbytes >> 9, piece.segments)
        )
        split = self.cpu.split if piece.nbytes < bio.nbytes else 0
        try:
            yield self.cpu.getrq + split
            yield from self.driver.queue_rq(rq)
        except SyscallError as bad:
            self._end(bio, rq, bad.errno, bad)
        except BaseException:
            self._end(bio, rq, errno.EIO)
            raise

    def _end(self, bio: Bio, rq: Request, error: int, why: SyscallError | None = None) -> None:
        """Free the tag, and tell the bio (blk_mq_end_request)."""
        del self.in_flight[rq.tag]
        self._free.append(rq.tag)
        if self._waiting:
            self._waiting.popleft().succeed()
        self._emit(
            ("BlockRqComplete", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9, -error if error else 0)
        )
        bio.endio(error, why)
