"""Tracepoints of a capture and records of a trace in the same words, so that one can stand beside the other."""

import errno
from collections.abc import Sequence
from typing import Any, NamedTuple

from labkit.errors import BadInput
from labkit.trace.events import Record
from labkit.witness.capture import Capture
from labkit.witness.check import FOREIGN

_SECTORS = ("sector", "nr_sector")


class Told(NamedTuple):
    """One tracepoint: its fields that count, the record that is the same, and where that has them.

    `ordered`: whether the one who submits comes to it in an order of his own; completions come when they come.
    """

    tracepoint: str
    fields: tuple[str, ...]
    record: str
    own: tuple[str, ...]
    ordered: bool = True


_TOLD = (
    Told("block_bio_queue", _SECTORS, "BlockBioQueue", _SECTORS),
    Told("block_split", ("sector", "new_sector"), "BlockSplit", ("sector", "new_sector")),
    Told("block_getrq", _SECTORS, "BlockGetrq", _SECTORS),
    Told("block_bio_backmerge", _SECTORS, "BlockBioBackmerge", _SECTORS),
    Told("block_bio_frontmerge", _SECTORS, "BlockBioFrontmerge", _SECTORS),
    Told("block_bio_complete", (*_SECTORS, "error"), "BlockBioComplete", (*_SECTORS, "error")),
    Told("block_plug", (), "BlockPlug", ()),
    Told("block_unplug", ("nr_rq",), "BlockUnplug", ("nr_rq",)),
    Told("block_rq_insert", _SECTORS, "BlockRqInsert", _SECTORS),
    Told("block_rq_issue", _SECTORS, "BlockRqIssue", _SECTORS),
    Told("block_rq_requeue", _SECTORS, "BlockRqRequeue", _SECTORS, ordered=False),
    Told("block_rq_complete", _SECTORS, "BlockRqComplete", _SECTORS, ordered=False),
    Told("iomap_dio_rw_begin", ("pos", "count"), "IomapDioRwBegin", ("pos", "nbytes")),
    Told("iomap_iter_dstmap", ("offset", "length", "addr"), "IomapIterDstmap", ("offset", "length", "addr")),
    Told("iomap_dio_complete", ("ret",), "IomapDioComplete", ("ret",)),
    Told("io_uring_submit_req", ("user_data",), "IoUringSubmitReq", ("user_data",)),
    Told("io_uring_queue_async_work", ("user_data",), "IoUringQueueAsyncWork", ("user_data",)),
    Told("io_uring_complete", ("user_data", "res"), "IoUringComplete", ("user_data", "res"), ordered=False),
    Told("nvme_setup_cmd", (), "NvmeSetupCmd", ()),
    Told("nvme_complete_rq", ("status",), "NvmeCompleteRq", ("status",), ordered=False),
    Told("sys_enter", (), "SysEnter", ()),
    Told("sys_exit", ("ret",), "SysExit", ("ret",)),
)
_BY_NAME = {told.tracepoint: told for told in _TOLD}
_BY_RECORD = {told.record: told for told in _TOLD}
BY_RECORD = {told.tracepoint: told.record for told in _TOLD}
"""The record that is the same as a tracepoint."""
_PASSED = frozenset({"Mmap", "Munmap", "MmPageAlloc", "SetPtes", "MmFilemapAddToPageCache", "FolioFlags"})
"""Records of memory alone: what was there before the call, and marks on its folios."""
_FIGURES = ("sector", "nr_sector", "pos", "nbytes", "len", "ranges", "ret")
_NO_ADDR = 1 << 63


class Seen(NamedTuple):
    """One event, of either side: what it was, what makes it the same as another, and where it stands in its list."""

    ns: int
    name: str
    key: tuple[Any, ...]
    text: str
    at: int
    ordered: bool = True


def kernel_events(capture: Capture) -> list[Seen]:
    """Return the events of the captured device and its submitter, in ns since the call. Raises BadInput EINVAL."""
    try:
        dev = _device(capture)
        told = enumerate(capture.events or ())
        mine = [(at, event) for at, event in told if event.get("dev", dev) == dev and event.get("by") != FOREIGN]
        rows = sorted(((int(event.get("t_ns", 0)), at, event) for at, event in mine), key=lambda row: row[:2])
        start = next((t for t, _, event in rows if _begins(_name(event))), rows[0][0] if rows else 0)
        return [_of_kernel(t - start, at, event) for t, at, event in rows]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as bad:
        what = f"has a broken record: {type(bad).__name__} {bad}".splitlines()[0]
        raise BadInput("capture", capture.id, what, errno.EINVAL) from None


def model_events(records: Sequence[Record]) -> list[Seen]:
    """Return the records of the IO, in ns since the call; what happens to memory alone is passed over."""
    names = [type(rec).__name__ for rec in records]
    begin = next((at for at, name in enumerate(names) if name in {"SysEnter", "IoUringSubmitReq"}), len(names))
    start = records[begin].t if begin < len(records) else 0
    return [
        _of_model(rec.t - start, at, name, rec)
        for at, (name, rec) in enumerate(zip(names, records, strict=True))
        if (rec.io or at >= begin) and name not in _PASSED
    ]


def _name(event: dict[str, Any]) -> str:
    """Return the tracepoint without its group; a system call without its own name, that is told apart by."""
    name = str(event["event"]).rpartition(":")[2]
    for prefix in ("sys_enter", "sys_exit"):
        if name.startswith(prefix) and "io_uring" not in name:
            return prefix
    return name


def _begins(name: str) -> bool:
    return name in {"sys_enter", "io_uring_submit_req"}


def _device(capture: Capture) -> Any:
    """Return the device of the captured IO, as its events name it: that of the first bio, the submitter's if any is.

    What is below a device hears of an IO after it.
    """
    bios = [event for event in capture.events or () if "dev" in event and _name(event) == "block_bio_queue"]
    mine = (event for event in bios if event.get("by") == "submitter")
    first = next(mine, bios[0] if bios else {"dev": None})
    return first["dev"]


def _of_kernel(ns: int, at: int, event: dict[str, Any]) -> Seen:
    name = _name(event)
    told = _BY_NAME.get(name)
    if told is None:
        return Seen(ns, name, (name, at), name, at, ordered=False)
    figures = tuple(_number(event[field]) for field in told.fields)
    whole = str(event["event"]).rpartition(":")[2]
    return Seen(ns, name, (name, *figures), _text(whole, told.fields, figures), at, told.ordered)


def _of_model(ns: int, at: int, name: str, rec: Record) -> Seen:
    told = _BY_RECORD.get(name)
    if told is None:
        known = {field: getattr(rec, field) for field in _FIGURES if hasattr(rec, field)}
        sizes = {field: value if isinstance(value, int | str) else len(value) for field, value in known.items()}
        return Seen(ns, name, (name, "here", at), _text(name, tuple(sizes), tuple(sizes.values())), at, ordered=False)
    figures = tuple(_number(getattr(rec, field)) for field in told.own)
    whole = f"{told.tracepoint}_{getattr(rec, 'name', '')}" if told.tracepoint.startswith("sys_") else told.tracepoint
    return Seen(ns, told.tracepoint, (told.tracepoint, *figures), _text(whole, told.fields, figures), at, told.ordered)


def _number(value: Any) -> int:
    """Return a figure; the address of a hole is -1, whatever its bits are."""
    number = int(value)
    return -1 if number >= _NO_ADDR else number


def _text(name: str, fields: Sequence[str], figures: Sequence[Any]) -> str:
    """Return an event in one line: its name and its figures; sectors as 8+16."""
    told = dict(zip(fields, figures, strict=True))
    words = []
    if "nr_sector" in told:
        words.append(f"{told.pop('sector')}+{told.pop('nr_sector')}")
    return " ".join([name, *words, *(f"{field}={value}" for field, value in told.items())])
