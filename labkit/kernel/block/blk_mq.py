"""Pieces become requests under tags, and go to the driver (block/blk-mq.c, scheduler none)."""

import errno
from collections import deque
from functools import partial
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
from labkit.units import Sector


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
        """Split `bio`, and send each piece on its way (blk_mq_submit_bio). An error ends up in the bio, never raised.

        A piece that the driver refuses is the last: the bio has failed, and the rest of it would change nothing.
        """
        vecs, sector, end = bio.payload.vecs, bio.sector, bio.sector + (bio.nbytes >> 9)
        self._emit(("BlockBioQueue", self.env.now, bio.io, bio.bio, sector, bio.nbytes >> 9, len(vecs), bio.start))
        why, rq = None, None
        try:
            for piece in split_to_limits(vecs, sector, self.limits):
                rest = Sector(sector + (piece.nbytes >> 9))
                if rest < end:
                    self._emit(("BlockSplit", self.env.now, bio.io, bio.bio, sector, rest))
                while not self._free:
                    yield self._turn()
                rq = self._get_request(bio, sector, piece)
                yield self.cpu.getrq if piece.nbytes == bio.nbytes else self.cpu.getrq + self.cpu.split
                yield from self.driver.queue_rq(rq)
                sector, rq = rest, None
        except SyscallError as bad:
            why = bad
        finally:
            if rq is not None:  # never reached the device
                self._end(bio, rq, why.errno if why else errno.EIO)
            bio.endio(why.errno if why else 0, why)

    def _turn(self) -> Event:
        """Return what fires when a tag is free: the task sleeps until then (MQ-2)."""
        turn = Event(self.env)
        self._waiting.append(turn)
        return turn

    def _get_request(self, bio: Bio, sector: Sector, piece: Piece) -> Request:
        """Give `piece` a tag and a request (blk_mq_get_new_requests)."""
        tag = self._free.pop()
        rq = Request(next(self._rqs), bio.io, tag, sector, piece, bio.cls, write=bio.write)
        if bio.payload.struct_pages:
            rq.conversions = len(piece.vecs)
        rq.end_io = partial(self._end, bio)
        self.in_flight[tag] = rq.rq
        bio.remaining += 1
        self._emit(("BlockGetrq", self.env.now, bio.io, bio.bio, rq.rq, tag, sector, piece.nbytes >> 9, piece.segments))
        return rq

    def _end(self, bio: Bio, rq: Request, error: int) -> None:
        """Free the tag, and tell the bio (blk_mq_end_request)."""
        del self.in_flight[rq.tag]
        self._free.append(rq.tag)
        if self._waiting:
            self._waiting.popleft().succeed()
        self._emit(
            ("BlockRqComplete", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9, -error if error else 0)
        )
        bio.endio(error)
