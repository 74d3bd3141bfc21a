"""One record type for each tracepoint.

A record that the kernel traces has the kernel's name for it (`SysEnter` is sys_enter, `BlockRqIssue` block_rq_issue).
Where the kernel has no tracepoint, the record has the name of the function that does the work, and says so. Every
record begins with `t` (ns of machine time) and `io` (which IO it belongs to, from 1; 0: none). Ranges are (addr, len)
in bytes.
"""

from labkit.scatter.payload import Ranges
from labkit.trace.events.block import (
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
    DmaMap,
    DmaUnmap,
    IotlbFlush,
    SwiotlbBounced,
)
from labkit.trace.events.cache import CopyFolio, FolioEndIo, PageCacheRaOrder
from labkit.trace.events.device import (
    AtaQcCompleteDone,
    AtaQcIssue,
    DeviceDma,
    DeviceStart,
    Fault,
    IoPageFault,
    IotlbFill,
    LoRwAio,
    NvmeCompleteRq,
    NvmeSetupCmd,
    PmemSubmitBio,
    VirtblkDone,
    VirtqueueAdd,
)
from labkit.trace.events.io import (
    BlkdevDirectIO,
    GupPin,
    GupUnpin,
    Hazard,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    IovIterZero,
    SysEnter,
    SysExit,
    Violation,
)
from labkit.trace.events.memory import (
    DupMmap,
    FolioFlags,
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
    SetPtes,
    SplitHugePmd,
    ZapPtes,
)

__all__ = [
    "RECORDS",
    "AtaQcCompleteDone",
    "AtaQcIssue",
    "BlkMqRqTimedOut",
    "BlkdevDirectIO",
    "BlockBioBackmerge",
    "BlockBioComplete",
    "BlockBioFrontmerge",
    "BlockBioQueue",
    "BlockBioRemap",
    "BlockGetrq",
    "BlockPlug",
    "BlockRqComplete",
    "BlockRqInsert",
    "BlockRqIssue",
    "BlockRqMerge",
    "BlockRqRequeue",
    "BlockSplit",
    "BlockUnplug",
    "CopyFolio",
    "DeviceDma",
    "DeviceStart",
    "DmaMap",
    "DmaUnmap",
    "DupMmap",
    "Fault",
    "FolioEndIo",
    "FolioFlags",
    "GupPin",
    "GupUnpin",
    "Hazard",
    "IoPageFault",
    "IoUringComplete",
    "IoUringQueueAsyncWork",
    "IoUringSubmitReq",
    "IomapDioComplete",
    "IomapDioRwBegin",
    "IomapIterDstmap",
    "IotlbFill",
    "IotlbFlush",
    "IovIterZero",
    "LoRwAio",
    "MemremapPages",
    "MemunmapPages",
    "MmFilemapAddToPageCache",
    "MmFilemapDeleteFromPageCache",
    "MmMigratePages",
    "MmPageAlloc",
    "MmPageFree",
    "Mmap",
    "Mprotect",
    "Munmap",
    "NvmeCompleteRq",
    "NvmeSetupCmd",
    "PageCacheRaOrder",
    "PmemSubmitBio",
    "Ranges",
    "Record",
    "SetPtes",
    "SplitHugePmd",
    "SwiotlbBounced",
    "SysEnter",
    "SysExit",
    "Violation",
    "VirtblkDone",
    "VirtqueueAdd",
    "ZapPtes",
]

Record = (
    Mmap | Munmap | Mprotect | DupMmap | MmPageAlloc | MmPageFree | SetPtes | ZapPtes | SplitHugePmd
    | MmFilemapAddToPageCache | MmFilemapDeleteFromPageCache | MemremapPages | MemunmapPages | MmMigratePages
    | FolioFlags | Hazard | Violation | SysEnter | SysExit | GupPin | GupUnpin | BlkdevDirectIO
    | IomapDioRwBegin | IomapIterDstmap | IomapDioComplete | IovIterZero
    | PageCacheRaOrder | CopyFolio | FolioEndIo
    | IoUringSubmitReq | IoUringQueueAsyncWork | IoUringComplete
    | BlockBioQueue | BlockBioRemap | BlockBioComplete | BlockSplit | BlockPlug | BlockUnplug
    | BlockBioBackmerge | BlockBioFrontmerge | BlockRqInsert | BlockRqMerge | BlockRqRequeue | BlockGetrq
    | DmaMap | SwiotlbBounced | DmaUnmap | IotlbFlush | BlockRqIssue | NvmeSetupCmd | VirtqueueAdd | AtaQcIssue
    | PmemSubmitBio | LoRwAio | DeviceStart | IotlbFill | IoPageFault | DeviceDma | NvmeCompleteRq | VirtblkDone
    | AtaQcCompleteDone | BlkMqRqTimedOut | Fault | BlockRqComplete
)  # fmt: skip

RECORDS: dict[str, type[Record]] = {cls.__name__: cls for cls in Record.__args__}
"""Every record type by its name."""
