"""A run in numbers: what `labkit run --json` prints of a trace."""

from collections.abc import Iterable
from typing import Any

from labkit.errors import errno_name
from labkit.scatter.payload import run_length
from labkit.trace.events import BlockBioQueue, BlockGetrq, BlockRqIssue, DmaMap, GupPin, Record, SysEnter, SysExit
from labkit.trace.meters import meters, pins
from labkit.trace.trace import Trace

Rows = list[list[int]]


def summary(trace: Trace) -> dict[str, Any]:
    """Return the result and the lists of the first IO, and the pins, meters and time of the whole run.

    `phyrs` are the physical ranges of the buffer, joined where they touch, whichever currency carried them;
    `bios[].segments` and `requests` are as the block layer counted and issued them.
    """
    first = [rec for rec in trace.records if rec.io == 1]
    exits = trace.of(SysExit)
    held = pins(trace.records)
    return {
        "result": _result(exits),
        "phyrs": _rows(run_length([part for rec in first if isinstance(rec, GupPin) for part in rec.ranges])),
        "bios": _bios(first),
        "requests": [[rec.sector, rec.nr_sector] for rec in first if isinstance(rec, BlockRqIssue)],
        "dma": _rows(part for rec in first if isinstance(rec, DmaMap) for part in rec.dma),
        "pins": {"taken": held.taken, "released": held.released, "held": held.held},
        "meters": meters(trace.records).as_dict(),
        "sim_ns": exits[-1].t - trace.of(SysEnter)[0].t if exits else 0,
    }


def _result(exits: tuple[SysExit, ...]) -> int | str | None:
    """Return the bytes of the last call, or '-EFAULT' of the first that failed."""
    for rec in exits:
        if rec.ret < 0:
            return errno_name(-rec.ret)
    return exits[-1].ret if exits else None


def _bios(records: list[Record]) -> list[dict[str, int]]:
    segments: dict[int, int] = {}
    for rec in records:
        if isinstance(rec, BlockGetrq):
            segments[rec.bio] = segments.get(rec.bio, 0) + rec.segments
    return [
        {"sector": rec.sector, "bytes": rec.nr_sector << 9, "segments": segments.get(rec.bio, 0)}
        for rec in records
        if isinstance(rec, BlockBioQueue)
    ]


def _rows(ranges: Iterable[tuple[int, int]]) -> Rows:
    return [[addr, nbytes] for addr, nbytes in ranges]
