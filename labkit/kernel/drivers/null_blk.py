"""null_blk: queue_rq copies, and a mode says who ends the request; with another medium it is the delay device."""

from functools import partial

from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Command
from labkit.hardware.null_blk import NullBlk
from labkit.kernel.drivers.cpu_access import check_mapped
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.started import Started
from labkit.kernel.drivers.status import BlkStatus
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE

NULL_IRQ_NONE, NULL_IRQ_SOFTIRQ, NULL_IRQ_TIMER = 0, 1, 2


class NullBlkDriver(Started):
    """One null_blk, memory_backed (NULL-1)."""

    name = "null_blk"
    busy = BlkStatus.BLK_STS_RESOURCE

    def __init__(self, env: Clock, cpu: Cpu, device: NullBlk, emit: Emit, *, irqmode: int = NULL_IRQ_TIMER) -> None:
        """Drive `device`; `irqmode`: 0 ends a request in queue_rq, 1 in a softirq, 2 by a timer of the device."""
        super().__init__(env, cpu, device, emit)
        self._null = device
        self._irq_ns = 0 if irqmode == NULL_IRQ_NONE else cpu.irq

    def queue_rq(self, rq: Request) -> Steps:
        """Copy (null_queue_rq). Errors: ENOMEM (ask again), EIO for a device that is gone, EINVAL (D-14)."""
        self.admit()
        check_mapped(self.name, rq)
        yield self.cpu.vec * len(rq.vecs) + self.cpu.copy_page * rq.nbytes // PAGE_SIZE
        command = Command(rq.io, rq.rq, 0, rq.write, rq.sector, rq.nbytes, rq.vecs)
        self.start(rq, command, partial(self._done, rq))

    def timeout(self, rq: Request) -> EhReturn:
        """End `rq` with BLK_STS_TIMEOUT (null_timeout_rq), the one driver here that says so (NULL-2)."""
        if self.device.health.gone or self.dead:
            return self.remove("null_blk: the device is gone")
        self.action = "null_blk: timed out"
        self._null.abort(rq.rq)
        self.env.later(0, self.finish, rq, BlkStatus.BLK_STS_TIMEOUT)
        return EhReturn.BLK_EH_DONE

    def _done(self, rq: Request, status: int) -> None:
        ends = BlkStatus.BLK_STS_IOERR if status else BlkStatus.BLK_STS_OK
        self.env.later(self._irq_ns, self.finish, rq, ends)
