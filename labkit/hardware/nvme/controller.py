"""An NVMe drive: it fetches its own commands, parses them, and moves every byte through bus addresses.

Ours, after published figures: a medium, one link, and some work for each command. Its numbers are in data/nvme.toml.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from labkit.hardware.clock import Clock
from labkit.hardware.device import Bus, BusFault, Command, Done, Health, Server, fetch, store
from labkit.hardware.iommu import Fills
from labkit.hardware.media.ops import Medium, Turn
from labkit.hardware.nvme.dptr import BadPointer, parse_prps, parse_sgl
from labkit.hardware.nvme.spec import (
    CONTROL_FUA,
    CONTROLLER_FATAL,
    CQE,
    CQE_BYTES,
    OPCODE_FLUSH,
    OPCODE_READ,
    OPCODE_WRITE,
    PSDT,
    PSDT_SGL,
    SQE,
    SQE_BYTES,
    Entry,
    Status,
)
from labkit.hardware.table import Overrides, profile
from labkit.scatter.payload import Range, cut, run_length
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE, DmaAddr

_BOUNDS = {"mdts": (0, 255), "queue_depth": (2, 4095), "sgl": (0, 1), "link_bytes_per_ns": (1e-6, 1e6)}
"""mdts is 8 bits of Identify; a queue has 2 to 4095 entries (NVME-3)."""
_OK = Status.NVME_SC_SUCCESS.value


@dataclass(frozen=True, slots=True)
class Profile:
    """The controller in numbers."""

    overhead_ns: int
    """Its own work for one command."""
    link_bytes_per_ns: float
    mdts: int
    """A command moves at most 2**mdts pages of 4 KiB; 0 for no such limit (NVME-1)."""
    queue_depth: int
    sgl: int
    """Whether it takes SGLs: 0 or 1 (NVME-7)."""

    @classmethod
    def load(cls, path: Path, overrides: Overrides | None = None) -> Self:
        """Read a profile from the TOML file at `path`. Raises BadInput for nonsense (hardware.table.profile)."""
        return profile(cls, path, overrides, _BOUNDS)

    @property
    def mdts_bytes(self) -> int:
        """Bytes of a command at most; 0 for no such limit."""
        return PAGE_SIZE << self.mdts if self.mdts else 0


class PeerNs(Protocol):
    """Says what a transfer of `nbytes` takes at bus address `addr`, if that is another device's; else 0."""

    def __call__(self, addr: int, nbytes: int, *, write: bool) -> int:
        """Return ns; `write`: the other device's memory is written to."""


class _Flight(NamedTuple):
    """A command on its way; `resets`: how often the controller had been reset when it was taken."""

    done: Done
    cmd: Command
    entry: Entry
    resets: int


class NvmeCtrl:
    """One controller, one namespace of 512-byte blocks, one queue pair."""

    def __init__(self, env: Clock, bus: Bus, medium: Medium, profile: Profile, emit: Emit,
                 fills: Callable[[], Fills | None] | None = None, peer_ns: PeerNs | None = None) -> None:  # fmt: skip
        """Reach memory through `bus` and keep data in `medium`.

        `fills` is asked after each transfer what an IOTLB on the way did; None where there is none. `peer_ns` says what
        a transfer takes at another device, if that is slower than the link.
        """
        self.env, self.bus, self.medium, self.profile, self._emit = env, bus, medium, profile, emit
        self.nbytes, self.health = medium.nbytes, Health()
        self._fills, self._peer_ns = fills, peer_ns
        self._link = Server(env)
        self._sq = self._cq = DmaAddr(0)
        self._cq_slot, self._phase = 0, 1
        self._resets = 0
        self._stuck: dict[int, _Flight] = {}
        """Commands that are never answered, by their ids."""

    def create_queues(self, sq: DmaAddr, cq: DmaAddr) -> None:
        """Take the bus addresses of the submission and the completion queue (admin commands 01h and 05h)."""
        self._sq, self._cq = sq, cq
        self._cq_slot, self._phase = 0, 1

    def submit(self, cmd: Command, done: Done) -> None:
        """Be told by the doorbell that `cmd.slot` holds a command; `done` is the interrupt."""
        health = self.health
        if health.gone or health.wedged:
            return
        try:
            entry = Entry(*SQE.unpack(fetch(self.bus.views(self._sq + cmd.slot * SQE_BYTES, SQE_BYTES))))
        except BusFault as bad:
            self._faulted(cmd, bad)
            self.env.later(self.profile.overhead_ns, done, CONTROLLER_FATAL)
            return
        flight = _Flight(done, cmd, entry, self._resets)
        if health.stuck:
            health.stuck -= 1
            self._stuck[entry.cid] = flight
            return
        status = self._check(entry)
        if status:
            self.env.later(self.profile.overhead_ns, self._answer, flight, status)
        else:
            self._begin(flight, entry)

    def abort(self, cid: int) -> None:
        """Be asked to give command `cid` up (admin command 08h): it may be too late, or there may be no answer."""
        flight = None if self.health.gone or self.health.wedged else self._stuck.pop(cid, None)
        if flight is not None:
            self.env.later(self.profile.overhead_ns, self._answer, flight, Status.NVME_SC_ABORT_REQ.value)

    def reset(self) -> bool:
        """Forget all commands and the queues (CC.EN = 0), and return whether the controller is ready again."""
        self._resets += 1
        self._stuck.clear()
        return not (self.health.gone or self.health.wedged)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the medium holds."""
        return bytes(self.medium.media[pos : pos + nbytes])

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the medium holds."""
        self.medium.media[pos : pos + len(data)] = data

    def _check(self, entry: Entry) -> int:
        opcode, flags = entry.opcode, entry.flags & PSDT
        if opcode == OPCODE_FLUSH:
            return _OK
        if opcode not in {OPCODE_READ, OPCODE_WRITE}:
            return Status.NVME_SC_INVALID_OPCODE
        nbytes, most = entry.nbytes, self.profile.mdts_bytes
        if (most and nbytes > most) or (flags and (flags != PSDT_SGL or not self.profile.sgl)):
            return Status.NVME_SC_INVALID_FIELD
        if not flags and entry.prp1 & 3:
            return Status.NVME_SC_PRP_INVALID_OFFSET
        return Status.NVME_SC_LBA_RANGE if (entry.slba << 9) + nbytes > self.nbytes else _OK

    def _begin(self, flight: _Flight, entry: Entry) -> None:
        """Take the command's turn at the medium."""
        if entry.opcode == OPCODE_FLUSH:
            turn = Turn(self.medium.flush(), 0)
        else:
            write = entry.opcode == OPCODE_WRITE
            fua = bool(entry.control & CONTROL_FUA)
            turn = self.medium.reserve(entry.slba << 9, entry.nbytes, write=write, fua=fua)
        if turn.wait:
            self.env.later(turn.wait, self._start, flight, turn)
        else:
            self._start(flight, turn)

    def _start(self, flight: _Flight, turn: Turn) -> None:
        if self._lost(flight):
            return
        self._emit(("DeviceStart", self.env.now, flight.cmd.io, flight.cmd.rq, turn.unit))
        busy = turn.busy + self.profile.overhead_ns
        if flight.entry.opcode == OPCODE_FLUSH:
            self.env.later(busy, self._answer, flight, _OK)
        else:
            self.env.later(busy, self._transfer, flight)

    def _transfer(self, flight: _Flight) -> None:
        entry = flight.entry
        if self.health.bad and self.health.unreadable(entry.slba, entry.nlb + 1):
            write = entry.opcode == OPCODE_WRITE
            self._answer(flight, Status.NVME_SC_WRITE_FAULT if write else Status.NVME_SC_READ_ERROR)
            return
        service = int(entry.nbytes / self.profile.link_bytes_per_ns)
        if self._peer_ns is not None:
            service = max(service, self._peer_ns(entry.prp1, entry.nbytes, write=entry.opcode == OPCODE_READ))
        self.env.later(self._link.reserve(service) + service, self._finish, flight)

    def _finish(self, flight: _Flight) -> None:
        if self._lost(flight):
            return
        cmd, entry, status = flight.cmd, flight.entry, _OK
        nbytes = entry.nbytes
        try:
            pieces: list[Range] = self._pieces(entry)
            if self.health.short:
                self.health.short -= 1
                nbytes, status = nbytes // 2, Status.NVME_SC_DATA_XFER_ERROR
                pieces = list(cut(pieces, 0, nbytes))
            self._move(entry, nbytes, pieces)
            self._emit(("DeviceDma", self.env.now, cmd.io, cmd.rq, entry.opcode == OPCODE_WRITE, nbytes))
        except BusFault as bad:
            self._faulted(cmd, bad)
            status = Status.NVME_SC_DATA_XFER_ERROR
        except BadPointer as bad:
            status = bad.status
        if self._fills is not None and (fills := self._fills()) is not None:
            self._emit(("IotlbFill", self.env.now, cmd.io, cmd.rq, *fills))
        self._complete(flight, status)

    def _pieces(self, entry: Entry) -> list[Range]:
        """Return the (bus address, bytes) of the memory that the command names."""
        parse = parse_sgl if entry.flags & PSDT else parse_prps
        return parse(self.bus, entry.prp1, entry.prp2, entry.nbytes)

    def _move(self, entry: Entry, nbytes: int, pieces: list[Range]) -> None:
        """Move the bytes of `pieces` (bus addresses) in bursts: what lies side by side goes in one."""
        media, pos, write = self.medium.media, entry.slba << 9, entry.opcode == OPCODE_WRITE
        if write:
            self.medium.keep(pos, nbytes, fua=bool(entry.control & CONTROL_FUA))
        for addr, length in pieces if len(pieces) == 1 else run_length(pieces):
            for view in self.bus.views(addr, length, not write):
                end = pos + view.nbytes
                if write:
                    media[pos:end] = view
                else:
                    view[:] = media[pos:end]
                pos = end

    def _lost(self, flight: _Flight) -> bool:
        """Return whether nobody hears of `flight` any more: the controller was reset, or does nothing."""
        health = self.health
        return flight.resets != self._resets or health.gone or health.wedged

    def _answer(self, flight: _Flight, status: int) -> None:
        """Complete what moves no bytes, unless it was forgotten."""
        if not self._lost(flight):
            self._complete(flight, status)

    def _complete(self, flight: _Flight, status: int) -> None:
        """Write a completion queue entry through the bus, and raise the interrupt."""
        try:
            views = self.bus.views(self._cq + self._cq_slot * CQE_BYTES, CQE_BYTES, True)
        except BusFault as bad:
            self._faulted(flight.cmd, bad)
            flight.done(CONTROLLER_FATAL)
            return
        store(views, CQE.pack(0, 0, 1, flight.entry.cid, status << 1 | self._phase))
        self._cq_slot += 1
        if self._cq_slot == self.profile.queue_depth:
            self._cq_slot, self._phase = 0, self._phase ^ 1
        if self.health.losing:
            self.health.losing -= 1
        else:
            flight.done(status)

    def _faulted(self, cmd: Command, bad: BusFault) -> None:
        self._emit(("IoPageFault", self.env.now, cmd.io, cmd.rq, bad.addr, bad.write))
