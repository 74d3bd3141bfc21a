"""What a fault finds: the machine, and the IO that it is to meet."""

from typing import Protocol

from labkit.hardware.clock import Clock
from labkit.hardware.device import Device
from labkit.hardware.media.ops import Medium
from labkit.hardware.ram import RAM
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.dma.ops import DmaMapOps
from labkit.kernel.drivers.ops import BlkMqOps
from labkit.kernel.mm.frames.frames import Frames
from labkit.machine.plug import Slots
from labkit.machine.volume import FileVolume
from labkit.scatter.payload import Range, Ranges
from labkit.scenario import Scenario
from labkit.trace.events import (
    AtaQcCompleteDone,
    BlkMqRqTimedOut,
    BlockBioComplete,
    BlockGetrq,
    BlockRqComplete,
    BlockRqRequeue,
    DmaMap,
    DmaUnmap,
    IoPageFault,
    IoUringComplete,
    IoUringSubmitReq,
    NvmeCompleteRq,
    Record,
    SysEnter,
    SysExit,
    VirtblkDone,
)
from labkit.trace.tracer import Tracer


class Plant(Protocol):
    """As much of a machine as can break."""

    scenario: Scenario
    clock: Clock
    tracer: Tracer
    ram: RAM
    frames: Frames
    queue: RequestQueue
    driver: BlkMqOps
    device: Device
    medium: Medium | None
    dma: DmaMapOps | None
    slots: Slots
    volume: FileVolume


_TROUBLE = (BlkMqRqTimedOut, BlockRqRequeue, IoPageFault)


class Met:
    """The first IO of a task, as its records tell of it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.number = 0
        self.moved: int | None = None
        """Bytes that it moved, or a negative errno; None while it is on its way."""
        self.sectors: Range | None = None
        """(sector, sectors) of its first request."""
        self.mapped: dict[int, Ranges] = {}
        """Device addresses of each of its requests that are mapped now."""
        self.disturbed = False
        """Whether the last record, or a fault itself, tells of something that is not as it should be."""

    def see(self, rec: Record) -> bool:
        """Learn from `rec`; return whether it is of this IO, or of nobody while this one is on its way."""
        if isinstance(rec, (SysEnter, IoUringSubmitReq)) and not self.number:
            self.number = rec.io
        if not self.number or self.moved is not None or rec.io not in {0, self.number}:
            return False
        if isinstance(rec, BlockGetrq):
            self.sectors = self.sectors or (rec.sector, rec.nr_sector)
        elif isinstance(rec, DmaMap):
            self.mapped[rec.rq] = rec.dma
        elif isinstance(rec, DmaUnmap):
            self.mapped.pop(rec.rq, None)
        elif isinstance(rec, (SysExit, IoUringComplete)):
            self.moved = rec.ret if isinstance(rec, SysExit) else rec.res
        self.disturbed = isinstance(rec, _TROUBLE) or _failed(rec)
        return True


def _failed(rec: Record) -> bool:
    """Return whether `rec` is the end of a request that failed, or of a command, which may be tried again."""
    if isinstance(rec, (BlockRqComplete, BlockBioComplete, AtaQcCompleteDone)):
        return rec.error != 0
    return isinstance(rec, (NvmeCompleteRq, VirtblkDone)) and rec.status != 0
