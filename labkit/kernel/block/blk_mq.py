"""Bios become requests under tags, in pieces that fit, and wait in a plug: the upper half of block/blk-mq.c."""

import errno
from functools import partial
from itertools import islice

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import NOMERGE_FLAGS, Bio, Op, rwbs
from labkit.kernel.block.checks import refused, unaligned, unpolled
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.elevator import Elevator
from labkit.kernel.block.flush import FLUSH_FLAGS, blk_flush_policy, strip_flush
from labkit.kernel.block.hw_queue import HwQueue, tag_of
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side, blk_attempt_bio_merge
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.split import Piece, split_to_limits
from labkit.kernel.drivers.ops import BlkMqOps, Request
from labkit.kernel.version import KERNELS, NEWEST, Rules
from labkit.trace.tracer import Emit
from labkit.units import Sector

MERGE_LOOKUPS = 8
"""Requests that are looked at where no scheduler knows its way."""


class RequestQueue(HwQueue, BioConsumer):
    """One hardware queue of one device: its limits, its tags, its scheduler, its driver."""

    def __init__(
        self, env: Clock, cpu: Cpu, limits: QueueLimits, driver: BlkMqOps, emit: Emit,
        rules: Rules = KERNELS[NEWEST], sched: Elevator | None = None, nr_sectors: int = 0,
    ) -> None:  # fmt: skip
        """Queue for `driver` whatever fits `limits`, as the kernel of `rules` does; `sched` None is scheduler none.

        `nr_sectors`: where the device ends, 0 where nobody looks.
        """
        super().__init__(env, limits, driver, emit, rules, sched)
        self.cpu, self._nr_sectors = cpu, nr_sectors

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Split `bio`, and send each piece on its way, or into `plug`. An error ends up in the bio, never raised.

        A piece joins what is plugged or queued, or becomes a request when a tag is free.
        """
        no = refused(bio, self.limits, "block", self._nr_sectors)
        if no or strip_flush(bio, self.limits):
            bio.endio(no.errno if no else 0, no)
            return
        try:
            self._emit((
                "BlockBioQueue", self.env.now, bio.io, bio.bio, bio.sector, bio.nbytes >> 9, len(bio.payload.vecs),
                bio.start, rwbs(bio.write, bio.opf),
            ))  # fmt: skip
            yield from self._pieces(bio, plug)
        except SyscallError as bad:
            self._endio(bio, bad.errno, bad)
        except BaseException:
            self._endio(bio, errno.EIO)
            raise
        else:
            self._endio(bio)

    def _pieces(self, bio: Bio, plug: Plug | None) -> Steps:
        """Send `bio` off in pieces that fit. Raises SyscallError for what is left of it."""
        vecs, sector, end = bio.payload.vecs, bio.sector, Sector(bio.sector + (bio.nbytes >> 9))
        checked, atomic = self.rules.aligned != "split", bool(bio.opf & Op.ATOMIC)
        try:
            if (bad := unaligned(bio, self.limits) or unpolled(bio, refuses=self.rules.refuses_polled)) is not None:
                raise bad
            if not vecs:
                yield from self._submit(bio, Piece((), 0, 0), sector, plug, front=False)
            for piece in split_to_limits(vecs, sector, self.limits, checked=checked, atomic=atomic):
                rest = Sector(sector + (piece.nbytes >> 9))
                if rest < end:
                    self._may_split(bio, piece)
                    self._emit(("BlockSplit", self.env.now, bio.io, bio.bio, sector, rest, piece.rule, piece.why))
                yield from self._submit(bio, piece, sector, plug, front=rest < end)
                sector = rest
        except SyscallError as bad:
            bio.unaccounted = sector, end - sector, bad.errno
            raise

    def _may_split(self, bio: Bio, piece: Piece) -> None:
        """Raise SyscallError for a bio that must stay whole (SPLIT-5): EINVAL if atomic, EAGAIN if nobody may wait."""
        if bio.opf & Op.ATOMIC:
            raise SyscallError("block", f"{bio.nbytes} bytes", f"cannot be atomic: {piece.why} (SPLIT-5)", errno.EINVAL)
        if bio.opf & Op.NOWAIT:
            rule = f"would be split, and nobody may wait for the rest: {piece.why} (SPLIT-5, R18)"
            raise SyscallError("block", f"{bio.nbytes} bytes", rule, errno.EAGAIN)

    def _submit(self, bio: Bio, piece: Piece, sector: Sector, plug: Plug | None, *, front: bool) -> Steps:
        """Let one piece join a request, or give it one of its own; `front`: it was split off."""
        if not front and self._merge(bio, piece, sector, plug):
            return
        yield self.cpu.getrq if piece.nbytes == bio.nbytes else self.cpu.getrq + self.cpu.split
        tag = self.tags.take()
        if tag is None:
            if bio.opf & Op.NOWAIT:
                raise SyscallError("block", f"sector {sector}", "finds no free tag (MQ-2)", errno.EAGAIN)
            if plug is not None and plug.held:
                yield from plug.flush(from_schedule=True)  # R15: whoever sleeps sends on what he keeps
            tag = yield from self.tags.get()
        rq = self._get_request(bio, sector, piece, tag)
        rq.nomerge = front or bool(bio.opf & NOMERGE_FLAGS)
        if not (bio.opf & FLUSH_FLAGS or not rq.nbytes) or not self._flushing(rq, bio):
            yield from self._send(rq, plug)

    def _flushing(self, rq: Request, bio: Bio) -> bool:
        """Return whether the flush machinery sees to `rq` from here on (blk_insert_flush)."""
        steps = blk_flush_policy(bio.opf, rq.nbytes, self.limits)
        rq.opf &= ~(Op.PREFLUSH if self.limits.fua else Op.PREFLUSH | Op.FUA)
        if steps == ["data"]:
            return False
        if steps[0] == "data":
            self._flushes.expect(rq, steps[1:])
            return False
        self._flushes.insert(rq, steps)
        return True

    def _send(self, rq: Request, plug: Plug | None) -> Steps:
        """Let `rq` into the plug, the scheduler or the driver (MQ-4)."""
        if plug is not None:
            return self._add(plug, rq)
        if self.rules.submit_plug:
            return self._own_plug(rq)
        return self.issue(rq) if self.sched is None else self._wait_in_line(rq)

    def _wait_in_line(self, rq: Request) -> Steps:
        """Leave `rq` to the scheduler."""
        self.insert((rq,))
        yield from ()

    def _own_plug(self, rq: Request) -> Steps:
        """Send `rq` by way of a plug that holds nothing else (R7)."""
        yield from self._add(own := Plug(), rq)
        yield from own.flush()

    def _add(self, plug: Plug, rq: Request) -> Steps:
        """Keep `rq` back in `plug` (blk_add_rq_to_plug, R14)."""
        try:
            if plug.must_flush(self):
                yield from plug.flush()
        finally:
            plug.held.append((self, rq))
            if len(plug.held) == 1:
                self._emit(("BlockPlug", self.env.now, rq.io))

    def _merge(self, bio: Bio, piece: Piece, sector: Sector, plug: Plug | None) -> bool:
        """Let `piece` join the last request of the plug, or one that waits in the queue (MERGE-5)."""
        if self.limits.nomerges == 2:  # noqa: PLR2004 - as /sys/block/*/queue/nomerges has it
            return False
        rq = plug.candidate(self) if plug is not None else None
        joined = blk_attempt_bio_merge(rq, bio, piece, sector, self.limits) if rq is not None else None
        if joined is not None and rq is not None:
            self._join(rq, bio, piece, sector, joined)
            return True
        found = self._waiting_for(bio, piece, sector)
        if found is None:
            return False
        self._join(found[0], bio, piece, sector, found[1])
        if self.sched is not None:
            self._merge_neighbour(self.sched, found[0])
        return True

    def _waiting_for(self, bio: Bio, piece: Piece, sector: Sector) -> tuple[Request, tuple[Side, int]] | None:
        """Return the request that waits, and that `piece` may join: the scheduler's, or one of the eight newest.

        With nomerges=1 a scheduler that would look up what fits has only the one of the last merge (elv_merge).
        """
        if self.sched is not None:
            found = self.sched.bio_merge(bio, piece, sector, self.limits)
            only = self.limits.nomerges and self.sched.looks_up
            return None if only and found is not None and found[0] is not self._last_merge else found
        if not self._inserted:
            return None
        for rq in islice(reversed(self._inserted), MERGE_LOOKUPS):
            joined = blk_attempt_bio_merge(rq, bio, piece, sector, self.limits)
            if joined is not None:
                return rq, joined
        return None

    def _join(self, rq: Request, bio: Bio, piece: Piece, sector: Sector, joined: tuple[Side, int]) -> None:
        side, segments = joined
        rq.add(piece.vecs, piece.nbytes, segments, front=side == "front")
        if bio.payload.struct_pages:
            rq.conversions += len(piece.vecs)
        rq.ends.append(partial(self._endio, bio))
        bio.remaining += 1
        name = "BlockBioBackmerge" if side == "back" else "BlockBioFrontmerge"
        self._emit((name, self.env.now, bio.io, bio.bio, rq.rq, sector, piece.nbytes >> 9, segments))

    def _merge_neighbour(self, sched: Elevator, grown: Request) -> None:
        """Let `grown` and its neighbour become one, whose tag is free then (MERGE-5)."""
        self._last_merge = grown
        sched.request_merged(grown)
        pair = sched.merge_neighbour(grown, self.limits)
        if pair is None:
            return
        rq, other = pair
        self._last_merge = rq
        rq.absorb(other)
        sched.request_merged(rq)
        self._free_tag(other)
        self._emit((
            "BlockRqMerge", self.env.now, rq.io, rq.rq, other.rq, tag_of(other), other.sector, other.nbytes >> 9,
        ))  # fmt: skip

    def _get_request(self, bio: Bio, sector: Sector, piece: Piece, tag: int) -> Request:
        """Give `piece` a request under `tag` (blk_mq_get_new_requests)."""
        rq = Request(next(self._rqs), bio.io, tag, sector, piece[:3], bio.cls, write=bio.write)
        if self.sched is not None:
            rq.tag, rq.internal_tag = -1, tag
        rq.opf, rq.task = bio.opf, bio.task
        if bio.payload.struct_pages:
            rq.conversions = len(piece.vecs)
        rq.end_io = self._complete
        rq.ends.append(partial(self._endio, bio))
        self.in_flight[tag] = rq.rq
        bio.remaining += 1
        told = bio.io, bio.bio, rq.rq, tag, sector, piece.nbytes >> 9, piece.segments
        try:
            self._emit(("BlockGetrq", self.env.now, *told))
        except BaseException:
            self._end(rq, errno.EIO)
            raise
        return rq

    def _endio(self, bio: Bio, error: int = 0, why: SyscallError | None = None) -> None:
        """End a part of `bio`; with the last one it is told that a part of it never was a request (R9)."""
        if bio.remaining == 1 and bio.unaccounted is not None:
            sector, nr, code = bio.unaccounted
            bio.unaccounted = None
            try:
                self._emit(("BlockBioComplete", self.env.now, bio.io, bio.bio, sector, nr, -code))
            finally:
                bio.endio(error, why)
        else:
            bio.endio(error, why)
