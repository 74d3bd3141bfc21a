"""One or more traces become bios over requests, on one axis of bytes: vectors, cuts, what is merged, plugs, tags."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from labkit.trace.trace import Trace
from labkit.units import human_bytes, human_ns
from labkit.views.fold import HUES
from labkit.views.journey import NEVER
from labkit.views.pieces import TOLD, Bio, Part, Pieces, Plug, pieces
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.story import story
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import count

_HEAD, _PANEL = 20, 178
_VECTORS, _BIOS, _REQUESTS, _PLUG = (40, 62), (70, 98), (118, 154), (113, 159)
"""Top and bottom of each row, from the top of its panel."""
MOST = 512
"""Vectors of a trace that are drawn one by one; of more, neighbours are drawn as one."""


class _Panel(NamedTuple):
    """Where one system is drawn: `step` gives the step of each record of its trace."""

    pen: Pen
    name: str
    trace: Trace
    found: Pieces
    top: float
    left: float
    scale: float
    first: int
    step: dict[int, int]

    def x(self, at: int) -> float:
        return self.left + (at - self.first) * self.scale

    def at(self, index: int) -> int:
        """Return the step at which record `index` is told, NEVER where it does not come."""
        return self.step.get(index, NEVER)

    def row(self, edges: tuple[float, float]) -> tuple[float, float]:
        return self.top + edges[0], self.top + edges[1]


def requests(traces: Mapping[str, Trace], width: int = WIDE) -> Timed:
    """Return the picture of `traces`, by the names of their systems, one under the other."""
    found = {name: pieces(trace) for name, trace in traces.items()}
    order = _order(traces)
    spans = [each.span for each in found.values()]
    first, last = min((lo for lo, _ in spans), default=0), max((hi for _, hi in spans), default=1)
    left = 64.0 if width <= NARROW else 116.0
    pen, scale = Pen(), (width - 12 - left) / max(last - first, 1)
    for i, (name, trace) in enumerate(traces.items()):
        steps = {index: at for at, (_, of, index) in enumerate(order) if of == name}
        panel = _Panel(pen, name, trace, found[name], _HEAD + i * _PANEL, left, scale, first, steps)
        _panel(panel, width)
    _axis(pen, (left, width - 12), (first, last))
    return pen.done(width, _HEAD + len(traces) * _PANEL, _steps(traces, order))


def _order(traces: Mapping[str, Trace]) -> list[tuple[int, str, int]]:
    """Return (time, system, index of the record) of every step: all systems begin at once."""
    rows = [
        (rec.t - _start(trace), i, name, index)
        for i, (name, trace) in enumerate(traces.items())
        for index, rec in enumerate(trace.records)
        if isinstance(rec, TOLD)
    ]
    return [(t, name, index) for t, _, name, index in sorted(rows)]


def _start(trace: Trace) -> int:
    return next((rec.t for rec in trace.records if isinstance(rec, TOLD)), 0)


def _steps(traces: Mapping[str, Trace], order: Sequence[tuple[int, str, int]]) -> list[Step]:
    lines = {name: story(trace) for name, trace in traces.items()}
    out = []
    for t, name, index in order:
        line = lines[name][index]
        out.append(Step(human_ns(t), name or line.layer, line.text, line.function, line.origin))
    return out


def summary(found: Pieces) -> str:
    """Return in words how many of each there are."""
    vecs, cuts = sum(len(bio.vecs) for bio in found.bios), len(found.cuts)
    merged = sum(part.joined for part in found.parts)
    told = [count(vecs, "vector"), count(len(found.bios), "bio"), count(found.requests, "request")]
    told += [count(cuts, "cut")] if cuts else []
    told += [count(merged, "merge")] if merged else []
    return ", ".join(told)


def _panel(panel: _Panel, width: int) -> None:
    pen, size = panel.pen, 11 if width <= NARROW else 12
    pen.words.append(Word(0, panel.top + 12, panel.name, 15, style="bold", ahead=1))
    said = summary(panel.found) if panel.name else ""
    pen.words.append(Word(panel.left, panel.top + 13, said, 12, "mid", ahead=1))
    origin = str(dict(panel.trace.meta.get("origin") or {}).get("memory", ""))
    if wide(said, 12) + wide(origin, 11) + 40 < width - panel.left:
        pen.words.append(Word(width - 12, panel.top + 13, origin, 11, "mid", align="right", ahead=1))
    for name, row in (("vectors", _VECTORS), ("bios", _BIOS), ("requests", _REQUESTS)):
        top, bottom = panel.row(row)
        pen.words.append(Word(0, (top + bottom) / 2, name, size, "ink", ahead=1))
    for bio in panel.found.bios:
        _bio(panel, bio)
    for plug in panel.found.plugs:
        _plug(panel, plug)
    for part in panel.found.parts:
        _part(panel, part)
    _joins(panel)
    _cuts(panel)


def _axis(pen: Pen, edges: tuple[float, float], span: tuple[int, int]) -> None:
    first, last = span
    for x, at, align in ((edges[0], first, "left"), (edges[1], last, "right")):
        pen.words.append(Word(x, 8, f"byte {at:,}", 10, "faint", align=align, ahead=1))


def _bio(panel: _Panel, bio: Bio) -> None:
    """Draw a bio, and over it its vectors: little blocks, to scale."""
    pen, at = panel.pen, panel.at(bio.at)
    top, bottom = panel.row(_VECTORS)
    size = max(1, -(-sum(len(b.vecs) for b in panel.found.bios) // MOST))
    x = bio.start
    for i in range(0, len(bio.vecs), size):
        nbytes = sum(bio.vecs[i : i + size])
        box = panel.x(x), top, panel.x(x + nbytes), bottom
        pen.shapes.append(Shape(*box, f"vec{i // size % 2}", at, ahead=0.25))
        vectors = f"vector {i}" if size == 1 else f"vectors {i} to {min(i + size, len(bio.vecs)) - 1}"
        pen.hot.append(Hot(*box, (vectors, human_bytes(nbytes), f"of bio {bio.bio}"), at))
        x += nbytes
    top, bottom = panel.row(_BIOS)
    box = panel.x(bio.start), top, panel.x(bio.start + bio.nbytes), bottom
    pen.shapes.append(Shape(*box, "bio", at, ahead=0.2))
    text = f"bio {bio.bio}: {human_bytes(bio.nbytes)}"
    right = min(box[2], box[0] + wide(text, 11) + 10)
    pen.fit((box[0], top, right, bottom), text, Word(0, 0, "", 11, t1=at))
    tip = (f"bio {bio.bio}", f"{human_bytes(bio.nbytes)}, {count(len(bio.vecs), 'vector')}", f"sector {bio.sector:,}")
    pen.hot.append(Hot(*box, tip, at))


def _part(panel: _Panel, part: Part) -> None:
    """Draw what a request has of a bio: pale when it waits, solid with the driver, pale again when it is done."""
    pen, (top, bottom) = panel.pen, panel.row(_REQUESTS)
    got, issued, done = panel.at(part.got), panel.at(part.issued), panel.at(part.done)
    hue = (part.rq - 1) % HUES
    box = panel.x(part.start), top, panel.x(part.start + part.nbytes), bottom
    pen.shapes.append(Shape(*box, f"rq{hue}", got, issued, 0.1, 0.45, 0.0))
    pen.shapes.append(Shape(*box, f"rq{hue}", issued, done, 0.0, 1.0, 0.3))
    word = Word(0, 0, "", 10.5, f"on{hue}", style="bold", t1=issued, t4=done, back=f"rq{hue}")
    if not part.joined:
        pen.fit(box, f"tag {part.tag}", word)
        pen.fit(box, f"tag {part.tag}", word._replace(t1=got, t4=issued, role="ink", back=""))
        pen.fit(box, f"tag {part.tag}", word._replace(t1=done, t4=NEVER, role="ink", back=""))
    joined = ("merged in: no tag of its own",) if part.joined else ()
    size = f"{human_bytes(part.nbytes)}, {count(part.segments, 'segment')}"
    pen.hot.append(Hot(*box, (f"request {part.rq}, tag {part.tag}", size, *joined), got))


def _joins(panel: _Panel) -> None:
    """Draw a clasp where parts of one request meet: they have been merged."""
    top, bottom = panel.row(_REQUESTS)
    middle = (top + bottom) / 2
    parts = sorted(panel.found.parts, key=lambda part: part.start)
    for one, other in pairwise(parts):
        if one.rq == other.rq and one.start + one.nbytes == other.start:
            x, at = panel.x(other.start), panel.at(max(one.got, other.got))
            panel.pen.shapes.append(Shape(x - 5, middle - 5, x + 5, middle + 5, "card", at, ahead=0.0))
            panel.pen.shapes.append(Shape(x - 3, middle - 1, x + 3, middle + 1, "edge", at, ahead=0.0))


def _plug(panel: _Panel, plug: Plug) -> None:
    """Draw a dashed box around the requests that are kept back together, for as long as they are."""
    parts = [part for part in panel.found.parts if part.rq in plug.rqs]
    lo, hi = min(p.start for p in parts), max(p.start + p.nbytes for p in parts)
    top, bottom = panel.row(_PLUG)
    begin, end = panel.at(plug.begin), panel.at(plug.end)
    box = panel.x(lo) - 4, top, panel.x(hi) + 4, bottom
    panel.pen.shapes.append(Shape(*box, "plug", begin, end, 0.0, 1.0, 0.0))
    text = f"in a plug: {count(len(set(plug.rqs)), 'request')}"
    word = Word(panel.x(lo), bottom + 9, text, 10.5, "mid", t1=begin, t4=end)
    panel.pen.words.append(word)


def _cuts(panel: _Panel) -> None:
    """Draw where bios were cut, and by which rule, as often as there is room to say so."""
    top, bottom = panel.top + _BIOS[0] - 3, panel.top + _REQUESTS[1] + 3
    last = -1e9
    for cut in panel.found.cuts:
        x, at = panel.x(cut.start), panel.at(cut.at)
        panel.pen.shapes.append(Shape(x - 1, top, x + 1, bottom, "cut", at, ahead=0.0))
        panel.pen.hot.append(Hot(x - 4, top, x + 4, bottom, (f"cut here: {cut.rule}", cut.why), at))
        text = cut.rule or "split"
        if x - last > wide(text, 10.5) + 14 and x - panel.left > wide(text, 10.5) / 2:
            word = Word(x, panel.top + _BIOS[1] + 10, text, 10.5, "ink", style="bold", align="center", t1=at)
            panel.pen.words.append(word._replace(x=x + 5, align="left"))
            last = x
