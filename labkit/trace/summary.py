"""A run in numbers: what `labkit run --json` prints of a trace."""

from collections.abc import Sequence
from typing import Any

from labkit.errors import errno_name
from labkit.scatter.payload import join, run_length
from labkit.trace.events import (
    BlockBioQueue,
    BlockGetrq,
    BlockRqIssue,
    DmaMap,
    GupPin,
    GupUnpin,
    IoUringComplete,
    IoUringSubmitReq,
    Record,
    SysEnter,
    SysExit,
)
from labkit.trace.meters import meters, pins
from labkit.trace.trace import Trace

MOST_ROWS = 4096
"""The longest list that is told in full: of 1 GiB in separate frames nobody reads a quarter of a million rows."""


def summary(trace: Trace) -> dict[str, Any]:
    """Return the result and the lists of the first IO, and the pins, meters and time of the whole run.

    `phyrs` are the physical ranges of the buffer, joined where they touch, whichever currency carried them;
    `bios[].segments` and `requests` are as the block layer counted and issued them. Of a list of more than MOST_ROWS
    rows the first MOST_ROWS are told, and how many there are stands beside it: `phyrs_total`, `dma_total` and so on.
    """
    first = [rec for rec in trace.records if rec.io == 1]
    exits = _ends(trace)
    held = pins(trace.records)
    return {
        "result": _result(exits),
        **_told("phyrs", run_length(join(rec.ranges for rec in first if isinstance(rec, GupPin)))),
        **_told("bios", _bios(first)),
        **_told("requests", [(rec.sector, rec.nr_sector) for rec in first if isinstance(rec, BlockRqIssue)]),
        **_told("dma", join(rec.dma for rec in first if isinstance(rec, DmaMap))),
        "pins": {"taken": held.taken, "released": held.released, "held": held.held, **_pinning(trace)},
        "meters": meters(trace.records).as_dict(),
        "sim_ns": exits[-1][0] - _start(trace) if exits else 0,
    }


def _pinning(trace: Trace) -> dict[str, Any]:
    """Return what the pins of the run were: who counts, locked operations, cache lines, bytes, ns to let go."""
    pins, unpins = trace.of(GupPin), trace.of(GupUnpin)
    return {
        "policy": pins[0].policy if pins else None,
        "atomics": sum(rec.atomics for rec in pins) + sum(rec.atomics for rec in unpins),
        "cache_lines": sum(rec.cache_lines for rec in pins),
        "bytes": sum(rec.descriptor_bytes for rec in pins),
        "release_ns": sum(rec.ns for rec in unpins),
    }


_MOVES_NOTHING = {"fsync", "ftruncate", "fallocate"}
"""Calls that are no reads and no writes."""


def _ends(trace: Trace) -> list[tuple[int, int]]:
    """Return (time, result) of every read and write that came to an end, by whatever way it was asked for."""
    calls = [(rec.t, rec.ret) for rec in trace.of(SysExit) if rec.name not in _MOVES_NOTHING]
    return sorted(calls + [(rec.t, rec.res) for rec in trace.of(IoUringComplete)], key=lambda end: end[0])


def _start(trace: Trace) -> int:
    """Return when the first of them began."""
    calls, entries = trace.of(SysEnter)[:1], trace.of(IoUringSubmitReq)[:1]
    return min([rec.t for rec in calls] + [rec.t for rec in entries])


def _result(ends: list[tuple[int, int]]) -> int | str | None:
    """Return the bytes of the last call, or '-EFAULT' of the first that failed."""
    for _, ret in ends:
        if ret < 0:
            return errno_name(-ret)
    return ends[-1][1] if ends else None


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


def _told(name: str, rows: Sequence[Any]) -> dict[str, Any]:
    """Return `rows` under `name`, a pair as a list; and their number, where not all of them are told."""
    told: dict[str, Any] = {name: [list(row) if isinstance(row, tuple) else row for row in rows[:MOST_ROWS]]}
    return told if len(rows) <= MOST_ROWS else {**told, f"{name}_total": len(rows)}
