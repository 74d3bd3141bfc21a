"""A trace becomes lanes: a row for each layer, a bar for each stage; the device's lane has a row for each tag.

A record tells that something is done; the bar begins at the record that went before in the same thread of control.
The ends of bars are indexes of records; a scale gives each index its place, so the eye may choose between true time
and one step for each record.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    BlockSplit,
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
    Record,
    SysExit,
)
from labkit.trace.trace import Trace
from labkit.units import human_bytes, human_ns
from labkit.views.fold import HUES, hues
from labkit.views.journey import NEVER, NONE, Journey, journey
from labkit.views.shapes import Columns, columns

WIDTH = 1568
LEFT, RIGHT = 150, 1544
TOP, ROW, DEVICE_ROW = 24, 22, 64
MOST_SPANS = 600
PIN_HUE, GREY = HUES, NONE
"""Hues of bars that belong to no phyr: letting go of pins, and everything else."""

_LANES = ("system call", "pin", "block file", "block layer", "DMA map", "driver", "device", "complete, unpin")
_DEVICE = _LANES.index("device")

_STAGE: dict[type, tuple[int, str]] = {
    Mmap: (0, "mmap"), Munmap: (0, "munmap"), MmPageAlloc: (0, "fault"), MmPageFree: (0, "free"),
    GupPin: (1, "pin"), BlkdevDirectIO: (2, "direct IO"), BlockBioQueue: (3, "bio"), BlockSplit: (3, "split"),
    BlockGetrq: (3, "request"), DmaMap: (4, "map"), NvmeSetupCmd: (5, "command"), LoRwAio: (5, "to file"),
    BlockRqIssue: (5, "issue"), NvmeCompleteRq: (7, "irq"), DmaUnmap: (7, "unmap"), IotlbFlush: (7, "flush"),
    BlockRqComplete: (7, "done"), GupUnpin: (7, "unpin"),
}  # fmt: skip
"""For each record type its lane and what the bar is called."""


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


class Tick(NamedTuple):
    """A mark on the axis."""

    x: float
    text: str


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


def lanes(trace: Trace) -> Lanes:
    """Return the lanes of `trace`, of at most MOST_SPANS bars."""
    trip = journey(trace)
    rows = tuple(_rows(trip))
    found = sorted([*_stages(trace, trip, rows), *_device(trip, rows), *_calls(trip, rows)])
    spans = _join(found)
    times = [rec.t for rec in trace.records]
    scales = {"events": _even(times), "time": _linear(times)}
    return Lanes(
        tuple(((top + bottom) / 2, name) for (top, bottom), name in zip(rows, _names(trace), strict=True)),
        rows,
        columns(spans, Span),
        scales,
        {"events": _event_ticks(times, scales["events"]), "time": _time_ticks(times)},
        rows[-1][1] + 4,
        (len(spans), len(found)),
    )


def _names(trace: Trace) -> Iterator[str]:
    pins = trace.of(GupPin)
    verb = "get_user_phyrs" if pins and pins[0].policy == "range" else "pin_user_pages"
    driver = "loop driver" if trace.of(LoRwAio) else "NVMe driver" if trace.of(NvmeSetupCmd) else "driver"
    yield from ({"pin": verb if pins else "pin", "driver": driver}.get(name, name) for name in _LANES)


def _rows(trip: Journey) -> Iterator[tuple[float, float]]:
    y = float(TOP)
    for name in _LANES:
        tall = DEVICE_ROW if name == "device" and len(_tags(trip)) > 2 else ROW  # noqa: PLR2004 - two bars fit one row
        yield y, y + tall
        y += tall


def _tags(trip: Journey) -> list[int]:
    return sorted({com.tag for com in trip.commands})


def _stages(trace: Trace, trip: Journey, rows: Sequence[tuple[float, float]]) -> Iterator[Span]:
    """Yield a bar for each record that ends a stage on the CPU."""
    last: dict[tuple[str, int], int] = {}
    whose = {com.rq: (i, _hue(trip, i)) for i, com in enumerate(trip.commands)}
    for at, rec in enumerate(trace.records):
        thread, before = _thread(rec), 0
        before = last.get(thread, last.get(("io", rec.io), at))
        last[thread] = at
        if isinstance(rec, BlockRqComplete | IotlbFlush):
            last["io", rec.io] = at
        if type(rec) not in _STAGE:
            continue
        lane, label = _STAGE[type(rec)]
        request, hue = whose.get(getattr(rec, "rq", NONE), (NONE, GREY))
        hue = PIN_HUE if isinstance(rec, GupUnpin) else hue
        yield Span(lane, rows[lane][0] + 3, rows[lane][1] - 3, before, at, label, hue, rec.io, request)


def _thread(rec: Record) -> tuple[str, int]:
    """Return who does the work: the task of an IO, or the end of a request, which comes in its own time."""
    ends = isinstance(rec, BlockRqComplete | NvmeCompleteRq | DmaUnmap) or type(rec).__name__.startswith("Device")
    rq: int = getattr(rec, "rq", 0)
    return ("rq", rq) if ends or isinstance(rec, BlockRqIssue) else ("io", rec.io)


def _hue(trip: Journey, command: int) -> int:
    """Return the colour of a request: that of its first phyr."""
    colours = hues(trip)
    return next((colours[p.phyr] for p in trip.pieces if p.command == command and p.phyr != NONE), GREY)
