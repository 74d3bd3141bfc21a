"""One record type for each tracepoint.

A record that the kernel traces has the kernel's name for it (`SysEnter` is sys_enter, `BlockRqIssue` block_rq_issue).
Where the kernel has no tracepoint, the record has the name of the function that does the work, and says so. Every
record begins with `t` (ns of machine time) and `io` (which IO it belongs to, from 1; 0: none). Ranges are (addr, len)
in bytes.
"""

from labkit.scatter.payload import Ranges
from labkit.trace.events.block import (
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
)
from labkit.trace.events.cache import CopyFolio, FolioEndIo, PageCacheRaOrder
from labkit.trace.events.device import DeviceDma, DeviceStart, LoRwAio, NvmeCompleteRq, NvmeSetupCmd
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
    "FolioEndIo",
    "FolioFlags",
    "GupPin",
    "GupUnpin",
    "Hazard",
    "IoUringComplete",
    "IoUringQueueAsyncWork",
    "IoUringSubmitReq",
    "IomapDioComplete",
    "IomapDioRwBegin",
    "IomapIterDstmap",
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
    "Ranges",
    "Record",
    "SetPtes",
    "SplitHugePmd",
    "SysEnter",
    "SysExit",
    "Violation",
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
    | DmaMap | DmaUnmap | IotlbFlush | BlockRqIssue | NvmeSetupCmd
    | LoRwAio | DeviceStart | DeviceDma | NvmeCompleteRq | BlockRqComplete
)  # fmt: skip

RECORDS: dict[str, type[Record]] = {cls.__name__: cls for cls in Record.__args__}
"""Every record type by its name."""
