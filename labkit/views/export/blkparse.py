"""A trace becomes text as blkparse prints it: a line for each event of the block layer, in its default format.

What the records do not tell is what blkparse has for what it does not know: device 0,0, CPU 0, PID 0. In the place of
the process stands the IO, `[io 3]`, or `[kernel]` where there is none.
"""

from collections.abc import Iterator

from labkit.trace.events import (
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
    Record,
)
from labkit.trace.trace import Trace

ACTION: dict[type[Record], str] = {
    BlockBioQueue: "Q", BlockBioRemap: "A", BlockSplit: "X", BlockGetrq: "G", BlockPlug: "P", BlockUnplug: "U",
    BlockRqInsert: "I", BlockBioBackmerge: "M", BlockBioFrontmerge: "F", BlockRqMerge: "M", BlockRqIssue: "D",
    BlockRqRequeue: "R", BlockRqComplete: "C", BlockBioComplete: "C",
}  # fmt: skip
"""The letter of each record, as blktrace has them for the tracepoint of that name."""
_SECOND = 1_000_000_000
_NOTHING = "N"
"""What blkparse says of an event that moves nothing, or does not say what; else R, W, F, S and so on, of the bio."""


def blkparse(trace: Trace) -> str:
    """Return the events of the block layer in `trace` as text."""
    return "".join(f"{line}\n" for line in _lines(trace))


def _lines(trace: Trace) -> Iterator[str]:
    bios = {rec.bio: rec.rwbs or _NOTHING for rec in trace.records if isinstance(rec, BlockBioQueue)}
    requests: dict[int, str] = {}
    seq = 0
    for rec in trace.records:
        if isinstance(rec, BlockGetrq):
            requests[rec.rq] = bios.get(rec.bio, _NOTHING)
        if action := ACTION.get(type(rec)):
            seq += 1
            seconds, ns = divmod(rec.t, _SECOND)
            moved = requests.get(getattr(rec, "rq", 0)) or bios.get(getattr(rec, "bio", 0), _NOTHING)
            head = f"{0:3d},{0:<3d} {0:2d} {seq:8d} {seconds:5d}.{ns:09d} {0:5d} {action:>2} {moved:>3} "
            yield head + _rest(rec)


def _rest(rec: Record) -> str:
    """Return what stands behind the action of a line."""
    who = f"[io {rec.io}]" if rec.io else "[kernel]"
    match rec:
        case BlockPlug():
            return who
        case BlockUnplug():
            return f"{who} {rec.nr_rq}"
        case BlockSplit():
            return f"{rec.sector} / {rec.new_sector} {who}"
        case BlockBioRemap():
            return f"{rec.new_sector} + {rec.nr_sector} <- (0,0) {rec.sector}"
        case BlockRqComplete() | BlockBioComplete():
            return f"{rec.sector} + {rec.nr_sector} [{rec.error}]"
    sector, many = getattr(rec, "sector", 0), getattr(rec, "nr_sector", 0)
    return f"{sector} + {many} {who}" if many else who
