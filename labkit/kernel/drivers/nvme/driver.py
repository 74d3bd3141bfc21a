"""nvme-pci: the submission queue, the completion queue, and what becomes of a command without an answer."""

import errno
from functools import partial
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.nvme.controller import NvmeCtrl
from labkit.hardware.nvme.spec import (
    CONTROL_FUA,
    CONTROLLER_FATAL,
    CQE,
    CQE_BYTES,
    OPCODE_FLUSH,
    OPCODE_READ,
    OPCODE_WRITE,
    PSDT_SGL,
    SQE,
    SQE_BYTES,
    Status,
)
from labkit.hardware.ram import RAM
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.nvme.encode import NO_DATA, DataPointer, Encoder, map_data
from labkit.kernel.drivers.nvme.lists import Lists, Written
from labkit.kernel.drivers.nvme.status import nvme_error_status
from labkit.kernel.drivers.ops import REQ_FUA, Request
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.kernel.drivers.status import blk_status_to_errno
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.trace.tracer import Emit
from labkit.units import DmaAddr, PhysAddr


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
        self, env: Clock, cpu: Cpu, ram: RAM, maps: RequestMaps, device: NvmeCtrl, queues: Queues, pool: DmaPool,
        ways: Encoder, emit: Emit,
    ) -> None:  # fmt: skip
        """Drive `device`: commands go into `queues`, PRP lists and SGLs into `pool`, both in `ram`."""
        self.env, self.cpu, self.ram, self.maps, self.device = env, cpu, ram, maps, device
        self.queues, self.pool, self.ways, self._emit = queues, pool, ways, emit
        self.action = ""
        """What was done about the request that timed out last."""
        self._lists = Lists(ram, pool)
        self._flying: dict[int, Request] = {}
        """What the controller has, by command id, which is the tag."""
        self._aborted: set[int] = set()
        self._dead = False
        self._tail = self._head = 0
        self._phase = 1
        self._sq = ram.view(queues.sq_phys, queues.depth * SQE_BYTES)
        self._cq = ram.view(queues.cq_phys, queues.depth * CQE_BYTES)
        self._create_queues()

    @property
    def outstanding(self) -> int:
        """How many commands the controller has."""
        return len(self._flying)

    def queue_rq(self, rq: Request) -> Steps:
        """Map, write the command, ring the doorbell (nvme_queue_rq).

        Raises SyscallError: ENOMEM for addresses or list memory and EBUSY for a full queue, to be asked again; EIO of a
        dead controller, and what the map says.
        """
        self._check_ready(rq)
        cpu, pointer = self.cpu, NO_DATA
        try:
            if not rq.is_flush:
                took, pointer = map_data(rq, self.maps, self.ways)
                yield took
            slot = self._setup_cmd(rq, pointer)
            yield cpu.sqe + cpu.prp * (len(pointer.prps) or len(pointer.sgl)) + cpu.doorbell
            self._emit(("BlockRqIssue", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
            self._ring(rq, slot)
        except BaseException:
            self._unmap(rq)
            raise

    def timeout(self, rq: Request) -> EhReturn:
        """Do something about `rq`, which takes too long, and say what in `action` (nvme_timeout, NVME-9).

        A completion whose interrupt got lost is found; else the command is to be aborted; the second time, or where
        the controller is gone, it is reset, and all that it had ends with EIO.
        """
        if self.device.health.gone:
            self.remove()
            self.action = "controller is gone"
            return EhReturn.BLK_EH_DONE
        self._reap()
        if self._flying.get(rq.tag) is not rq:
            self.action = "completion polled"
            return EhReturn.BLK_EH_DONE
        if rq.rq not in self._aborted:
            self._aborted.add(rq.rq)
            self.device.abort(rq.tag)
            self.action = "abort"
            return EhReturn.BLK_EH_RESET_TIMER
        self._reset()
        self.action = "reset failed: controller is dead" if self._dead else "reset controller"
        return EhReturn.BLK_EH_DONE

    def remove(self) -> None:
        """Give the controller up, as it is gone (nvme_remove): what it has ends with EIO, and so do later requests."""
        self.device.reset()
        self._dead = True
        self._cancel()

    def _check_ready(self, rq: Request) -> None:
        """Raise SyscallError EIO where the controller is dead, EBUSY where it takes nothing now."""
        if self._dead:
            raise SyscallError("nvme", f"request {rq.rq}", "finds its controller dead (BLK_STS_IOERR)", errno.EIO)
        if self.device.health.refusing:
            self.device.health.refusing -= 1
            rule = "finds the queue of the device full (BLK_STS_DEV_RESOURCE)"
            raise SyscallError("nvme", f"request {rq.rq}", rule, errno.EBUSY)

    def _setup_cmd(self, rq: Request, pointer: DataPointer) -> int:
        """Write the submission queue entry of `rq`, and the lists that it needs; return its slot."""
        written = self._lists.write(pointer)
        rq.blocks = written.blocks
        sqe = sqe_of(rq, pointer.encoding, written)
        slot = self._tail
        self._sq[slot * SQE_BYTES : (slot + 1) * SQE_BYTES] = sqe
        self._tail = (slot + 1) % self.queues.depth
        taken = sum([block.nbytes for block in rq.blocks]) if rq.blocks else 0
        self._emit((
            "NvmeSetupCmd", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes, written.low, written.high,
            len(pointer.prps) or len(pointer.sgl), taken, sqe.hex(), pointer.encoding, written.told,
        ))  # fmt: skip
        return slot

    def _ring(self, rq: Request, slot: int) -> None:
        """Tell the controller of the command in `slot`."""
        if self._dead:  # it died while the command was written
            self._check_ready(rq)
        self._flying[rq.tag] = rq
        command = Command(rq.io, rq.rq, slot, rq.write, rq.sector, rq.nbytes, ())
        try:
            self.device.submit(command, partial(self._irq, rq))
        except BaseException:
            del self._flying[rq.tag]
            raise

    def _irq(self, rq: Request, status: int) -> None:
        """Be interrupted (nvme_irq); without a completion, where the controller cannot reach its queues."""
        if status != CONTROLLER_FATAL:
            self._reap()
        elif self._flying.get(rq.tag) is rq:
            del self._flying[rq.tag]
            self.env.later(self.cpu.irq, self._finish, rq, status)

    def _reap(self) -> None:
        """Take the completion queue entries of this round, and finish their requests after the interrupt's time."""
        cq, at = self._cq, self._head * CQE_BYTES
        while cq[at + CQE_BYTES - 2] & 1 == self._phase:
            _result, _sq_head, _sq, cid, status = CQE.unpack_from(cq, at)
            self._head += 1
            if self._head == self.queues.depth:
                self._head, self._phase = 0, self._phase ^ 1
            at = self._head * CQE_BYTES
            rq = self._flying.pop(cid, None)
            if rq is not None:
                self._emit(("NvmeCompleteRq", self.env.now, rq.io, rq.rq, cid, status >> 1))
                self.env.later(self.cpu.irq, self._finish, rq, status >> 1)

    def _finish(self, rq: Request, status: int) -> None:
        """Unmap, and end `rq` when that is through."""
        took = self._unmap(rq)
        error = blk_status_to_errno(nvme_error_status(status)) if status else 0
        if took:
            self.env.later(took, rq.end_io, rq, error)
        else:
            rq.end_io(rq, error)

    def _unmap(self, rq: Request) -> int:
        """Give back the addresses and the lists of `rq`; return the ns that it takes (NVME-8)."""
        if self._aborted:
            self._aborted.discard(rq.rq)
        if rq.blocks:
            self._lists.free(rq.blocks)
            rq.blocks = ()
        return 0 if rq.is_flush else self.maps.unmap(rq)

    def _reset(self) -> None:
        """Reset the controller: it forgets every command, and each of them ends; it may not come back."""
        self._dead = not self.device.reset()
        if not self._dead:
            self._create_queues()
        self._cancel()

    def _create_queues(self) -> None:
        """Begin with empty queues: no entry of the completion queue has the phase of the first round."""
        self._tail = self._head = 0
        self._phase = 1
        self._cq[:] = bytes(self._cq.nbytes)
        self.device.create_queues(self.queues.sq_dma, self.queues.cq_dma)

    def _cancel(self) -> None:
        """End all that the controller had (nvme_cancel_request)."""
        status = Status.NVME_SC_HOST_ABORTED_CMD.value
        flying, self._flying = self._flying, {}
        for cid, rq in flying.items():
            self._emit(("NvmeCompleteRq", self.env.now, rq.io, rq.rq, cid, status))
            self.env.later(self.cpu.irq, self._finish, rq, status)


def sqe_of(rq: Request, encoding: str, written: Written) -> bytes:
    """Return the submission queue entry of `rq`: a flush names no blocks and no memory."""
    if rq.is_flush:
        return SQE.pack(OPCODE_FLUSH, 0, rq.tag, 1, 0, 0, 0, 0, 0)
    opcode = OPCODE_WRITE if rq.write else OPCODE_READ
    flags = 0 if encoding == "prp" else PSDT_SGL
    control = CONTROL_FUA if rq.write and rq.opf & REQ_FUA else 0
    return SQE.pack(opcode, flags, rq.tag, 1, written.low, written.high, rq.sector, (rq.nbytes >> 9) - 1, control)
