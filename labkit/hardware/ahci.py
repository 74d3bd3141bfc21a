"""A SATA drive behind an AHCI port: it fetches FIS and PRDT from memory, obeys them, and sets its registers (AHCI-1).

The formats are those of AHCI 1.3.1 and of the ATA command set, little endian.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from labkit.hardware.clock import Clock
from labkit.hardware.controller import Controller, Verdict, Work
from labkit.hardware.device import Bus, BusFault, Command, Done, fetch, store
from labkit.hardware.media.ops import Medium
from labkit.hardware.table import Overrides, profile
from labkit.scatter.payload import Range
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT

SLOTS = 32
HEADER = struct.Struct("<IIII16x")
"""A slot of the command list: options, bytes that were moved (PRDBC), address of the command table, its upper half."""
FIS = struct.Struct("<BBBB3sB3sBHBB4x")
"""Register FIS, host to device: type, C bit, command, features, LBA low, device, LBA high, features high, count, icc,
control; 20 bytes."""
PRD = struct.Struct("<QII")
"""struct ahci_sg: address, reserved, bytes less 1."""
D2H = struct.Struct("<BBBB16x")
"""Register FIS, device to host: type, interrupt, status, error."""
TABLE_PRDT = 0x80
"""Where the PRDT begins in a command table."""
RX_D2H = 0x40
"""Where the device leaves its register FIS in the memory for received ones."""
RX_BYTES = 256
FIS_H2D, FIS_D2H, FIS_C = 0x27, 0x34, 0x80
OPT_WRITE = 1 << 6
PRDTL_SHIFT = 16
DBC_MASK = (1 << 22) - 1
PRD_BYTES = 4 << 20
"""The most bytes of one entry: 22 bits, less 1."""
CMD_READ, CMD_WRITE, CMD_WRITE_FUA = 0x25, 0x35, 0x3D
CMD_FPDMA_READ, CMD_FPDMA_WRITE, CMD_FLUSH = 0x60, 0x61, 0xEA
DEVICE_LBA, DEVICE_FUA = 0x40, 0x80
ATA_DRDY, ATA_ERR = 0x50, 0x41
"""Status registers: ready and seek complete; ready with an error."""
ERR_ABRT, ERR_IDNF, ERR_UNC, ERR_ICRC = 0x04, 0x10, 0x40, 0x84
HOST_BUS = 0x100
"""Not of the drive: the port's interrupt status says that memory did not answer (HBFS)."""
_READS, _WRITES = {CMD_READ, CMD_FPDMA_READ}, {CMD_WRITE, CMD_WRITE_FUA, CMD_FPDMA_WRITE}
_NCQ = {CMD_FPDMA_READ, CMD_FPDMA_WRITE}
_ERROR = {Verdict.OK: 0, Verdict.MEDIUM: ERR_UNC, Verdict.SHORT: ERR_ICRC, Verdict.FAULT: HOST_BUS}


@dataclass(frozen=True, slots=True)
class AhciProfile:
    """What the port and its drive can do, and what their work takes."""

    queue_depth: int
    """Commands that the drive queues (NCQ); 1 for none."""
    overhead_ns: int
    link_bytes_per_ns: float

    @classmethod
    def load(cls, path: Path, overrides: Overrides | None = None) -> Self:
        """Read a profile from the TOML file at `path`. Raises BadInput for nonsense (hardware.table.profile)."""
        return profile(cls, path, overrides, {"queue_depth": (1, SLOTS), "link_bytes_per_ns": (0.001, 1000)})


class Taskfile(NamedTuple):
    """What the registers say when a command is over."""

    status: int
    error: int


class Ahci(Controller):
    """One port with one drive of 512-byte sectors."""

    def __init__(self, env: Clock, bus: Bus, medium: Medium, numbers: AhciProfile, emit: Emit) -> None:
        """Keep data in `medium`, reach memory through `bus`."""
        super().__init__(
            env, bus, medium, emit, overhead_ns=numbers.overhead_ns, link_bytes_per_ns=numbers.link_bytes_per_ns
        )
        self.profile = numbers
        self.ci = 0
        """PxCI and PxSACT in one: the bit of a slot is set until its command is over."""
        self.taskfile: dict[int, Taskfile] = {}
        """How each slot ended: PxTFD, and for queued commands the log page 10h, which is read with it here (ours)."""
        self._list = self._rx = 0
        self._done: dict[int, Done] = {}

    def set_port(self, command_list: int, received: int) -> None:
        """Take the bus addresses of the command list (PxCLB) and of the memory for received FISes (PxFB)."""
        self._list, self._rx = command_list, received

    def reset(self) -> bool:
        """Reset the link (COMRESET): no slot is active any more."""
        self.ci = 0
        self._done.clear()
        self.taskfile.clear()
        return super().reset()

    def submit(self, cmd: Command, done: Done) -> None:
        """Have the bit of `cmd.slot` set in PxCI; `done` is the interrupt."""
        if self.silent:
            return
        self.ci |= 1 << cmd.slot
        self._done[cmd.slot] = done
        try:
            work, error = self._understand(cmd)
        except BusFault as bad:
            work, error = Work(cmd.slot, cmd.io, cmd.rq, cmd.write, 0, 0), HOST_BUS
            self.fault(work, bad)
        if error:
            self.env.later(self.profile.overhead_ns, self._complete, work, error, 0, self._life)
        else:
            self.begin(work, self._ended)

    def _understand(self, cmd: Command) -> tuple[Work, int]:
        """Return what the slot asks for, and the error register if it cannot be done. Raises BusFault."""
        options, _, low, high = HEADER.unpack(fetch(self.bus.views(self._list + cmd.slot * HEADER.size, HEADER.size)))
        table = low | high << 32
        raw = FIS.unpack(fetch(self.bus.views(table, FIS.size)))
        kind, flags, command, features, lba_low, device, lba_high, features_high, count = raw[:9]
        pos = int.from_bytes(lba_low + lba_high, "little") << SECTOR_SHIFT
        sectors = (features | features_high << 8) if command in _NCQ else count
        nbytes = 0 if command == CMD_FLUSH else (sectors or 1 << 16) << SECTOR_SHIFT
        pieces = self._prdt(table, options >> PRDTL_SHIFT) if nbytes else ()
        fua = command == CMD_WRITE_FUA or (command == CMD_FPDMA_WRITE and bool(device & DEVICE_FUA))
        work = Work(cmd.slot, cmd.io, cmd.rq, command in _WRITES, pos, nbytes, pieces, fua)
        if kind != FIS_H2D or not flags & FIS_C or command not in _READS | _WRITES | {CMD_FLUSH}:
            return work, ERR_ABRT
        if pos + nbytes > self.nbytes:
            return work, ERR_IDNF
        short = sum([n for _, n in pieces]) < nbytes or bool(options & OPT_WRITE) != work.write
        return work, ERR_ABRT if nbytes and short else 0

    def _prdt(self, table: int, entries: int) -> tuple[Range, ...]:
        """Return the (bus address, bytes) of each entry of the PRDT."""
        raw = fetch(self.bus.views(table + TABLE_PRDT, entries * PRD.size)) if entries else b""
        return tuple([(addr, (dbc & DBC_MASK) + 1) for addr, _, dbc in PRD.iter_unpack(raw)])

    def _ended(self, work: Work, verdict: Verdict, moved: int) -> None:
        self._complete(work, _ERROR[verdict], moved, self._life)

    def _complete(self, work: Work, error: int, moved: int, life: int) -> None:
        """Write PRDBC and the FIS, clear the bit of the slot, and raise the interrupt."""
        if self.silent or life != self._life:
            return
        status = ATA_ERR if error else ATA_DRDY
        try:
            at = self._list + work.slot * HEADER.size + 4
            store(self.bus.views(at, 4, True), moved.to_bytes(4, "little"))
            store(self.bus.views(self._rx + RX_D2H, D2H.size, True), D2H.pack(FIS_D2H, 0x40, status, error & 0xFF))
        except BusFault as bad:
            self.fault(work, bad)
            error, status = HOST_BUS, ATA_ERR
        self.taskfile[work.slot] = Taskfile(status, error)
        self.ci &= ~(1 << work.slot)
        done = self._done.pop(work.slot)
        if self.rings():
            done(status)
