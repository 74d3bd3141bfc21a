"""Holders become sentences: who holds this page, since when, which event lets go of it, and what its folio counts."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from labkit.trace.events import Violation
from labkit.trace.snapshot import FolioState
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT, PAGE_SIZE, human_bytes, human_ns
from labkit.views.holders import Held, Piece, Pieces, counts, pieces
from labkit.views.journey import NEVER
from labkit.views.story import story
from labkit.views.words import address

HUES = 6
"""Colours of IOs."""


class Wrong(NamedTuple):
    """Bytes that are wrong from record `at` on, as hex."""

    at: int
    text: str
    expected: str
    found: str


class Told(NamedTuple):
    """What is said of one row: from record `at` on the sentence and the folio's three counts."""

    at: list[int]
    text: list[str]
    counts: list[tuple[str, str, str]]
    hue: list[int]


def who(held: Held) -> str:
    """Return whose pin it is: 'IO 1 (pread64)', or a registration that no IO made."""
    name = f" ({held.name})" if held.name else ""
    return f"IO {held.io}{name}" if held.io else "a registration"


def until(trace: Trace, held: Held) -> str:
    """Return which function lets go of a pin, and when, or that none does."""
    if held.end == NEVER:
        return "no event of this trace lets go of it"
    line = story(Trace((trace.records[held.begin], trace.records[held.end]), meta=trace.meta))[1]
    return f"{line.function} lets go of it at {human_ns(line.t)}, event {held.end + 1}"


def said(trace: Trace, known_pieces: Pieces | None = None) -> list[Told]:
    """Return for each row who holds it, since when, which event lets go, and the counts of its folio, over time."""
    found, _ = known_pieces or pieces(trace)
    known = counts(trace, [piece.addr for piece in found])
    return [_told(trace, piece, [(at, folios[i]) for at, folios in known]) for i, piece in enumerate(found)]


def _told(trace: Trace, piece: Piece, known: Sequence[tuple[int, FolioState | None]]) -> Told:
    edges = {edge for held in piece.held for edge in (held.begin, held.end) if edge < NEVER}
    cuts = {0, *(at for at, _ in known)} | edges
    out = Told([], [], [], [])
    when = [at for at, _ in known]
    for at in sorted(cuts):
        i = bisect_right(when, at) - 1
        folio = known[i][1] if i >= 0 else None
        now = [held for held in piece.held if held.begin <= at < held.end]
        state = _counting(folio, piece, now) + _again(trace, piece, at) if folio else _missing(piece, at)
        text = f"{_name(piece)}: {_holding(trace, now)}. {state}"
        row = ("–",) * 3 if folio is None else tuple(f"{n:,}" for n in (folio.refcount, folio.pincount, folio.mapcount))
        if not out.text or (text, row) != (out.text[-1], out.counts[-1]):
            out.at.append(at)
            out.text.append(text)
            out.counts.append((row[0], row[1], row[2]))
            out.hue.append((now[0].io - 1) % HUES if now and now[0].io else -1)
    return out


def _name(piece: Piece) -> str:
    frames = -(-piece.nbytes // PAGE_SIZE)
    if piece.ranges > 1:
        return f"{human_bytes(piece.nbytes)} in {piece.ranges:,} ranges from {address(piece.addr)} on"
    first = piece.addr >> PAGE_SHIFT
    return f"Frame {first:#x}" if frames == 1 else f"Frames {first:#x} to {first + frames - 1:#x}"


def _holding(trace: Trace, now: Sequence[Held]) -> str:
    if not now:
        return "nobody holds it"
    since = (human_ns(trace.records[held.begin].t) for held in now)
    told = (f"{who(held)} {_holds(held)} since {t}; {until(trace, held)}" for held, t in zip(now, since, strict=True))
    return " and ".join(told)


def _holds(held: Held) -> str:
    return "uses it and counts nowhere (policy none)" if held.policy == "none" else f"holds it by policy {held.policy}"


def _missing(piece: Piece, at: int) -> str:
    if at < piece.lives[0][0]:
        return "It is not allocated yet."
    if any(gone <= at for _, gone in piece.lives):
        return "It is freed, and may be somebody else's by now."
    return "No struct page counts here."


def _again(trace: Trace, piece: Piece, at: int) -> str:
    """Say so where the memory was freed and allocated again: whoever has it now is somebody else."""
    born = [begin for begin, _ in piece.lives if begin <= at]
    return f" It was freed, and allocated again at {human_ns(trace.records[born[-1]].t)}." if len(born) > 1 else ""


def _counting(folio: FolioState, piece: Piece, now: Sequence[Held]) -> str:
    size = PAGE_SIZE << folio.order
    which = f"Its {'first ' if piece.nbytes > size else ''}folio of {human_bytes(size)}"
    text = f"{which} has refcount {folio.refcount:,}, pincount {folio.pincount:,}, mapcount {folio.mapcount:,}"
    if any(held.policy == "range" for held in now):
        return f"{text}: the pin is in the ledger, and in none of them."
    if any(held.policy == "page" for held in now) and not folio.order:
        return f"{text}: each pin is 1,024 references (MM-13)."
    return f"{text}."


def wrong(trace: Trace) -> list[Wrong]:
    """Return the bytes that invariants found to be wrong."""
    return [
        Wrong(at, f"{rec.name}: {rec.text}, at {address(rec.addr)}", rec.expected, rec.found)
        for at, rec in enumerate(trace.records)
        if isinstance(rec, Violation) and (rec.expected or rec.found)
    ]
