"""pmem: a CPU copies, and the request is over; there is no DMA and no interrupt (PMEM-1).

Linux takes bios here, without a queue; ours go through one like all others, so that they have a request and a tag.
"""

from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.pmem import PmemDevice
from labkit.kernel.drivers.cpu_access import check_mapped
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus
from labkit.trace.tracer import Emit


class PmemDriver(Started):
    """One namespace of persistent memory."""

    name = "pmem"

    def __init__(self, env: Clock, cpu: Cpu, device: PmemDevice, emit: Emit) -> None:
        """Copy to and from `device`."""
        super().__init__(env, cpu, device, emit)
        self._pmem = device

    def queue_rq(self, rq: Request) -> Steps:
        """Copy (pmem_submit_bio): whoever sends it is busy until it is done. Errors: EIO, EINVAL (D-14)."""
        self.admit()
        check_mapped(self.name, rq)
        self._emit(("BlockRqIssue", self.env.now, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
        command = Command(rq.io, rq.rq, 0, rq.write, rq.sector, rq.nbytes, rq.vecs)
        yield self._pmem.latency(command)
        self._emit(("PmemSubmitBio", self.env.now, rq.io, rq.rq, rq.write, rq.nbytes))
        status = BlkStatus.BLK_STS_IOERR if self._pmem.copy(command) else BlkStatus.BLK_STS_OK
        yield self.cpu.vec * max(len(rq.vecs), 1)  # never in the instant of the copy, which may be torn
        self.started[rq.rq] = rq
        self.env.later(0, self.finish, rq, status)
