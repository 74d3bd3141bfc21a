"""Records become sentences: one each, in plain English, with the kernel function that does it and where it comes from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    BlockSplit,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFlush,
    LoRwAio,
    MmPageAlloc,
    MmPageFree,
    Mmap,
    Munmap,
    NvmeCompleteRq,
    NvmeSetupCmd,
    Ranges,
    Record,
    SysEnter,
    SysExit,
)
from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, SECTOR_SHIFT, human_bytes
from labkit.views.words import address, capital, count, errno_name, errno_sentence


class Line(NamedTuple):
    """What one record tells: when (ns), in which layer, the sentence, the kernel's function, whose idea it is."""

    t: int
    layer: str
    text: str
    function: str
    origin: str


def story(trace: Trace) -> list[Line]:
    """Return a line for each record of `trace`."""
    return [line(trace, rec) for rec in trace.records]


def line(trace: Trace, rec: Record) -> Line:
    """Return the line of one record."""
    layer, function, tell = _TELL.get(type(rec), ("other", "", lambda rec: type(rec).__name__))
    return Line(rec.t, layer, tell(rec), function(rec) if callable(function) else function, _origin(trace, rec))


def _origin(trace: Trace, rec: Record) -> str:
    """Return 'upstream 6.18', 'proposed ...' or 'ours', as the trace says, else as the record's nature says."""
    said = trace.meta.get("origin")
    told = said if isinstance(said, dict) else {}
    upstream = f"upstream {trace.meta.get('kernel', '')}".strip()
    if isinstance(rec, DeviceStart | DeviceDma):
        return str(told.get("device", "ours"))
    if isinstance(rec, GupPin | GupUnpin):
        knobs = trace.meta.get("scenario")
        system = knobs.get("system", "page") if isinstance(knobs, dict) else "page"
        ranges = system != "page" or getattr(rec, "policy", "page") == "range"
        return str(told.get("memory", "proposed" if ranges else upstream))
    return upstream


def _size(ranges: Ranges) -> str:
    return human_bytes(sum(nbytes for _, nbytes in ranges))


def _sectors(nr_sector: int) -> str:
    return human_bytes(nr_sector << SECTOR_SHIFT)


def _alloc(rec: MmPageAlloc) -> str:
    each = PAGE_SIZE << rec.order
    folios = sum(nbytes for _, nbytes in rec.ranges) // each
    kind = f"folio of {human_bytes(each)}", f"folios of {human_bytes(each)}"
    where = f"at {address(rec.addr)}: {count(len(rec.ranges), 'physical range')}"
    verb = "comes" if folios == 1 else "come"
    return f"{capital(count(folios, *kind))} {verb} from the buddy allocator and {'is' if folios == 1 else 'are'} mapped {where}."


def _enter(rec: SysEnter) -> str:
    way = "out of" if "write" in rec.name else "into"
    return f"The task calls {rec.name}: {human_bytes(rec.nbytes)} {way} its memory at {address(rec.buf)}, from byte {rec.pos:,} of file {rec.fd}."


def _exit(rec: SysExit) -> str:
    if rec.ret < 0:
        return f"{rec.name} ends with {errno_name(rec.ret)}: {errno_sentence(rec.ret)}."
    return f"{rec.name} returns {rec.ret:,} bytes."


def _pin(rec: GupPin) -> str:
    what = f"{capital(count(rec.ptes, 'page table entry', 'page table entries'))} walked, {_size(rec.ranges)} pinned"
    if rec.policy == "range":
        return f"{what} as {count(len(rec.ranges), 'physical range')}, whole, with {count(rec.atomics, 'atomic operation')}."
    touched = f"{count(rec.struct_pages, 'struct page')} touched, {count(rec.atomics, 'atomic operation')}"
    return f"{what} page by page: {touched}, {count(len(rec.ranges), 'physical range')}."


def _unpin(rec: GupUnpin) -> str:
    return f"The pinned memory is let go of as a whole: {count(rec.atomics, 'atomic operation')}, {count(rec.struct_pages, 'struct page')} touched."


def _map(rec: DmaMap) -> str:
    into = (
        f"{count(len(rec.dma), 'device address', 'device addresses')}, {_size(rec.dma)} from {address(rec.dma[0][0])} on"
        if rec.dma
        else "nothing"
    )
    return f"The memory of request {rec.rq}, {count(len(rec.phys), 'range')}, becomes {into}."


def _unmap(rec: DmaUnmap) -> str:
    after = ", yet stay in the IOTLB until it is flushed" if rec.stale else ""
    return f"The device addresses of request {rec.rq} are given back{after}."


def _setup(rec: NvmeSetupCmd) -> str:
    prps = f"PRP1 {address(rec.prp1)}, {count(rec.prps, 'PRP entry', 'PRP entries')} in all"
    return f"Command {rec.cid} is written for the drive: {human_bytes(rec.length)} from block {rec.slba:,}, {prps}."


def _dma(rec: DeviceDma) -> str:
    way = "out of memory into the device" if rec.write else "from the device into memory"
    return f"{human_bytes(rec.len)} of request {rec.rq} have moved {way}."


def _complete(rec: BlockRqComplete) -> str:
    how = f"fails with {errno_name(rec.error)}" if rec.error else "is done"
    return f"Request {rec.rq} {how}, and tag {rec.tag} is free."


def _cqe(rec: NvmeCompleteRq) -> str:
    return f"The completion of command {rec.cid} is seen: {'success' if not rec.status else f'status {rec.status:#x}'}."


_TELL: dict[type, tuple[str, str | Callable[[Any], str], Callable[[Any], str]]] = {
    Mmap: ("task", "do_mmap", lambda r: f"The task maps {human_bytes(r.len)} ({r.name}, {r.prot}) at {address(r.addr)}."),
    Munmap: ("task", "do_munmap", lambda r: f"The task unmaps {human_bytes(r.len)} at {address(r.addr)}."),
    MmPageAlloc: ("task", "handle_mm_fault", _alloc),
    MmPageFree: ("task", "free_frozen_pages", lambda r: f"{_size(r.ranges)} go back to the buddy allocator."),
    SysEnter: ("system call", lambda r: f"ksys_{r.name}", _enter),
    SysExit: ("system call", lambda r: f"ksys_{r.name}", _exit),
    GupPin: ("pin", lambda r: "get_user_phyrs" if r.policy == "range" else "pin_user_pages_fast", _pin),
    GupUnpin: ("unpin", "unpin", _unpin),
    BlkdevDirectIO: ("file", "blkdev_direct_IO", lambda r: f"The block device file takes {human_bytes(r.nbytes)} by its {r.path} path."),
    BlockBioQueue: ("block", "submit_bio_noacct", lambda r: f"A bio of {_sectors(r.nr_sector)} in {count(r.vecs, 'vector')} enters the block layer at sector {r.sector:,}."),
    BlockSplit: ("block", "bio_split", lambda r: f"The bio is more than the queue takes at once: its front ends at sector {r.new_sector:,}."),
    BlockGetrq: ("block", "blk_mq_submit_bio", lambda r: f"Request {r.rq} gets tag {r.tag}: {_sectors(r.nr_sector)} from sector {r.sector:,}, {count(r.segments, 'segment')}."),
    DmaMap: ("DMA map", "dma_map_phys", _map),
    DmaUnmap: ("DMA unmap", "dma_unmap_phys", _unmap),
    IotlbFlush: ("DMA unmap", "iova_domain_flush", lambda r: f"The IOTLB is flushed, {count(r.syncs, 'time')}: every stale device address is dead."),
    BlockRqIssue: ("block", "blk_mq_start_request", lambda r: f"Request {r.rq} goes to the driver: {_sectors(r.nr_sector)} from sector {r.sector:,}."),
    NvmeSetupCmd: ("driver", "nvme_setup_cmd", _setup),
    LoRwAio: ("driver", "lo_rw_aio", lambda r: f"The loop driver hands {human_bytes(r.len)} of request {r.rq} to its file at byte {r.pos:,}."),
    DeviceStart: ("device", "", lambda r: f"The device begins request {r.rq} on its channel {r.unit}."),
    DeviceDma: ("device", "", _dma),
    NvmeCompleteRq: ("driver", "nvme_complete_rq", _cqe),
    BlockRqComplete: ("block", "blk_mq_end_request", _complete),
}  # fmt: skip
"""For each record type: the layer, the kernel's function, and the sentence."""
