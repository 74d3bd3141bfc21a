"""What a controller does with a command that it has understood: a turn of its medium, the link, the bytes, an answer.

Or no answer: what is wrong with a device (Health) is looked at here, for every controller alike.
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from labkit.hardware.clock import Clock
from labkit.hardware.device import Bus, BusFault, Health, Server
from labkit.hardware.iommu import Fills
from labkit.hardware.media.ops import Medium, Turn
from labkit.scatter.payload import Ranges, run_length
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT, SECTOR_SIZE


class Verdict(Enum):
    """How a command has ended, before its controller says so in its own words."""

    OK = "ok"
    MEDIUM = "the medium cannot read or write it"
    SHORT = "it stopped halfway"
    FAULT = "an address leads nowhere"


class Work(NamedTuple):
    """A command as it was understood: `slot` names it for the controller, `io` and `rq` for the trace."""

    slot: int
    io: int
    rq: int
    write: bool
    pos: int
    """Its first byte on the medium."""
    nbytes: int
    """0 for a flush."""
    pieces: Ranges = ()
    """Its memory (bus address, bytes)."""
    fua: bool = False


Answer = Callable[[Work, Verdict, int], None]
"""Called with the command, its verdict, and the bytes that were moved."""


class Controller:
    """A device behind a bus. Commands that it has forgotten (`reset`) touch no memory any more."""

    def __init__(
        self, env: Clock, bus: Bus, medium: Medium, emit: Emit, *, overhead_ns: int, link_bytes_per_ns: float
    ) -> None:
        """Keep data in `medium` and reach memory through `bus`: so many ns a command, so many bytes a ns."""
        self.env, self.bus, self.medium, self._emit = env, bus, medium, emit
        self.nbytes, self.health = medium.nbytes, Health()
        self._overhead, self._rate, self._link = overhead_ns, link_bytes_per_ns, Server(env)
        self._life = 0
        self._fills: Callable[[], Fills | None] | None = getattr(bus, "fills", None)
        self._peer_ns = getattr(bus, "peer_ns", None)

    def reset(self) -> bool:
        """Forget every command; return whether the device answers to that: one that is wedged or gone does not."""
        self._life += 1
        return not (self.health.wedged or self.health.gone)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the medium holds."""
        return bytes(self.medium.media[pos : pos + nbytes])

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the medium holds."""
        self.medium.media[pos : pos + len(data)] = data

    @property
    def silent(self) -> bool:
        """Whether nothing comes from it any more."""
        return self.health.wedged or self.health.gone

    def begin(self, work: Work, answer: Answer) -> None:
        """Serve `work`, and tell `answer`, unless something is wrong."""
        if self.silent:
            return
        if self.health.stuck:
            self.health.stuck -= 1
            return
        if work.nbytes:
            turn = self.medium.reserve(work.pos, work.nbytes, write=work.write, fua=work.fua)
        else:
            turn = Turn(self.medium.flush(), 0)
        if turn.wait:
            self.env.later(turn.wait, self._start, self._life, work, turn, answer)
        else:
            self._start(self._life, work, turn, answer)

    def rings(self) -> bool:
        """Return whether an interrupt arrives; one that gets lost is counted."""
        if self.health.losing:
            self.health.losing -= 1
            return False
        return not self.silent

    def fault(self, work: Work, bad: BusFault) -> None:
        """Tell of an address on the bus that nothing answers to."""
        self._emit(("IoPageFault", self.env.now, work.io, work.rq, bad.addr, bad.write))

    def _start(self, life: int, work: Work, turn: Turn, answer: Answer) -> None:
        if life != self._life or self.silent:
            return
        self._emit(("DeviceStart", self.env.now, work.io, work.rq, turn.unit))
        self.env.later(turn.busy + self._overhead, self._transfer, life, work, answer)

    def _transfer(self, life: int, work: Work, answer: Answer) -> None:
        if work.nbytes == 0:
            self._finish(life, work, answer)
            return
        service = int(work.nbytes / self._rate)
        if self._peer_ns is not None:
            service = max(service, self._peer_ns(work.pieces[0][0], work.nbytes, write=not work.write))
        self.env.later(self._link.reserve(service) + service, self._finish, life, work, answer)

    def _finish(self, life: int, work: Work, answer: Answer) -> None:
        if life != self._life or self.silent:
            return
        verdict, moved = self._move(work) if work.nbytes else (Verdict.OK, 0)
        answer(work, verdict, moved)

    def _move(self, work: Work) -> tuple[Verdict, int]:
        """Move the bytes of `work`, or as many as go; return how that went, and how many they were."""
        verdict, left = Verdict.OK, work.nbytes
        if self.health.unreadable(work.pos >> SECTOR_SHIFT, -(-work.nbytes // SECTOR_SIZE)):
            return Verdict.MEDIUM, 0
        if self.health.short:
            self.health.short -= 1
            verdict, left = Verdict.SHORT, work.nbytes // 2 // SECTOR_SIZE * SECTOR_SIZE
        if work.write:
            self.medium.keep(work.pos, left, fua=work.fua)
        moved = 0
        try:
            moved = self._burst(work, left)
        except BusFault as bad:
            self.fault(work, BusFault(bad.addr, not work.write))
            verdict = Verdict.FAULT
        if self._fills and (fills := self._fills()):
            self._emit(("IotlbFill", self.env.now, work.io, work.rq, *fills))
        if moved:
            self._emit(("DeviceDma", self.env.now, work.io, work.rq, work.write, moved))
        return verdict, moved

    def _burst(self, work: Work, left: int) -> int:
        """Move `left` bytes; what lies side by side on the bus goes in one piece. Raises BusFault."""
        media, pos, write = self.medium.media, work.pos, work.write
        end = pos + left
        for addr, nbytes in work.pieces if len(work.pieces) == 1 else run_length(work.pieces):
            if pos >= end:
                break
            for view in self.bus.views(addr, min(nbytes, end - pos), not write):
                to = pos + view.nbytes
                if write:
                    media[pos:to] = view
                else:
                    view[:] = media[pos:to]
                pos = to
        return left
