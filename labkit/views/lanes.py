"""A trace becomes lanes: a row for each layer, a bar for each stage; the device's lane has a row for each tag.

A record tells that a stage begins; its bar lasts until the next record in the same thread of control. The ends of bars
are indexes of records; a scale gives each index its place on the page, so the eye may choose between true time and one
step for each record.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from labkit.trace.events import (
    BlockRqIssue,
    GupPin,
    GupUnpin,
    Hazard,
    IomapIterDstmap,
    Record,
    SysExit,
    Violation,
)
from labkit.trace.trace import Trace
from labkit.units import human_bytes
from labkit.views.fold import HUES, request_hues
from labkit.views.journey import NEVER, NONE, Command, Journey, journey
from labkit.views.policies import proposed
from labkit.views.scales import Tick, scales, ticks
from labkit.views.shapes import Columns, columns
from labkit.views.stages import BROKEN, IN_CALL, IN_IRQ, LANES, MORE, STAGE, driver

WIDTH = 1568
LEFT, RIGHT = 150, 1530
TOP, ROW, DEVICE_ROW = 24, 22, 64
MOST_SPANS = 600
PIN_HUE, WAIT_HUE, GREY = HUES, HUES + 1, NONE
"""Hues of bars that belong to no phyr: letting go of pins, waiting, and everything else."""

_DEVICE = LANES.index("device")
_MOST_LINES = 16
"""Tags that have a line of their own in the device's lane."""

Edges = tuple[float, float]
"""top and bottom."""


class Span(NamedTuple):
    """A bar: on which lane and where, from which record until which, and whose it is."""

    lane: int
    top: float
    bottom: float
    begin: int
    end: int
    label: str
    hue: int = GREY
    io: int = 0
    request: int = NONE


@dataclass(frozen=True, slots=True)
class Lanes:
    """The picture as columns. `scales`: for each scale the x of every record; `ticks`: its marks."""

    names: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, float], ...]
    spans: Columns
    scales: dict[str, list[float]]
    ticks: dict[str, list[Tick]]
    height: float
    folded: tuple[int, int]
    """(bars drawn, stages that they stand for)."""


def lanes(trace: Trace, trip: Journey | None = None) -> Lanes:
    """Return the lanes of `trace`, of at most MOST_SPANS bars; `trip` is its journey, if that is known."""
    trip = trip or journey(trace)
    names = tuple(_names(trace))
    rows = tuple(_rows(trip, names))
    found = sorted([*_stages(trace, trip, _edges(trace, rows)), *_device(trip, rows), *_calls(trip, rows)])
    spans = _join(found)
    places = scales([rec.t for rec in trace.records], LEFT, RIGHT)
    return Lanes(
        tuple(((top + bottom) / 2, name) for (top, bottom), name in zip(rows, names, strict=True)),
        rows,
        columns(spans, Span),
        places,
        ticks([rec.t for rec in trace.records], places),
        rows[-1][1] + 4,
        (len(spans), len(found)),
    )


def _names(trace: Trace) -> Iterator[str]:
    pins = trace.of(GupPin)
    verb = "get_user_phyrs" if proposed(trace) else "pin_user_pages"
    file = "filesystem" if trace.of(IomapIterDstmap) else "block file"
    says = {"pin": verb if pins else "pin", "driver": driver(trace), "block file": file}
    yield from (says.get(name, name) for name in LANES)
    yield from (MORE[lane][0] for lane in _more(trace))


def _more(trace: Trace) -> Iterator[int]:
    """Yield those of the lanes below the others that `trace` has something for."""
    kinds = {type(rec) for rec in trace.records}
    yield from (lane for lane, (_, types) in MORE.items() if not kinds.isdisjoint(types))


def _edges(trace: Trace, rows: Sequence[Edges]) -> dict[int, Edges]:
    """Return the edges of each lane by its number in STAGE."""
    return dict(zip([*range(len(LANES)), *_more(trace)], rows, strict=True))


def _rows(trip: Journey, names: Sequence[str]) -> Iterator[Edges]:
    y = float(TOP)
    for name in names:
        tall = DEVICE_ROW if name == "device" and len(_tags(trip)) > 2 else ROW  # noqa: PLR2004 - two bars fit one row
        yield y, y + tall
        y += tall


def _tags(trip: Journey) -> list[int]:
    return sorted({com.tag for com in trip.commands})


def _stages(trace: Trace, trip: Journey, rows: dict[int, Edges]) -> Iterator[Span]:
    """Yield a bar for each record that begins a stage on a CPU."""
    whose = {com.rq: (i, hue) for i, com, hue in _requests(trip)}
    ends = _ends(trace.records)
    for at, rec in enumerate(trace.records):
        if type(rec) in STAGE:
            lane, label = STAGE[type(rec)]
            request, hue = whose.get(getattr(rec, "rq", NONE), (NONE, GREY))
            hue = PIN_HUE if isinstance(rec, (GupUnpin, Hazard, Violation, *BROKEN)) else hue
            top, bottom = rows[lane]
            yield Span(lane, top + 3, bottom - 3, at, ends.get(at, at), label, hue, rec.io, request)


def _ends(records: Sequence[Record]) -> dict[int, int]:
    """Return for each record the next one in its thread: a task in its call, or the end of a request."""
    ends: dict[int, int] = {}
    last: dict[tuple[str, int], int] = {}
    for at, rec in enumerate(records):
        if isinstance(rec, IN_CALL):
            key = "call", rec.io
        elif isinstance(rec, IN_IRQ):
            key = "irq", rec.rq
        elif isinstance(rec, SysExit) and at and isinstance(records[at - 1], GupUnpin):
            ends[at - 1] = at
            continue
        else:
            continue
        if key in last:
            ends[last[key]] = at
        last[key] = at
    return {at: end for at, end in ends.items() if not isinstance(records[at], BlockRqIssue)}


def _requests(trip: Journey) -> Iterator[tuple[int, Command, int]]:
    """Yield (index, request, hue), once for each request, however many bios were merged into it."""
    seen = set[int]()
    for i, (com, hue) in enumerate(zip(trip.commands, request_hues(trip), strict=True)):
        if com.rq not in seen:
            seen.add(com.rq)
            yield i, com, hue


def _device(trip: Journey, rows: Sequence[Edges]) -> Iterator[Span]:
    """Yield two bars for each request, in the row of its tag: waiting in the device, and being served."""
    tags = {tag: i for i, tag in enumerate(_tags(trip))}
    top, bottom = rows[_DEVICE][0] + 3, rows[_DEVICE][1] - 3
    lines = min(max(len(tags), 1), _MOST_LINES)
    for i, com, hue in _requests(trip):
        line = tags[com.tag] * lines // len(tags)
        y, high = top + (bottom - top) * line / lines, (bottom - top) / lines
        edges = y + 0.5, y + high - 0.5
        end = min(com.move, com.complete)
        if com.issue < com.serve:
            yield Span(_DEVICE, *edges, com.issue, com.serve, "", WAIT_HUE, com.io, i)
        if com.serve < end < NEVER:
            yield Span(_DEVICE, *edges, com.serve, end, f"request {com.rq}", hue, com.io, i)


def _calls(trip: Journey, rows: Sequence[Edges]) -> Iterator[Span]:
    """Yield a bar for each call that ended; those that were under way together share the row, and have no words."""
    ios = [io for io in trip.ios if io.exit != NEVER]
    lines: list[int] = []
    mine = [_line(lines, io.enter, io.exit) for io in ios]
    top, bottom = rows[0][0] + 3, rows[0][1] - 3
    tall = (bottom - top) / max(len(lines), 1)
    for io, line in zip(ios, mine, strict=True):
        label = f"{io.name} {human_bytes(io.nbytes)}" if len(lines) == 1 else ""
        y = top + tall * line
        yield Span(0, y, y + tall, io.enter, io.exit, label, GREY, io.io)


def _line(lines: list[int], begin: int, end: int) -> int:
    """Return the first of `lines` that is free from `begin` on, a new one if none is; it is taken until `end`."""
    line = next((i for i, until in enumerate(lines) if until <= begin), len(lines))
    lines[line : line + 1] = [end]
    return line


def _join(spans: Sequence[Span]) -> list[Span]:
    """Return at most MOST_SPANS bars: of more, neighbours are joined where a line has more than its share."""
    if len(spans) <= MOST_SPANS:
        return list(spans)
    lines: dict[tuple[int, float], list[Span]] = {}
    for span in spans:
        lines.setdefault((span.lane, span.top), []).append(span)
    share = MOST_SPANS // max(len(lines), 1)
    sizes = {key: -(-len(line) // share) for key, line in lines.items()}
    return [
        _joined(line[at : at + sizes[key]]) for key, line in lines.items() for at in range(0, len(line), sizes[key])
    ]


def _joined(spans: Sequence[Span]) -> Span:
    first = min(spans, key=lambda span: span.begin)
    label = first.label if len(spans) == 1 else f"{len(spans)} × {first.label}"
    return first._replace(end=max(span.end for span in spans), label=label)
