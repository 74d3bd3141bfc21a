"""Every record begins a stage: in which lane it is drawn, and what its bar is called."""

from labkit.trace.events import (
    AtaQcCompleteDone,
    AtaQcIssue,
    BlkdevDirectIO,
    BlkMqRqTimedOut,
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockBioRemap,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqInsert,
    BlockRqIssue,
    BlockRqMerge,
    BlockRqRequeue,
    BlockSplit,
    BlockUnplug,
    CopyFolio,
    DmaMap,
    DmaUnmap,
    DupMmap,
    Fault,
    FolioEndIo,
    FolioFlags,
    GupPin,
    GupUnpin,
    Hazard,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoPageFault,
    IotlbFill,
    IotlbFlush,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    IovIterZero,
    LoRwAio,
    MemremapPages,
    MemunmapPages,
    Mmap,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Mprotect,
    Munmap,
    NvmeCompleteRq,
    NvmeSetupCmd,
    PageCacheRaOrder,
    PmemSubmitBio,
    Record,
    SetPtes,
    SplitHugePmd,
    SwiotlbBounced,
    Violation,
    VirtblkDone,
    VirtqueueAdd,
    ZapPtes,
)
from labkit.trace.trace import Trace

LANES = ("system call", "pin", "block file", "block layer", "DMA map", "driver", "device", "complete, unpin")
"""The lanes of every trace."""
_HAZARD, _CACHE, _FAULT, _IOTLB = 8, 9, 10, 11
BROKEN = (Fault, IoPageFault, BlkMqRqTimedOut)
"""Records of what breaks."""
MORE: dict[int, tuple[str, tuple[type, ...]]] = {
    _CACHE: ("page cache", (PageCacheRaOrder, CopyFolio, FolioEndIo)),
    _IOTLB: ("IOTLB", (IotlbFill,)),
    _HAZARD: ("hazards", (Hazard, Violation)),
    _FAULT: ("faults", BROKEN),
}
"""Lanes below the others, for those traces that have records of theirs."""
IN_CALL = (
    GupPin, BlkdevDirectIO, IomapDioRwBegin, IomapIterDstmap, IovIterZero, PageCacheRaOrder, CopyFolio, BlockBioQueue,
    BlockBioRemap, BlockBioComplete, BlockSplit, BlockPlug, BlockUnplug, BlockBioBackmerge, BlockBioFrontmerge,
    BlockRqMerge, BlockRqInsert, BlockRqRequeue, BlockGetrq, DmaMap, NvmeSetupCmd, VirtqueueAdd,
    AtaQcIssue, PmemSubmitBio, LoRwAio, BlockRqIssue,
)  # fmt: skip
"""What a task does, one after the other, in its call."""
IN_IRQ = (NvmeCompleteRq, VirtblkDone, AtaQcCompleteDone, DmaUnmap, BlockRqComplete)
"""What is done, one after the other, at the end of a request."""

STAGE: dict[type, tuple[int, str]] = {
    Mmap: (0, "mmap"), Munmap: (0, "munmap"), MmPageAlloc: (0, "fault"), MmPageFree: (0, "free"),
    GupPin: (1, "pin"), BlkdevDirectIO: (2, "direct IO"), BlockBioQueue: (3, "bio"), BlockSplit: (3, "split"),
    BlockGetrq: (3, "request"), DmaMap: (4, "map"), NvmeSetupCmd: (5, "command"), LoRwAio: (5, "to file"),
    BlockRqIssue: (5, "issue"), NvmeCompleteRq: (7, "irq"), DmaUnmap: (7, "unmap"), IotlbFlush: (7, "flush"),
    BlockRqComplete: (7, "done"), GupUnpin: (7, "unpin"),
    Mprotect: (0, "mprotect"), DupMmap: (0, "fork"), SetPtes: (0, "map"), ZapPtes: (0, "zap"),
    SplitHugePmd: (0, "split"), MmFilemapAddToPageCache: (0, "cache"), MmFilemapDeleteFromPageCache: (0, "uncache"),
    MemremapPages: (0, "device memory"), MemunmapPages: (0, "unplug"), MmMigratePages: (0, "migrate"),
    FolioFlags: (0, "flags"), Hazard: (_HAZARD, "hazard"), Violation: (_HAZARD, "broken"),
    IomapDioRwBegin: (2, "direct IO"), IomapIterDstmap: (2, "extent"), IovIterZero: (2, "zeros"),
    IomapDioComplete: (7, "file done"), BlockBioRemap: (3, "remap"), BlockBioComplete: (3, "bio ends"),
    BlockPlug: (3, "plug"), BlockUnplug: (3, "unplug"), BlockBioBackmerge: (3, "merge"),
    BlockBioFrontmerge: (3, "merge"), BlockRqMerge: (3, "merge"), BlockRqInsert: (3, "insert"),
    BlockRqRequeue: (3, "requeue"), PageCacheRaOrder: (_CACHE, "readahead"), CopyFolio: (_CACHE, "copy"),
    FolioEndIo: (_CACHE, "folios end"), IoUringSubmitReq: (0, "entry"), IoUringQueueAsyncWork: (0, "worker"),
    IoUringComplete: (0, "completion"), VirtqueueAdd: (5, "chain"), AtaQcIssue: (5, "command"),
    PmemSubmitBio: (5, "copy"), VirtblkDone: (7, "irq"), AtaQcCompleteDone: (7, "irq"), SwiotlbBounced: (4, "bounce"),
    IotlbFill: (_IOTLB, "translate"), Fault: (_FAULT, "fault"), IoPageFault: (_FAULT, "bus fault"),
    BlkMqRqTimedOut: (_FAULT, "timeout"),
}  # fmt: skip
"""For each record type its lane and what the bar is called."""
_DRIVERS: tuple[tuple[type[Record], str], ...] = (
    (LoRwAio, "loop driver"), (NvmeSetupCmd, "NVMe driver"), (VirtqueueAdd, "virtio-blk"), (AtaQcIssue, "AHCI driver"),
    (PmemSubmitBio, "pmem driver"),
)  # fmt: skip


def driver(trace: Trace) -> str:
    """Return the name of the driver that `trace` shows."""
    return next((name for kind, name in _DRIVERS if trace.of(kind)), "driver")
