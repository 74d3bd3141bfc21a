"""Traces typed out by hand, for what draws them: no engine is needed to test a picture."""

from dataclasses import replace

from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    Mmap,
    MmPageAlloc,
    NvmeCompleteRq,
    NvmeSetupCmd,
    SysEnter,
    SysExit,
)
from labkit.trace.snapshot import MemoryMap
from labkit.trace.trace import Trace

VA, IOVA = 0x7F00_0000_0000, 0xFFE0_0000
PHYS = ((0x4000_0000, 8192), (0x4000_5000, 4096))
"""Two physical ranges: frames 0 and 1 of a pageblock, and its frame 5."""
META = {
    "scenario": {"system": "phyr", "device": "nvme", "op": "read", "iommu": "lazy", "folio": "4KiB"},
    "device": {"name": "nvme0n1", "nbytes": 1 << 34, "clock": "simulated"},
    "kernel": "6.18",
}
MEMORY = MemoryMap((("DMA32", 0x1000, 0x4_0000), ("Normal", 0x4_0000, 0x8_0000)), ((0x4_0008, 8, "file"),))

SMALL = Trace(
    (
        Mmap(0, 0, VA, 12288, "rw-", "anon 4 KiB"),
        MmPageAlloc(0, 0, VA, 0, 1, PHYS),
        SysEnter(100, 1, "pread64", 3, VA, 12288, 4096),
        GupPin(220, 1, 1, "range", VA, PHYS, 3, 2, 0, 32),
        BlkdevDirectIO(300, 1, 4096, 12288, "simple"),
        BlockBioQueue(360, 1, 1, 8, 24, 2, 0),
        BlockGetrq(360, 1, 1, 1, 0, 8, 24, 2),
        DmaMap(450, 1, 1, ((IOVA, 12288),), PHYS, 1, 0, 0, 16),
        NvmeSetupCmd(700, 1, 1, 0, 8, 12288, IOVA, 0xFFF0_0000, 3, 256, "00" * 64),
        BlockRqIssue(900, 1, 1, 0, 8, 24),
        DeviceStart(900, 1, 1, 5),
        DeviceDma(70_900, 1, 1, write=False, len=12288),
        NvmeCompleteRq(70_900, 1, 1, 0, 0),
        DmaUnmap(71_900, 1, 1, 0, stale=True),
        BlockRqComplete(71_900, 1, 1, 0, 8, 24, 0),
        GupUnpin(71_900, 1, 1, 2, 0),
        SysExit(72_500, 1, "pread64", 12288),
    ),
    MEMORY,
    META,
)
"""One read of 12 KiB: two phyrs, one request, one device address."""

FAILED = Trace(
    (
        Mmap(0, 0, VA, 4096, "rw-", "anon 4 KiB"),
        SysEnter(100, 1, "pread64", 3, VA, 12288, 0),
        SysExit(220, 1, "pread64", -14),
    ),
    MEMORY,
    META,
)
"""A read into a buffer of which only the first page is mapped: it ends before anything is pinned."""

EMPTY = Trace(())

_EVIL = "<img src=x onerror=alert(1)>"
HOSTILE = replace(
    SMALL,
    records=tuple(
        rec._replace(name=_EVIL) if isinstance(rec, Mmap | SysEnter | SysExit) else rec for rec in SMALL.records
    ),
    meta={"device": {"name": _EVIL, "clock": _EVIL}, "scenario": {"system": _EVIL, "folio": _EVIL}, "kernel": _EVIL},
)
"""Every string of it wants to be markup."""


def scattered(pages: int, per_request: int = 32, stride: int = 7) -> Trace:
    """Return a read of `pages` pages, each a physical range of its own, in requests of `per_request` pages."""
    first, total = 0x4_0000, 0x40_000
    phys = tuple(((first + i * stride * 5 % total) << 12, 4096) for i in range(pages))
    records = [
        Mmap(0, 0, VA, pages << 12, "rw-", "anon 4 KiB"),
        MmPageAlloc(0, 0, VA, 0, 1, phys),
        SysEnter(100, 1, "pread64", 3, VA, pages << 12, 0),
        GupPin(220, 1, 1, "range", VA, phys, pages, pages, 0, 16 * pages),
        BlockBioQueue(5000, 1, 1, 0, pages * 8, pages, 0),
    ]
    ends: list = []
    for rq, at in enumerate(range(0, pages, per_request), 1):
        part = phys[at : at + per_request]
        start, size, t = 8 * at, 8 * len(part), 5000 + 1000 * rq
        dma = ((IOVA - (rq << 20), len(part) << 12),)
        records += [
            BlockGetrq(t, 1, 1, rq, rq - 1, start, size, len(part)),
            DmaMap(t + 200, 1, rq, dma, part, 1, 0, 0, 16),
            NvmeSetupCmd(t + 500, 1, rq, rq - 1, start, size << 9, dma[0][0], 0, len(part), 256, ""),
            BlockRqIssue(t + 700, 1, rq, rq - 1, start, size),
            DeviceStart(t + 700, 1, rq, rq % 4),
        ]
        done = 90_000 + 20_000 * rq
        ends += [
            DeviceDma(done, 1, rq, write=False, len=size << 9),
            NvmeCompleteRq(done, 1, rq, rq - 1, 0),
            DmaUnmap(done + 1000, 1, rq, 0, stale=True),
            BlockRqComplete(done + 1000, 1, rq, rq - 1, start, size, 0),
        ]
    last = max(records[-1].t, ends[-1].t)
    records += sorted(ends, key=lambda rec: rec.t)
    records += [GupUnpin(last, 1, 1, pages, 0), SysExit(last + 3000, 1, "pread64", pages << 12)]
    return Trace(tuple(records), MEMORY, META)
