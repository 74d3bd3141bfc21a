"""A trace becomes a timeline for Perfetto and chrome://tracing: JSON of the trace event format.

Calls, bios and requests have a process each, and a thread for each line: a request is on the line of its tag. No two
slices of a line overlap, unless one is within the other. Times are microseconds with three decimals, which is every ns.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import pairwise
from typing import Any, NamedTuple

from labkit.scatter.range_array import RangeArray
from labkit.trace.events import GupPin, GupUnpin, Record
from labkit.trace.trace import Trace
from labkit.views.export.spans import Flow, Span, Spans, spans

_CALLS, _BIOS, _TAGS, _RECORDS, _COUNTERS = range(1, 6)
_NAMES = {_CALLS: "calls", _BIOS: "bios", _TAGS: "requests by tag", _RECORDS: "every record", _COUNTERS: "counters"}
_ADDRESSES = {"addr", "buf", "phys", "slot", "prp1", "prp2", "start", "dma"}
"""Fields whose numbers are addresses, and told in hex."""
Event = dict[str, Any]


class Track(NamedTuple):
    """A line: its process (one of _NAMES), its number there."""

    pid: int
    tid: int


class _Point(NamedTuple):
    """Something in an instant of a track: before what begins at `t` there (rank 0), that itself (1), or after (2)."""

    t: int
    rank: int
    shorter: int
    event: Event
    end: int | None = None
    """When the slice ends that begins here."""


def perfetto(trace: Trace) -> str:
    """Return `trace` as JSON of the trace event format; two runs of one seed give the same text."""
    found = spans(trace)
    names, lines = _placed(found)
    points: dict[Track, list[_Point]] = defaultdict(list)
    for track, span in lines:
        points[track] += _slices(span)
    _add_flows(points, found, {id(span): track for track, span in lines})
    points[Track(_RECORDS, 1)] += [_instant(rec) for rec in trace.records]
    names[Track(_RECORDS, 1)] = "records"
    points[Track(_COUNTERS, 1)] += _counters(trace, found)
    tracks = [list(_written(track, sorted(at, key=lambda p: p[:3]))) for track, at in points.items()]
    events = [*_metadata(names), *merge(*tracks, key=lambda event: event["ts"])]
    about = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": _about(trace)}
    return json.dumps(about, separators=(",", ":"), default=str)


def _about(trace: Trace) -> dict[str, str]:
    """Return what the trace says of its machine; whose clock it is stands first."""
    clock = trace.meta.get("device", {}).get("clock", "unknown")
    return {"tool": "labkit", "clock": str(clock), "scenario": json.dumps(trace.meta.get("scenario", {}))}


def _placed(found: Spans) -> tuple[dict[Track, str], list[tuple[Track, Span]]]:
    """Return the name of each track, and each span with its track."""
    names: dict[Track, str] = {}
    out: list[tuple[Track, Span]] = []
    for pid, each in ((_CALLS, found.calls), (_BIOS, found.bios), (_TAGS, found.requests)):
        ends: dict[tuple[int, int], int] = {}
        tids: dict[tuple[int, int], Track] = {}
        for span in sorted(each, key=lambda span: (span.begin, span.until)):
            row = 0
            while ends.get((span.line, row), span.begin) > span.begin:
                row += 1
            key = span.line, row
            ends[key] = span.until
            track = tids.setdefault(key, Track(pid, len(tids) + 1))
            names[track] = _name(pid, *key)
            out.append((track, span))
    return names, out


def _name(pid: int, line: int, row: int) -> str:
    """Return the name of a line: a tag is met twice at a time where there are several queues."""
    if pid != _TAGS:
        return f"{_NAMES[pid]} {row + 1}"
    return f"tag {line}" + (f", queue {row + 1}" if row else "")


def _slices(span: Span) -> Iterator[_Point]:
    """Yield the slice of `span`, and within it one for each of its steps."""
    yield _begin(span.begin, span.until, span.name, span.args)
    steps = [*span.steps, (span.until, "")]
    for (t, name), (end, _) in pairwise(steps):
        if t < min(end, span.until):
            yield _begin(t, min(end, span.until), name, {})


def _begin(t: int, end: int, name: str, args: Event) -> _Point:
    return _Point(t, 1, t - end, {"ph": "B", "name": name, "args": args}, end)


def _add_flows(points: dict[Track, list[_Point]], found: Spans, tracks: dict[int, Track]) -> None:
    """Add an arrow from each bio to its request, and on to the call that waits for it, or back to the bio."""
    calls = {span.io: span for span in found.calls}
    for number, flow in enumerate(found.flows, 1):
        done = flow.request.until
        call = calls.get(flow.bio.io)
        last = call if call is not None and call.begin <= done <= call.until else flow.bio
        for span, t, ph in ((flow.bio, flow.t, "s"), (flow.request, flow.t, "t"), (last, done, "f")):
            at = min(max(t, span.begin), span.until)
            rank = 2 if at == span.begin else 0
            points[tracks[id(span)]].append(_Point(at, rank, 0, _arrow(ph, number, flow)))


def _arrow(ph: str, number: int, flow: Flow) -> Event:
    bound = {"bp": "e"} if ph == "f" else {}
    return {"ph": ph, "id": number, "name": flow.request.name, "cat": "io", **bound}


def _instant(rec: Record) -> _Point:
    args = {name: _told(name, value) for name, value in rec._asdict().items() if name != "t"}
    return _Point(rec.t, 2, 0, {"ph": "i", "s": "t", "name": type(rec).__name__, "args": args})


def _told(name: str, value: object) -> object:
    """Return a field as it is read: ranges as how many they are, addresses in hex."""
    if isinstance(value, RangeArray | tuple):
        return f"{len(value)} ranges, {sum(nbytes for _, nbytes in value)} bytes"
    return f"{value:#x}" if name in _ADDRESSES and isinstance(value, int) and value >= 0 else value


def _counters(trace: Trace, found: Spans) -> Iterator[_Point]:
    """Yield how many tags are in flight, and how many frames are pinned, whenever that changes."""
    edges = [(span.begin, 1) for span in found.requests] + [(span.until, -1) for span in found.requests]
    yield from _sums("tags in flight", edges)
    frames: dict[int, int] = {}
    pinned: list[tuple[int, int]] = []
    for rec in trace.records:
        if isinstance(rec, GupPin):
            frames[rec.token] = sum((a + n + 4095 >> 12) - (a >> 12) for a, n in rec.ranges) if rec.atomics else 0
            pinned.append((rec.t, frames[rec.token]))
        elif isinstance(rec, GupUnpin):
            pinned.append((rec.t, -frames.pop(rec.token, 0)))
    yield from _sums("frames pinned", pinned)


def _sums(name: str, steps: Iterable[tuple[int, int]]) -> Iterator[_Point]:
    """Yield the running sum of `steps` (ns, change), once for each ns."""
    at: dict[int, int] = defaultdict(int)
    for t, step in steps:
        at[t] += step
    total = 0
    for t in sorted(at):
        total += at[t]
        yield _Point(t, 2, 0, {"ph": "C", "name": name, "args": {"value": total}})


def _written(track: Track, points: Iterable[_Point]) -> Iterator[Event]:
    """Yield the events of one track: every slice that begins ends too, the inner ones before the outer ones."""
    where = {"pid": track.pid, "tid": track.tid}
    open_: list[int] = []
    for point in points:
        while open_ and (open_[-1] < point.t or (open_[-1] == point.t and point.end is not None)):
            yield {"ph": "E", "ts": _us(open_.pop()), **where}
        if point.end is not None:
            open_.append(point.end)
        yield {**point.event, "ts": _us(point.t), **where}
    while open_:
        yield {"ph": "E", "ts": _us(open_.pop()), **where}


def _us(t: int) -> float:
    """Return `t` ns in microseconds, with three decimals."""
    return round(t / 1000, 3)


def _metadata(names: dict[Track, str]) -> Iterator[Event]:
    for pid, name in _NAMES.items():
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    for track, name in sorted(names.items()):
        where = {"ph": "M", "pid": track.pid, "tid": track.tid}
        yield {**where, "name": "thread_name", "args": {"name": name}}
        index = int(name.split()[1].rstrip(",")) if track.pid == _TAGS else track.tid
        yield {**where, "name": "thread_sort_index", "args": {"sort_index": index}}
