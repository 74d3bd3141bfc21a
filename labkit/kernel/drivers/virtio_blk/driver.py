"""The driver: header, data and status are put into the ring, and the device is notified (virtio_queue_rq)."""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.ram import RAM
from labkit.hardware.virtio_blk import (
    DESC,
    DESC_F_WRITE,
    HEADER,
    STATUS_OK,
    STATUS_UNSUPP,
    TYPE_FLUSH,
    TYPE_IN,
    TYPE_OUT,
    VirtioBlk,
)
from labkit.kernel.dma.ops import DmaDir
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus
from labkit.kernel.drivers.virtio_blk.maps import Own, VringMaps
from labkit.kernel.drivers.virtio_blk.vring import Chain, Entry, Vring
from labkit.scatter.payload import Ranges
from labkit.trace.tracer import Emit

PDU_BYTES = 32
"""What each request has of the driver's own memory: its header, and its status byte (struct virtblk_req)."""
_STATUS = {STATUS_OK: BlkStatus.BLK_STS_OK, STATUS_UNSUPP: BlkStatus.BLK_STS_NOTSUPP}
"""virtblk_result: all else is BLK_STS_IOERR. A virtio disk has no word for a bad medium."""


class Pdu(NamedTuple):
    """The part of a request that is the driver's own."""

    rq: Request
    chain: Chain
    phys: int
    """Where its header is; the status byte follows."""

    @property
    def status_at(self) -> int:
        """The physical address of the status byte."""
        return self.phys + HEADER.size


class VirtioBlkDriver(Started):
    """One virtio disk with one virtqueue."""

    name = "virtio_blk"

    def __init__(
        self, env: Clock, cpu: Cpu, ram: RAM, maps: VringMaps, device: VirtioBlk, vring: Vring, pdus: int, emit: Emit
    ) -> None:
        """Drive `device` through `vring`; at physical `pdus` are 32 bytes for each of its slots."""
        super().__init__(env, cpu, device, emit)
        self.ram, self.maps, self.vring, self._pdus = ram, maps, vring, pdus
        self.pdus: dict[int, Pdu] = {}
        """By number of the request, from before it is mapped until its memory is its own again."""
        self._heads: dict[int, Pdu] = {}
        self._raw: dict[int, bytes] = {}
        maps.fill = self._fill

    @property
    def outstanding(self) -> int:
        """Requests that have descriptors, tables or mappings."""
        return len(self.pdus)

    def queue_rq(self, rq: Request) -> Steps:
        """Map, fill the ring, notify. Errors: EBUSY where it is full, ENOMEM for addresses (ask again), EIO."""
        self.admit()
        pdu = self._prepare(rq)
        try:
            yield self.maps.map(rq, sg=rq.conversions > 0)
            entries = self._add(pdu)
            yield self.cpu.sqe + self.cpu.prp * entries + self.cpu.doorbell
            self.vring.offer(pdu.chain.head)
            self.start(rq, Command(rq.io, rq.rq, pdu.chain.head, rq.write, rq.sector, rq.nbytes, ()), self._irq)
        except BaseException:
            self.release(rq)
            raise

    def _prepare(self, rq: Request) -> Pdu:
        """Take room in the ring, and write the header. Raises SyscallError EBUSY."""
        total_sg = 2 + self.maps.count(rq)
        chain = self.vring.take(total_sg)
        pdu = Pdu(rq, chain, self._pdus + PDU_BYTES * chain.head)
        self.pdus[rq.rq] = self._heads[chain.head] = pdu
        kind = TYPE_FLUSH if rq.is_flush else TYPE_OUT if rq.write else TYPE_IN
        self.ram.view(pdu.phys, HEADER.size)[:] = HEADER.pack(kind, 0, 0 if rq.is_flush else rq.sector)
        own = [Own(pdu.phys, HEADER.size, DmaDir.TO_DEVICE), Own(pdu.status_at, 1, DmaDir.FROM_DEVICE)]
        if chain.table:
            own.append(Own(self.vring.table_at(chain), total_sg * DESC.size, DmaDir.TO_DEVICE))
        self.maps.own[rq.rq] = own
        return pdu

    def _fill(self, rq: Request, own: Sequence[Own], data: Ranges) -> None:
        """Write the descriptors of `rq`, in its table or in the ring (virtqueue_add_sgs)."""
        flags, pdu = 0 if rq.write else DESC_F_WRITE, self.pdus[rq.rq]
        entries = [Entry(addr, n, flags) for addr, n in data]
        entries = [Entry(own[0].addr, HEADER.size, 0), *entries, Entry(own[1].addr, 1, DESC_F_WRITE)]
        self._raw[rq.rq] = self.vring.write(pdu.chain, entries)

    def _add(self, pdu: Pdu) -> int:
        """Put the chain into the ring; return its entries."""
        rq, raw = pdu.rq, self._raw.pop(pdu.rq.rq)
        table = bool(pdu.chain.table)
        if table:
            self.vring.lead(pdu.chain, self.maps.own[rq.rq][2].addr, len(raw))
        header = bytes(self.ram.view(pdu.phys, HEADER.size)).hex()
        self._emit((
            "VirtqueueAdd", self.env.now, rq.io, rq.rq, pdu.chain.head, rq.sector, rq.nbytes, table,
            len(raw) // DESC.size, len(raw) if table else 0, header, raw.hex(),
        ))  # fmt: skip
        return len(raw) // DESC.size

    def _irq(self, _status: int) -> None:
        self.env.later(self.cpu.irq, self._done)

    def _done(self) -> None:
        """Take every chain out of the used ring (virtblk_done): also those whose interrupt got lost."""
        for head, written in self.vring.take_used():
            pdu = self._heads.get(head)
            if pdu is not None and pdu.rq.rq in self.started:
                self._over(pdu, written)

    def _over(self, pdu: Pdu, written: int) -> None:
        """Unmap, and read the status byte, which may have been bounced back only then (SWI-3)."""
        rq = pdu.rq
        ns = self.release(rq)
        status = self.ram.view(pdu.status_at, 1)[0]
        self._emit(("VirtblkDone", self.env.now, rq.io, rq.rq, pdu.chain.head, status, written))
        self.env.later(ns, self.finish, rq, _STATUS.get(status, BlkStatus.BLK_STS_IOERR))

    def release(self, rq: Request) -> int:
        """Give the addresses, the descriptors and the table of `rq` back; return the ns."""
        pdu = self.pdus.pop(rq.rq, None)
        if pdu is None:
            return 0
        ns = self.maps.unmap(rq)
        self.maps.own.pop(rq.rq, None)
        self._raw.pop(rq.rq, None)
        del self._heads[pdu.chain.head]
        self.vring.free(pdu.chain)
        return ns
