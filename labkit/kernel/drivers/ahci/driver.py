"""The driver, with as much of libata's error handling as a lab needs (ahci_qc_issue, ata_scsi_error)."""

import errno
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.ahci import (
    ERR_IDNF,
    ERR_UNC,
    HEADER,
    PRD,
    RX_BYTES,
    SLOTS,
    TABLE_PRDT,
    Ahci,
)
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.ram import RAM
from labkit.kernel.drivers.ahci.command import fis_of, header, prds
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.trace.tracer import Emit

AHCI_MAX_SG = 168
TABLE_BYTES = TABLE_PRDT + AHCI_MAX_SG * PRD.size
PORT_BYTES = SLOTS * HEADER.size + RX_BYTES + SLOTS * TABLE_BYTES
"""The memory that driver and port share: the command list, received FISes, a command table for each slot."""
MOST_RETRIES = 5
"""SD_MAX_RETRIES: a command is sent so often again (AHCI-2)."""
_AT_ONCE = {ERR_UNC: BlkStatus.BLK_STS_MEDIUM, ERR_IDNF: BlkStatus.BLK_STS_TARGET}
"""What no retry mends, and what the SCSI layer makes of it."""


class Port(NamedTuple):
    """The memory of a port: where it is, and what the device calls it."""

    phys: int
    dma: int

    @property
    def received(self) -> int:
        """How far in received FISes are."""
        return SLOTS * HEADER.size

    def table(self, tag: int) -> int:
        """Return how far in the command table of slot `tag` is."""
        return self.received + RX_BYTES + tag * TABLE_BYTES


class AhciDriver(Started):
    """One port with one drive."""

    name = "ahci"

    def __init__(
        self, env: Clock, cpu: Cpu, ram: RAM, maps: RequestMaps, device: Ahci, port: Port, emit: Emit
    ) -> None:  # fmt: skip
        """Drive `device` through the memory of `port`, which is empty."""
        super().__init__(env, cpu, device, emit)
        self.ram, self.maps, self.port, self._hba = ram, maps, port, device
        self._ncq = device.profile.queue_depth > 1
        self.slots: dict[int, Request] = {}
        """What each slot holds, from before it is mapped until its memory is its own again."""
        self._retries: dict[int, int] = {}

    @property
    def outstanding(self) -> int:
        """Requests that have a slot."""
        return len(self.slots)

    def queue_rq(self, rq: Request) -> Steps:
        """Map, write FIS and PRDT, issue. Errors: EBUSY while what is queued excludes it, ENOMEM (ask again), EIO."""
        self.admit()
        self._defer(rq)
        self.slots[rq.tag] = rq
        try:
            if not rq.is_flush:
                yield self.maps.map(rq, sg=rq.conversions > 0)
            entries = self._prep(rq)
            yield self.cpu.sqe + self.cpu.prp * entries + self.cpu.doorbell
            self.start(rq, self._command(rq), self._irq)
        except BaseException:
            self.release(rq)
            raise

    def _defer(self, rq: Request) -> None:
        """Raise SyscallError EBUSY: a drive has either queued commands or one that is not (ata_std_qc_defer)."""
        others = [other for other in self.slots.values() if not self._queued(rq) or not self._queued(other)]
        if rq.tag in self.slots or others:
            raise SyscallError("ahci", f"tag {rq.tag}", "has to wait for the commands before it (AHCI-3)", errno.EBUSY)

    def _queued(self, rq: Request) -> bool:
        return self._ncq and not rq.is_flush

    def _command(self, rq: Request) -> Command:
        return Command(rq.io, rq.rq, rq.tag, rq.write, rq.sector, rq.nbytes, ())

    def _prep(self, rq: Request) -> int:
        """Write FIS, PRDT and slot (ahci_qc_prep); return the entries."""
        tag, table = rq.tag, self.port.table(rq.tag)
        found = self.maps.held.get(rq.rq)
        fis, prdt = fis_of(rq, tag, ncq=self._queued(rq)), prds(found.dma) if found else b""
        entries = len(prdt) // PRD.size
        if entries > AHCI_MAX_SG:
            raise SyscallError("ahci", f"{entries} entries", f"are more than {AHCI_MAX_SG} (AHCI-1)", errno.EIO)
        self.ram.view(self.port.phys + table, len(fis))[:] = fis
        self.ram.view(self.port.phys + table + TABLE_PRDT, len(prdt))[:] = prdt
        slot = header(self.port.dma + table, entries, write=rq.write and not rq.is_flush)
        self.ram.view(self.port.phys + tag * HEADER.size, HEADER.size)[:] = slot
        self._emit((
            "AtaQcIssue", self.env.now, rq.io, rq.rq, tag, rq.sector, rq.nbytes, entries, len(prdt), fis.hex(),
            prdt.hex(),
        ))  # fmt: skip
        return entries

    def _irq(self, _status: int) -> None:
        self.env.later(self.cpu.irq, self._port_intr)

    def _port_intr(self) -> None:
        """End every command whose bit is clear (ahci_port_intr): also those whose interrupt got lost."""
        for tag, rq in list(self.slots.items()):
            if not self._hba.ci >> tag & 1 and rq.rq in self.started and tag in self._hba.taskfile:
                status, error = self._hba.taskfile.pop(tag)
                self._emit(("AtaQcCompleteDone", self.env.now, rq.io, rq.rq, tag, status, error & 0xFF))
                self._over(rq, error)

    def _over(self, rq: Request, error: int) -> None:
        """End `rq`, or send it again: what is no fault of the medium may be better the next time (AHCI-2)."""
        if not error:
            self._unmapped(rq, BlkStatus.BLK_STS_OK)
        elif error in _AT_ONCE:
            self._unmapped(rq, _AT_ONCE[error])
        elif self._may_retry(rq):
            self._recover()
        else:
            self._unmapped(rq, BlkStatus.BLK_STS_IOERR)

    def _may_retry(self, rq: Request) -> bool:
        self._retries[rq.rq] = self._retries.get(rq.rq, 0) + 1
        return self._retries[rq.rq] <= MOST_RETRIES

    def _recover(self) -> bool:
        """Reset the link, and send everything again (ata_eh_recover); what does not answer to that is disabled."""
        if not self._hba.reset():
            self.remove("ahci: the reset gets no answer, and the device is disabled")
            return False
        for rq in list(self.slots.values()):
            if rq.rq in self.started:
                self._prep(rq)
                self.device.submit(self._command(rq), self._irq)
        return True

    def timeout(self, rq: Request) -> EhReturn:
        """Reset the link, and send the command again, at most 5 times; then it is BLK_STS_IOERR (AHCI-2)."""
        if self.dead or self.device.health.gone:
            return self.remove("ahci: the device is gone")
        if rq.rq not in self.started:
            return EhReturn.BLK_EH_DONE
        if not self._may_retry(rq):
            self.action = f"ahci: given up after {MOST_RETRIES} retries"
            self._hba.reset()
            self._unmapped(rq, BlkStatus.BLK_STS_IOERR)
            self._recover()
            return EhReturn.BLK_EH_DONE
        self.action = f"ahci: hard reset of the link, retry {self._retries[rq.rq]} of {MOST_RETRIES}"
        return EhReturn.BLK_EH_RESET_TIMER if self._recover() else EhReturn.BLK_EH_DONE

    def _unmapped(self, rq: Request, status: BlkStatus) -> None:
        """Give the memory of `rq` back, and end it when that is paid for."""
        ns = self.release(rq)
        self.env.later(ns, self.finish, rq, status)

    def release(self, rq: Request) -> int:
        """Give the addresses and the slot of `rq` back; return the ns."""
        self._retries.pop(rq.rq, None)
        if self.slots.get(rq.tag) is not rq:
            return 0
        ns = self.maps.unmap(rq)
        del self.slots[rq.tag]
        return ns
