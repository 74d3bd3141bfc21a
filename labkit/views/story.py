"""Records become sentences: one each, in plain English, with the kernel's function and whose idea it is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    DeviceDma,
    DeviceStart,
    FolioEndIo,
    GupPin,
    GupUnpin,
    Mmap,
    MmPageAlloc,
    MmPageFree,
    Munmap,
    Ranges,
    Record,
    SysEnter,
    SysExit,
    ZapPtes,
)
from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, SECTOR_SHIFT, human_bytes
from labkit.views.policies import HOW, proposed
from labkit.views.story_dev import OURS_DEV, TELL_DEV
from labkit.views.story_io import TELL_IO
from labkit.views.story_mm import OURS, TELL_MM
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
    phyrs = proposed(trace)
    return [_line(trace, rec, new=getattr(rec, "token", None) in phyrs) for rec in trace.records]


def _line(trace: Trace, rec: Record, *, new: bool) -> Line:
    layer, function, tell = _TELL[type(rec)]
    does = function(rec) if callable(function) else function
    if isinstance(rec, GupPin | GupUnpin):
        verb = "get" if isinstance(rec, GupPin) else "put"
        today = "pin_user_pages_fast" if isinstance(rec, GupPin) else "unpin_user_pages"
        does = f"{verb}_user_phyrs" if new else today
    why = _inferred(trace, rec)
    text = f"{_FOUND.get(type(rec), tell)(rec)} Known {why}." if why else tell(rec)
    return Line(rec.t, layer, text, does, _origin(trace, rec, new=new))


def _inferred(trace: Trace, rec: Record) -> str:
    """Return where a record is known from that no event stands behind, in the trace of a real kernel; else nothing."""
    told = trace.meta.get("inferred")
    return str(told.get(type(rec).__name__, "")) if isinstance(told, dict) else ""


def _origin(trace: Trace, rec: Record, *, new: bool) -> str:
    """Return 'upstream 6.18', 'proposed ...' or 'ours', as the trace says, else as the record's nature says."""
    said = trace.meta.get("origin")
    told = said if isinstance(said, dict) else {}
    upstream = str(told.get("records") or f"upstream {trace.meta.get('kernel', '')}".strip())
    if _inferred(trace, rec) or isinstance(rec, (*OURS, *OURS_DEV)):
        return str(told.get("inferred", "inferred")) if _inferred(trace, rec) else "ours"
    if isinstance(rec, FolioEndIo) and rec.origin == "proposed":
        return rec.origin
    if isinstance(rec, DeviceStart | DeviceDma):
        return str(told.get("device", "ours"))
    if isinstance(rec, GupUnpin) and "pins" in told:
        return str(told["pins"])
    if isinstance(rec, GupPin | GupUnpin):
        return str(told.get("memory", "proposed" if new else upstream))
    return upstream


def _size(ranges: Ranges) -> str:
    return human_bytes(sum(nbytes for _, nbytes in ranges))


def _sectors(nr_sector: int) -> str:
    return human_bytes(nr_sector << SECTOR_SHIFT)


def _alloc(rec: MmPageAlloc, brought: str = "from the buddy allocator and") -> str:
    each = human_bytes(PAGE_SIZE << rec.order)
    folios = sum(nbytes for _, nbytes in rec.ranges) // (PAGE_SIZE << rec.order)
    what = capital(count(folios, f"folio of {each}", f"folios of {each}"))
    verbs = ("comes", "is") if folios == 1 else ("come", "are")
    came = f"{verbs[0]} {brought} " if brought else ""
    where = f"{address(rec.addr)}: {count(len(rec.ranges), 'physical range')}"
    return f"{what} {came}{verbs[1]} mapped at {where}."


def _enter(rec: SysEnter) -> str:
    way = "out of" if "write" in rec.name else "into"
    what = f"{human_bytes(rec.nbytes)} {way} its memory at {address(rec.buf)}"
    where = f"file {rec.fd}" if rec.fd >= 0 else "its file"
    return f"The task calls {rec.name}: {what}, from byte {rec.pos:,} of {where}."


def _exit(rec: SysExit) -> str:
    if rec.ret < 0:
        return f"{rec.name} ends with {errno_name(rec.ret)}: {errno_sentence(rec.ret)}."
    return f"{rec.name} returns {rec.ret:,} bytes."


def _pin(rec: GupPin) -> str:
    walked = capital(count(rec.ptes, "page table entry", "page table entries"))
    ranges, atomics = count(len(rec.ranges), "physical range"), count(rec.atomics, "atomic operation")
    if rec.policy == "range":
        return f"{walked} walked, {_size(rec.ranges)} pinned as {ranges}, whole, with {atomics}."
    touched = count(rec.struct_pages, "struct page")
    how = HOW.get(rec.policy, f"held by policy {rec.policy}")
    return f"{walked} walked, {_size(rec.ranges)} {how}: {touched} touched, {atomics}, {ranges}."


def _unpin(rec: GupUnpin) -> str:
    cost = f"{count(rec.atomics, 'atomic operation')}, {count(rec.struct_pages, 'struct page')} touched"
    return f"What was pinned together is let go of together: {cost}."


def _bio(rec: BlockBioQueue) -> str:
    what = f"{_sectors(rec.nr_sector)} in {count(rec.vecs, 'vector')}"
    return f"A bio of {what} enters the block layer at sector {rec.sector:,}."


def _getrq(rec: BlockGetrq) -> str:
    what = f"{_sectors(rec.nr_sector)} from sector {rec.sector:,}, {count(rec.segments, 'segment')}"
    return f"Request {rec.rq} gets tag {rec.tag}: {what}."


def _complete(rec: BlockRqComplete) -> str:
    how = f"fails with {errno_name(rec.error)}" if rec.error else "is done"
    return f"Request {rec.rq} {how}, and tag {rec.tag} is free."


def _issue(rec: BlockRqIssue) -> str:
    return f"Request {rec.rq} goes to the driver: {_sectors(rec.nr_sector)} from sector {rec.sector:,}."


def _mmap(rec: Mmap) -> str:
    return f"The task maps {human_bytes(rec.len)} ({rec.name}, {rec.prot}) at {address(rec.addr)}."


def _ksys(rec: SysEnter | SysExit) -> str:
    return f"ksys_{rec.name}"


_TELL: dict[type, tuple[str, str | Callable[[Any], str], Callable[[Any], str]]] = {
    Mmap: ("task", "do_mmap", _mmap),
    Munmap: ("task", "do_munmap", lambda rec: f"The task unmaps {human_bytes(rec.len)} at {address(rec.addr)}."),
    MmPageAlloc: ("task", "handle_mm_fault", _alloc),
    MmPageFree: ("task", "free_frozen_pages", lambda rec: f"{_size(rec.ranges)} go back to the buddy allocator."),
    SysEnter: ("system call", _ksys, _enter),
    SysExit: ("system call", _ksys, _exit),
    GupPin: ("pin", "", _pin),
    GupUnpin: ("unpin", "", _unpin),
    BlkdevDirectIO: (
        "file",
        "blkdev_direct_IO",
        lambda rec: f"The block device file takes {human_bytes(rec.nbytes)} by its {rec.path} path.",
    ),
    BlockBioQueue: ("block", "submit_bio_noacct", _bio),
    BlockGetrq: ("block", "blk_mq_submit_bio", _getrq),
    BlockRqIssue: ("block", "blk_mq_start_request", _issue),
    BlockRqComplete: ("block", "blk_mq_end_request", _complete),
    **TELL_MM,
    **TELL_DEV,
    **TELL_IO,
}
"""For each record type: the layer, the kernel's function, and the sentence."""
_FOUND: dict[type, Callable[[Any], str]] = {
    Mmap: lambda rec: f"The task has mapped {human_bytes(rec.len)} ({rec.name}, {rec.prot}) at {address(rec.addr)}.",
    MmPageAlloc: lambda rec: _alloc(rec, ""),
    ZapPtes: lambda rec: f"What maps {human_bytes(rec.len)} at {address(rec.addr)} is not told.",
}
"""The sentence, where it was found so, and nobody saw it come."""
