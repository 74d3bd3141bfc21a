"""A trace becomes the answer to "who holds this page?": a row for each piece of memory, a bar for each pin on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from labkit.trace.events import Hazard, MmMigratePages, Violation
from labkit.trace.trace import Trace
from labkit.units import human_bytes, human_ns
from labkit.views.blame import HUES, until, who
from labkit.views.holders import Held, Piece, Pieces, holders, pieces
from labkit.views.journey import NEVER
from labkit.views.policies import RULES
from labkit.views.scales import Tick, scales, ticks
from labkit.views.shapes import Columns, columns
from labkit.views.steps import NARROW, WIDE, Step
from labkit.views.story import story
from labkit.views.words import address, capital, count

TOP, ROW, LANE = 46, 34, 20
_ROOM = 300
_NAMES = 40
"""Pixels below the rows, for the names of what went wrong."""


class Bar(NamedTuple):
    """A pin on one row: from which record until which; `hue` is its IO, `policy` who counts."""

    row: int
    top: float
    bottom: float
    begin: int
    end: int
    hue: int
    policy: str
    label: str
    tip: tuple[str, ...]


class Mark(NamedTuple):
    """Something that went wrong, or was made to: at which record, where its name stands, which row it struck."""

    at: int
    kind: str
    name: str
    y: float
    struck: float
    tip: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pins:
    """The picture as columns, for one width."""

    width: float
    height: float
    edges: tuple[float, float]
    """Where time begins and ends on the page."""
    rows: list[tuple[float, float, str, str]]
    """(top, bottom, address, size) of each row."""
    bars: Columns
    lives: Columns
    marks: Columns
    scales: dict[str, list[float]]
    ticks: dict[str, list[Tick]]
    count_x: tuple[float, float, float]


class _Life(NamedTuple):
    top: float
    bottom: float
    begin: int
    end: int


def pins(trace: Trace, width: int = WIDE, known: Pieces | None = None) -> Pins:
    """Return the picture of the pins of `trace`; `known` are its pieces, if somebody has them already."""
    found, _ = known or pieces(trace)
    narrow = width <= NARROW
    left, right = (136.0, width - 128.0) if narrow else (236.0, width - 208.0)
    rows, bars, lives, y = [], list[Bar](), list[_Life](), float(TOP)
    grow = _grow(every := [_lanes(piece.held) for piece in found])
    for i, (piece, lanes) in enumerate(zip(found, every, strict=True)):
        bottom = y + (ROW + LANE * (max(lanes, default=0))) * grow
        rows.append((y, bottom, address(piece.addr), _size(piece)))
        lives += [_Life(y + 3, bottom - 3, born, gone) for born, gone in piece.lives]
        for held, lane in zip(piece.held, lanes, strict=True):
            top = y + (7 + LANE * lane) * grow
            bars.append(_bar(trace, i, piece, held, (top, top + LANE * grow)))
        y = bottom
    middles = [(piece, (row[0] + row[1]) / 2) for piece, row in zip(found, rows, strict=True)]
    marks = list(_marks(trace, y, middles))
    times = [rec.t for rec in trace.records]
    places = scales(times, left, right)
    step = (width - 4 - right - 16) / 3
    middle = (right + 16 + step / 2, right + 16 + 1.5 * step, right + 16 + 2.5 * step)
    return Pins(
        width, y + (_NAMES if marks else 10), (left, right), rows, columns(bars, Bar), columns(lives, _Life),
        columns(marks, Mark), places, ticks(times, places), middle,
    )  # fmt: skip


def _grow(every: Sequence[Sequence[int]]) -> float:
    """Return how much taller than usual rows are: few of them use the page that many would need."""
    total = sum(ROW + LANE * max(lanes, default=0) for lanes in every)
    return max(1.0, min(1.7, _ROOM / max(total, 1)))


def _size(piece: Piece) -> str:
    many = f" in {piece.ranges:,} ranges" if piece.ranges > 1 else ""
    return f"{human_bytes(piece.nbytes)}{many}"


def _lanes(held: Sequence[Held]) -> list[int]:
    """Return for each pin the first line of its row that is free when it begins."""
    ends: list[int] = []
    out = []
    for pin in held:
        lane = next((i for i, end in enumerate(ends) if end <= pin.begin), len(ends))
        ends[lane : lane + 1] = [pin.end]
        out.append(lane)
    return out


def _bar(trace: Trace, row: int, piece: Piece, held: Held, edges: tuple[float, float]) -> Bar:
    rec = trace.records[held.begin]
    line = story(Trace((rec,), meta=trace.meta))[0]
    tip = (
        f"{who(held)}, policy {held.policy}{RULES.get(held.policy, '')}",
        f"{address(piece.addr)}, {_size(piece)}",
        f"pinned at {human_ns(rec.t)}, event {held.begin + 1}, token {held.token}",
        capital(until(trace, held)),
        f"{line.function}: {line.origin}",
    )
    hue = (held.io - 1) % HUES if held.io else -1
    end = min(held.end, len(trace) - 1)
    return Bar(row, *edges, held.begin, end, hue, held.policy, f"{who(held)}: {held.policy}", tip)


_NOWHERE = -100.0
"""Off the page: what strikes no row."""


def _marks(trace: Trace, bottom: float, rows: Sequence[tuple[Piece, float]]) -> Iterator[Mark]:
    for at, rec in enumerate(trace.records):
        y = bottom + 13 + 14 * (at % 2)
        if isinstance(rec, Hazard):
            yield Mark(at, "hazard", rec.name, y, _NOWHERE, (f"Hazard: {rec.name}", rec.text, human_ns(rec.t), "ours"))
        elif isinstance(rec, Violation):
            bytes_ = (f"should be {rec.expected}, is {rec.found}",) if rec.expected or rec.found else ()
            hit = (middle for piece, middle in rows if rec.addr and piece.addr <= rec.addr < piece.addr + piece.nbytes)
            yield Mark(
                at,
                "broken",
                rec.name,
                y,
                next(hit, _NOWHERE),
                (f"Broken: {rec.name}", rec.text, *bytes_, human_ns(rec.t), "ours"),
            )
        elif isinstance(rec, MmMigratePages):
            yield Mark(
                at, "moved", "migrated", y, _NOWHERE, ("Folios move", human_ns(rec.t), "migrate_pages", "upstream")
            )


def steps(trace: Trace) -> list[Step]:
    """Return a step for each record."""
    return [Step(human_ns(line.t), line.layer, line.text, line.function, line.origin) for line in story(trace)]


def struck(trace: Trace, known: Pieces | None = None) -> int:
    """Return the first row that holds bytes which an invariant found to be wrong, 0 if none does."""
    found, _ = known or pieces(trace)
    addrs = [rec.addr for rec in trace.of(Violation) if rec.addr]
    hit = (i for addr in addrs for i, piece in enumerate(found) if piece.addr <= addr < piece.addr + piece.nbytes)
    return next(hit, 0)


def headline(trace: Trace, known: Pieces | None = None) -> tuple[str, str]:
    """Return a headline and the sentence under it."""
    held, (found, left_out) = holders(trace), known or pieces(trace)
    if not held:
        return "Nobody held a page", "This trace holds no pin: run an IO, and whoever holds its memory appears here."
    total, kept = sum(piece.nbytes for piece in found if piece.held), [pin for pin in held.values() if pin.end == NEVER]
    head = f"Who holds this page? {capital(count(len(held), 'pin'))} on {human_bytes(total)}"
    verb = "is" if len(kept) == 1 else "are"
    parts = [f"{count(len(kept), 'pin')} {verb} never let go of" if kept else "every pin is let go of"]
    if hazards := len(trace.of(Hazard)):
        parts.append(count(hazards, "hazard"))
    if broken := len(trace.of(Violation)):
        parts.append(count(broken, "broken invariant"))
    if left_out:
        parts.append(f"{left_out:,} more pieces of memory are not drawn")
    return head, f"{capital(', '.join(parts))}."
