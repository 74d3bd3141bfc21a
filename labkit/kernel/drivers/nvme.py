"""nvme-pci: a request becomes 64 bytes in a submission queue, with PRPs that say where its memory is."""

import struct
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command, Device
from labkit.hardware.nvme_ssd import (
    CONTROL_FUA,
    CONTROLLER_FATAL,
    CQE,
    CQE_BYTES,
    OPCODE_FLUSH,
    OPCODE_READ,
    OPCODE_WRITE,
    SQE,
    SQE_BYTES,
)
from labkit.hardware.ram import RAM
from labkit.kernel.dma.ops import DmaMapOps, DmaMapping
from labkit.kernel.dma.pool import Block, DmaPool
from labkit.kernel.drivers.ops import REQ_FUA, Request
from labkit.kernel.drivers.status import BlkStatus, blk_status_to_errno
from labkit.scatter.payload import Range, Ranges
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE, DmaAddr, PhysAddr

_STATUS = {
    0x00: BlkStatus.BLK_STS_OK,
    0x01: BlkStatus.BLK_STS_NOTSUPP,
    0x02: BlkStatus.BLK_STS_NOTSUPP,
    0x80: BlkStatus.BLK_STS_TARGET,
    0x81: BlkStatus.BLK_STS_NOSPC,
    0x82: BlkStatus.BLK_STS_TARGET,
    0x83: BlkStatus.BLK_STS_RESV_CONFLICT,
    0x280: BlkStatus.BLK_STS_MEDIUM,
    0x281: BlkStatus.BLK_STS_MEDIUM,
    0x282: BlkStatus.BLK_STS_PROTECTION,
    0x370: BlkStatus.BLK_STS_TRANSPORT,
}
"""NVMe status to block status (BLK-1, nvme_error_status); what is not here is BLK_STS_IOERR."""


class Queues(NamedTuple):
    """The queue pair in memory that driver and controller share: physical and bus addresses, and entries."""

    sq_phys: PhysAddr
    sq_dma: DmaAddr
    cq_phys: PhysAddr
    cq_dma: DmaAddr
    depth: int


class NvmeDriver:
    """One queue pair of one controller (NVME-3)."""

    def __init__(
        self, env: Clock, cpu: Cpu, ram: RAM, dma: DmaMapOps, device: Device, queues: Queues, pool: DmaPool,
        emit: Emit,
    ) -> None:  # fmt: skip
        """Drive `device`: commands go into `queues`, PRP lists into `pool`, both in `ram`."""
        self.env, self.cpu, self.ram, self.dma, self.device = env, cpu, ram, dma, device
        self.queues, self.pool, self._emit = queues, pool, emit
        self.mappings: dict[int, DmaMapping] = {}
        """The memory of each request that is mapped now."""
        self._tail = self._head = 0
        self._phase = 1

    def queue_rq(self, rq: Request) -> Steps:
        """Map, write the command, ring the doorbell (nvme_queue_rq). Errors: ENOMEM for addresses or list memory."""
        env, cpu = self.env, self.cpu
        dma = () if rq.is_flush else self._map(rq)
        try:
            if not rq.is_flush:
                _, _, maps, ioptes, _ = self.mappings[rq.rq]
                yield cpu.dma_map * maps + (cpu.iova_alloc + cpu.iopte * ioptes if ioptes else 0)
            prps = prp_entries(dma)
            slot = self._setup_cmd(rq, prps)
            yield cpu.sqe + cpu.prp * len(prps) + cpu.doorbell
            self._emit(("BlockRqIssue", env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
            self.device.submit(Command(rq.io, rq.rq, slot, rq.write, rq.sector, rq.nbytes, dma), partial(self._irq, rq))
        except BaseException:
            self._unmap(rq)
            raise

    def _map(self, rq: Request) -> Ranges:
        """Return the addresses that the device has for the memory of `rq`."""
        dma, phys, maps, _, saved = self.mappings[rq.rq] = self.dma.map(rq.vecs, rq.cls)
        self._emit(("DmaMap", self.env.now, rq.io, rq.rq, dma, phys, maps, rq.conversions, rq.conversions, saved))
        return dma

    def _setup_cmd(self, rq: Request, prps: Sequence[int]) -> int:
        """Write the submission queue entry of `rq`, and the lists that it needs; return its slot."""
        prp2 = 0
        if len(prps) == 2:  # noqa: PLR2004 - PRP1 and PRP2
            prp2 = prps[1]
        elif len(prps) > 1:
            rq.blocks, prp2 = self._write_lists(prps[1:])
        sqe = _sqe(rq, prps[0] if prps else 0, prp2)
        slot = self._tail
        self.ram.view(self.queues.sq_phys + slot * SQE_BYTES, SQE_BYTES)[:] = sqe
        self._tail = (slot + 1) % self.queues.depth
        lists = sum([block.nbytes for block in rq.blocks]) if rq.blocks else 0
        self._emit((
            "NvmeSetupCmd", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes, prps[0] if prps else 0, prp2,
            len(prps), lists, sqe.hex(),
        ))  # fmt: skip
        return slot

    def _write_lists(self, entries: Sequence[int]) -> tuple[tuple[Block, ...], int]:
        """Write `entries` into chained lists (NVME-5); return the blocks they took and the bus address of the first."""
        chunks = list_chunks(len(entries))
        blocks = self._alloc_lists(chunks)
        following = [self.pool.dma + block.offset for block in blocks[1:]]
        rows, at = [], 0
        for chunk, after in zip_longest(chunks, following):
            take = chunk if after is None else chunk - 1
            rows.append([*entries[at : at + take], *([] if after is None else [after])])
            at += take
        for block, row in zip(blocks, rows, strict=True):
            self.ram.view(self.pool.phys + block.offset, 8 * len(row))[:] = struct.pack(f"<{len(row)}Q", *row)
        return tuple(blocks), self.pool.dma + blocks[0].offset

    def _alloc_lists(self, chunks: Sequence[int]) -> list[Block]:
        """Take a block for each of `chunks` entries, or none. Raises SyscallError ENOMEM."""
        blocks: list[Block] = []
        try:
            for chunk in chunks:
                blocks.append(self.pool.alloc(8 * chunk))  # noqa: PERF401 - the ones before a failure must be known
        except SyscallError:
            for block in blocks:
                self.pool.free(block)
            raise
        return blocks

    def _irq(self, rq: Request, status: int) -> None:
        """Read the completion queue entry, and finish the request after the interrupt's time."""
        if status == CONTROLLER_FATAL:
            self.env.later(self.cpu.irq, self._finish, rq, status)
            return
        at = self.queues.cq_phys + self._head * CQE_BYTES
        _result, _sq_head, _sq, cid, status = CQE.unpack(self.ram.view(at, CQE_BYTES))
        assert status & 1 == self._phase, "the controller raised an interrupt for an entry of the last round"  # noqa: S101
        self._head += 1
        if self._head == self.queues.depth:
            self._head, self._phase = 0, self._phase ^ 1
        self._emit(("NvmeCompleteRq", self.env.now, rq.io, rq.rq, cid, status >> 1))
        unmap = self.cpu.lazy_unmap if self.dma.stale else self.cpu.iotlb_sync * self.dma.syncs
        if rq.is_flush:
            unmap = 0
        self.env.later(self.cpu.irq + unmap, self._finish, rq, status >> 1)

    def _finish(self, rq: Request, status: int) -> None:
        self._unmap(rq)
        rq.end_io(rq, blk_status_to_errno(_STATUS.get(status, BlkStatus.BLK_STS_IOERR)))

    def _unmap(self, rq: Request) -> None:
        """Give back the addresses and the PRP lists of `rq`."""
        for block in rq.blocks:
            self.pool.free(block)
        rq.blocks = ()
        if rq.is_flush:
            return
        # The record comes before the unmap, for that may empty a full flush queue, which is a record of its own.
        self._emit(("DmaUnmap", self.env.now, rq.io, rq.rq, self.dma.syncs, self.dma.stale))
        self.dma.unmap(self.mappings.pop(rq.rq))


def _sqe(rq: Request, prp1: int, prp2: int) -> bytes:
    """Return the submission queue entry of `rq`: a flush names no blocks and no memory."""
    if rq.is_flush:
        return SQE.pack(OPCODE_FLUSH, 0, rq.tag, 1, 0, 0, 0, 0, 0)
    opcode = OPCODE_WRITE if rq.write else OPCODE_READ
    control = CONTROL_FUA if rq.write and rq.opf & REQ_FUA else 0
    return SQE.pack(opcode, 0, rq.tag, 1, prp1, prp2, rq.sector, (rq.nbytes >> 9) - 1, control)


def prp_entries(ranges: Sequence[Range]) -> list[int]:
    """Return every PRP of `ranges` (bus addresses): the first may begin inside a page, the others are page starts.

    NVME-5; that each range but the last ends on a page is the virt boundary's work (NVME-6).
    """
    if not ranges:
        return []
    if len(ranges) == 1 and ranges[0][0] % PAGE_SIZE + ranges[0][1] <= PAGE_SIZE:
        return [ranges[0][0]]
    entries: list[int] = []
    for addr, nbytes in ranges:
        entries.append(addr)
        entries.extend(range((addr // PAGE_SIZE + 1) * PAGE_SIZE, addr + nbytes, PAGE_SIZE))
    return entries


def list_chunks(entries: int) -> list[int]:
    """Return the slots of each list for `entries` PRPs after PRP1: 512 to a page, the last one chains (NVME-5)."""
    room = PAGE_SIZE // 8
    chunks: list[int] = []
    while entries > room:
        chunks.append(room)
        entries -= room - 1
    return [*chunks, entries]
