"""An NVMe drive: it fetches its own commands, parses them, and moves every byte through bus addresses.

Ours, after published figures: dies that work side by side, and one link. Its numbers are in data/nvme.toml.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_type_hints

from labkit.hardware.clock import Clock
from labkit.hardware.device import Bus, BusFault, Command, Done, Server, fetch, store
from labkit.hardware.table import numbers
from labkit.scatter.payload import Range, run_length
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE, DmaAddr

SQE_BYTES, CQE_BYTES = 64, 16
OPCODE_FLUSH, OPCODE_WRITE, OPCODE_READ = 0x00, 0x01, 0x02
CONTROL_FUA = 1 << 14
"""Bit 30 of command dword 12: what is written is on the medium when the command completes."""
STATUS_OK, STATUS_INVALID_FIELD, STATUS_LBA_RANGE, STATUS_DATA_TRANSFER, STATUS_PRP_OFFSET = 0x0, 0x2, 0x80, 0x4, 0x13
"""Status codes of the NVMe base specification, generic command set."""
CONTROLLER_FATAL = -1
"""What `done` is told when the controller cannot reach its own queues (CSTS.CFS): no completion entry is written."""
SQE = struct.Struct("<BBHI8x8xQQQHH12x")
"""opcode, flags, command id, namespace, (metadata), PRP1, PRP2, start LBA, blocks - 1, control."""
CQE = struct.Struct("<I4xHHHH")
"""result, head of the submission queue, its id, command id, status << 1 | phase."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The drive in numbers: bytes, ns, bytes per ns."""

    nbytes: int
    dies: int
    read_ns: int
    write_ns: int
    overhead_ns: int
    link_bytes_per_ns: float
    mdts_bytes: int
    queue_depth: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a profile from the TOML file at `path`. Raises BadInput for a value that is missing or negative."""
        return cls(**numbers(path, "value", get_type_hints(cls)))


class NvmeSsd:
    """One controller, one namespace of 512-byte blocks, one queue pair."""

    def __init__(self, env: Clock, bus: Bus, media: memoryview, profile: Profile, emit: Emit) -> None:
        """Reach memory through `bus` and keep data in `media` (as many bytes as the profile says)."""
        self.env, self.bus, self.media, self.profile, self._emit = env, bus, media, profile, emit
        self.nbytes = profile.nbytes
        self._dies = [Server(env) for _ in range(profile.dies)]
        self._link = Server(env)
        self._sq = self._cq = DmaAddr(0)
        self._cq_slot, self._phase = 0, 1

    def create_queues(self, sq: DmaAddr, cq: DmaAddr) -> None:
        """Take the bus addresses of the submission and the completion queue (admin commands 01h and 05h)."""
        self._sq, self._cq = sq, cq

    def submit(self, cmd: Command, done: Done) -> None:
        """Be told by the doorbell that `cmd.slot` holds a command; `done` is the interrupt."""
        try:
            sqe = SQE.unpack(fetch(self.bus.views(self._sq + cmd.slot * SQE_BYTES, SQE_BYTES)))
        except BusFault:
            self.env.later(self.profile.overhead_ns, done, CONTROLLER_FATAL)
            return
        status = self._check(sqe)
        if status:
            self.env.later(self.profile.overhead_ns, self._complete, done, sqe[2], status)
            return
        wait, busy = self._reserve_dies(sqe)
        if wait:
            self.env.later(wait, self._start, done, cmd, sqe, busy)
        else:
            self._start(done, cmd, sqe, busy)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the flash holds."""
        return bytes(self.media[pos : pos + nbytes])

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the flash holds."""
        self.media[pos : pos + len(data)] = data

    def _check(self, sqe: tuple[int, ...]) -> int:
        opcode, slba, blocks = sqe[0], sqe[6], sqe[7] + 1
        if opcode == OPCODE_FLUSH:
            return STATUS_OK
        if opcode not in {OPCODE_READ, OPCODE_WRITE} or blocks << 9 > self.profile.mdts_bytes:
            return STATUS_INVALID_FIELD
        if sqe[4] & 3:
            return STATUS_PRP_OFFSET
        return STATUS_LBA_RANGE if (slba + blocks) << 9 > self.nbytes else STATUS_OK

    def _reserve_dies(self, sqe: tuple[int, ...]) -> tuple[int, int]:
        """Take a turn on the die of each 4 KiB page; return ns until the first begins, ns from there to the last."""
        opcode, slba, blocks = sqe[0], sqe[6], sqe[7] + 1
        if opcode == OPCODE_FLUSH:  # what was accepted before is on the medium when every die is through
            return max(die.reserve(0) for die in self._dies), 0
        service = self.profile.read_ns if opcode == OPCODE_READ else self.profile.write_ns
        first, last = (slba << 9) // PAGE_SIZE, (((slba + blocks) << 9) - 1) // PAGE_SIZE
        if first == last:
            return self._dies[first % len(self._dies)].reserve(service), service
        waits = [self._dies[page % len(self._dies)].reserve(service) for page in range(first, last + 1)]
        return min(waits), max(waits) + service - min(waits)

    def _start(self, done: Done, cmd: Command, sqe: tuple[int, ...], busy: int) -> None:
        unit = (sqe[6] << 9) // PAGE_SIZE % len(self._dies)
        self._emit(("DeviceStart", self.env.now, cmd.io, cmd.rq, unit))
        step = self._flushed if sqe[0] == OPCODE_FLUSH else self._transfer
        self.env.later(busy + self.profile.overhead_ns, step, done, cmd, sqe)

    def _flushed(self, done: Done, _cmd: Command, sqe: tuple[int, ...]) -> None:
        self._complete(done, sqe[2], STATUS_OK)

    def _transfer(self, done: Done, cmd: Command, sqe: tuple[int, ...]) -> None:
        service = int(((sqe[7] + 1) << 9) / self.profile.link_bytes_per_ns)
        self.env.later(self._link.reserve(service) + service, self._finish, done, cmd, sqe)

    def _finish(self, done: Done, cmd: Command, sqe: tuple[int, ...]) -> None:
        opcode, cid, slba, nbytes = sqe[0], sqe[2], sqe[6], (sqe[7] + 1) << 9
        status = STATUS_OK
        try:
            self._move(opcode == OPCODE_WRITE, slba << 9, self._parse_prps(sqe[4], sqe[5], nbytes))
            self._emit(("DeviceDma", self.env.now, cmd.io, cmd.rq, opcode == OPCODE_WRITE, nbytes))
        except BusFault:
            status = STATUS_DATA_TRANSFER
        self._complete(done, cid, status)

    def _move(self, write: bool, pos: int, pieces: list[Range]) -> None:
        """Move the bytes of `pieces` (bus addresses) in bursts: what lies side by side goes in one."""
        media = self.media
        for addr, nbytes in pieces if len(pieces) == 1 else run_length(pieces):
            for view in self.bus.views(addr, nbytes):
                end = pos + view.nbytes
                if write:
                    media[pos:end] = view
                else:
                    view[:] = media[pos:end]
                pos = end

    def _parse_prps(self, prp1: int, prp2: int, nbytes: int) -> list[Range]:
        """Return (bus address, bytes) of each piece that the PRPs name (NVME-5), reading lists from memory."""
        take = min(nbytes, PAGE_SIZE - prp1 % PAGE_SIZE)
        pieces, nbytes = [(prp1, take)], nbytes - take
        if 0 < nbytes <= PAGE_SIZE:
            return [*pieces, (prp2, nbytes)]
        while nbytes:
            room = (PAGE_SIZE - prp2 % PAGE_SIZE) // 8
            need = -(-nbytes // PAGE_SIZE)
            slots = min(need, room)
            entries = list(struct.unpack(f"<{slots}Q", fetch(self.bus.views(prp2, 8 * slots))))
            if need > room:  # the last slot of a full list leads to the next one
                prp2 = entries.pop()
            for entry in entries:
                pieces.append((entry, min(nbytes, PAGE_SIZE)))
                nbytes -= pieces[-1][1]
        return pieces

    def _complete(self, done: Done, cid: int, status: int) -> None:
        """Write a completion queue entry through the bus, and raise the interrupt."""
        try:
            views = self.bus.views(self._cq + self._cq_slot * CQE_BYTES, CQE_BYTES)
        except BusFault:
            done(CONTROLLER_FATAL)
            return
        store(views, CQE.pack(0, 0, 1, cid, status << 1 | self._phase))
        self._cq_slot += 1
        if self._cq_slot == self.profile.queue_depth:
            self._cq_slot, self._phase = 0, self._phase ^ 1
        done(status)
