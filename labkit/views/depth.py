"""A load becomes a picture: how many requests there are at once, which units serve them, and how long each takes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from math import log2
from typing import NamedTuple

from labkit.trace.trace import Trace
from labkit.units import human_ns
from labkit.views.loads import Load, Served, histogram, load, shares, spelled
from labkit.views.runs import Strip, strip
from labkit.views.scales import plain, round_step
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.story import Line, story
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import capital, count

_DEPTH, _UNITS = (34.0, 150.0), 176.0
"""Top and bottom of the curve, and where the rows of units begin."""
_MOST_ROWS, _HISTOGRAM = 32, 206.0
_ROWS = ((16, 14.0, 1), (_MOST_ROWS, 9.0, 4))
"""Up to how many rows, how high each is, and how many have a name together."""
_MOST_BARS = 400
"""Requests that have a bar of their own; of more, a row shows how busy its units are."""
_BREAK, _QUIET = 0.25, 4
"""Nothing happens for this share of the whole time, and this many times as long as all else takes: that is folded."""


class _Sheet(NamedTuple):
    pen: Pen
    told: Load
    time: Strip
    left: float
    right: float

    def span(self, step: int) -> tuple[float, float]:
        """Return where on the page a step lasts: until the next one."""
        stops = self.told.stops
        x0 = self.time.x(stops[step])
        return x0, max(self.time.x(stops[step + 1]) if step + 1 < len(stops) else self.right, x0 + 1)

    def step(self, t: int) -> int:
        """Return the first step at which `t` has come."""
        return bisect_left(self.told.stops, t)


def depth(trace: Trace, width: int = WIDE) -> Timed:
    """Return the picture of the requests of `trace`."""
    told, pen, narrow = load(trace), Pen(), width <= NARROW
    if not told.served:
        return pen.done(width, 40, [])
    left, right = (86.0 if narrow else 116.0), (width - 12.0 if narrow else width * 0.68)
    sheet = _Sheet(pen, told, _axis(told, left, right), left, right)
    _curve(sheet)
    bottom = max(_units(sheet), _DEPTH[1] + 40)
    _times(sheet, bottom)
    _wrong(sheet, trace, bottom)
    for step in range(len(told.stops)):
        x = sheet.span(step)[0]
        pen.shapes.append(Shape(x - 1, _DEPTH[0] - 6, x + 1, bottom, "edge", step, step + 1))
    corner = (left, bottom + 44.0) if narrow else (right + 70.0, _DEPTH[0])
    _bars(pen, told, corner, width - 12.0)
    end = corner[1] + _HISTOGRAM + 34 if narrow else max(bottom + 26, _DEPTH[0] + _HISTOGRAM + 34)
    return pen.done(width, end, steps(trace, told))


def steps(trace: Trace, told: Load) -> list[Step]:
    """Return a step for each instant: how many there are, or what goes wrong."""
    lines, out, before = _lines(trace, told), list[Step](), -1
    for t in told.stops:
        faults = [lines[one.at] for one in told.wrong if before < one.t <= t]
        if faults:
            out.append(Step(human_ns(t), *faults[0][1:]))
        else:
            out.append(Step(human_ns(t), "requests", _sentence(told, t)))
        before = t
    return out


def _lines(trace: Trace, told: Load) -> dict[int, Line]:
    """Return what is told of each record at which something goes wrong, by its index."""
    wrong = Trace(tuple(trace.records[one.at] for one in told.wrong), meta=trace.meta)
    return dict(zip((one.at for one in told.wrong), story(wrong), strict=True))


def _sentence(told: Load, t: int) -> str:
    depth, driver, busy, done = (curve.at(t) for curve in (told.depth, told.driver, told.busy, told.done))
    waits = f"{count(depth - driver, 'request')} in the queue, " if depth > driver else ""
    serves = f", {count(busy, 'unit')} of the device busy" if told.units else ""
    return capital(f"{waits}{count(driver, 'request')} with the driver{serves}; {done:,} of {len(told.served):,} done.")


def headline(told: Load) -> tuple[str, str]:
    """Return what the load was, and how long it took, in a headline and a sentence."""
    if not told.served:
        return "No request", "This trace holds none."
    spans, peak = told.spans, max(told.depth.values)
    failed = sum(one.error != 0 for one in told.served if one.done >= 0)
    head = capital(count(len(told.served), "request")) + (f", up to {peak:,} at once" if peak > 1 else "")
    parts = [f"From tag to end: {spelled(spans)}"] if len(spans.ends) else ["None of them ended well"]
    if failed:
        parts.append(f"{count(failed, 'request')} failed")
    if told.units:
        parts.append(f"{count(len(told.units), 'unit')} of the device served them")
    return head, "; ".join(parts) + "."


def _axis(told: Load, left: float, right: float) -> Strip:
    """Return the axis of time; where nothing happens for long, it is folded."""
    pairs = [(a, b - a) for a, b in pairwise(told.stops)]
    span = max(told.stops[-1] - told.stops[0], 1)
    busy = sum(length for _, length in pairs if length <= span * _BREAK)
    places = [(a, length) for a, length in pairs if length <= max(span * _BREAK, _QUIET * busy)]
    return strip(places or [(told.stops[0], span)], left, right, 60)


def _curve(sheet: _Sheet) -> None:
    """Draw how many requests there are, from step to step: those with the driver solid, those that wait above."""
    pen, told, (top, bottom) = sheet.pen, sheet.told, _DEPTH
    peak = max(1, *told.depth.values)
    pen.words.append(Word(0, top + 6, "requests", 11.5, style="bold", ahead=1))
    for value in sorted({0, peak // 2, peak}):
        y = bottom - (bottom - top) * value / peak
        pen.words.append(Word(sheet.left - 8, y, f"{value:,}", 10, "mid", align="right", ahead=1))
        pen.shapes.append(Shape(sheet.left, y, sheet.right, y + 0.5, "tick", ahead=1, past=1))
    for step, t in enumerate(told.stops):
        x0, x1 = sheet.span(step)
        until = told.stops[step + 1] - 1 if step + 1 < len(told.stops) else t
        here, all_ = told.driver.peak(t, until), told.depth.peak(t, until)
        y0, y1 = (bottom - (bottom - top) * value / peak for value in (here, all_))
        if here:
            pen.shapes.append(Shape(x0, y0, x1, bottom, "area", step, ahead=0.25))
        if all_ > here:
            pen.shapes.append(Shape(x0, y1, x1, y0, "waits", step, ahead=0.25))
        pen.hot.append(Hot(x0, top, x1, bottom, (human_ns(t), f"{here} with the driver", f"{all_ - here} wait"), step))


def _units(sheet: _Sheet) -> float:
    """Draw a row for each unit of the device, or for some together, busy or idle; return where the rows end."""
    pen, told, units = sheet.pen, sheet.told, sheet.told.units
    if not units:
        return _UNITS
    rows = min(len(units), _MOST_ROWS)
    high, every = next((row[1], row[2]) for row in _ROWS if rows <= row[0])
    where = {unit: i * rows // len(units) for i, unit in enumerate(units)}
    pen.words.append(Word(0, _UNITS + 7, "units busy", 11.5, style="bold", ahead=1))
    for row in range(rows):
        edges = (_UNITS + row * high, _UNITS + (row + 1) * high)
        mine = [unit for unit in units if where[unit] == row]
        pen.shapes.append(Shape(sheet.left, edges[0] + 1, sheet.right, edges[1] - 1, "row", ahead=1, past=1))
        if row % every == 0:
            name = f"{mine[0]}" if len(mine) == 1 else f"{mine[0]}-{mine[-1]}"
            pen.words.append(Word(sheet.left - 8, sum(edges) / 2, name, 9, "mid", align="right", ahead=1))
        served = [one for one in told.served if one.busy and where[one.unit] == row]
        if len(told.served) <= _MOST_BARS:
            _each(sheet, served, edges)
        else:
            _share(sheet, served, len(mine), edges)
    return _UNITS + rows * high + 6


def _each(sheet: _Sheet, served: list[Served], edges: tuple[float, float]) -> None:
    """Draw a bar for each request while its unit serves it."""
    for one in served:
        begin, end = one.busy or (0, 0)
        x0, x1 = sheet.time.x(begin), sheet.time.x(end)
        box = (x0, edges[0] + 1.5, max(x1, x0 + 1), edges[1] - 1.5)
        role = "full" if one.error else "cached"
        sheet.pen.shapes.append(Shape(*box, role, sheet.step(begin), ahead=0.2))
        tip = (
            f"request {one.rq} on unit {one.unit}",
            f"served for {human_ns(end - begin)}",
            f"ends after {human_ns(one.latency)}",
        )
        sheet.pen.hot.append(Hot(*box, tip, sheet.step(begin)))


def _share(sheet: _Sheet, served: list[Served], units: int, edges: tuple[float, float]) -> None:
    """Draw for each step how much of the time the `units` of a row are busy: as high as it is."""
    stops, busy = sheet.told.stops, dict[int, int]()
    for begin, end in (one.busy for one in served if one.busy):
        for step in range(max(bisect_right(stops, begin) - 1, 0), min(bisect_left(stops, end), len(stops) - 1)):
            busy[step] = busy.get(step, 0) + min(end, stops[step + 1]) - max(begin, stops[step])
    for step, ns in busy.items():
        part = min(ns / max((stops[step + 1] - stops[step]) * units, 1), 1)
        x0, x1 = sheet.span(step)
        box = (x0, edges[1] - 1.5 - (edges[1] - edges[0] - 3) * part, x1, edges[1] - 1.5)
        sheet.pen.shapes.append(Shape(*box, "share", step, ahead=0.2))


def _times(sheet: _Sheet, bottom: float) -> None:
    """Write round times under the rows, and how long each fold is."""
    pieces, told = sheet.time.pieces, ""
    for start, nbytes, left, pixels in pieces:
        for t in _round(start, nbytes, pixels):
            if plain(t) == told:
                continue
            told = plain(t)
            x = left + pixels * (t - start) / max(nbytes, 1)
            sheet.pen.shapes.append(Shape(x, _DEPTH[1], x + 0.5, bottom, "tick", ahead=1, past=1))
            sheet.pen.words.append(Word(x, bottom + 10, told, 10, "mid", align="center", ahead=1))
    for one, other in pairwise(pieces):
        x = (one[2] + one[3] + other[2]) / 2
        text = f"⋯ {human_ns(other[0] - one[0] - one[1])} ⋯"
        sheet.pen.words.append(Word(x, _UNITS - 12, text, 10, "mid", align="center", ahead=1))


def _round(start: int, nbytes: int, pixels: float) -> Iterator[int]:
    step = round_step(nbytes / max(pixels // 110, 1))
    yield from range(-(-start // step) * step, start + nbytes + 1, step)


def _wrong(sheet: _Sheet, trace: Trace, bottom: float) -> None:
    """Draw a mark through all rows where something goes wrong, with its kind where there is room."""
    lines, last = _lines(trace, sheet.told), -1e9
    for one in sheet.told.wrong:
        x, step = sheet.time.x(one.t), sheet.step(one.t)
        sheet.pen.shapes.append(Shape(x - 1.5, _DEPTH[0] - 4, x + 1.5, bottom, "cut", step, ahead=0.3))
        rec = trace.records[one.at]
        kind = str(getattr(rec, "kind", "") or getattr(rec, "action", "") or type(rec).__name__)
        sheet.pen.hot.append(Hot(x - 5, _DEPTH[0] - 4, x + 5, bottom, (kind, lines[one.at].text), step))
        if x - last > wide(kind, 10.5) + 16:
            right = x + wide(kind, 10.5) + 10 > sheet.right
            word = Word(x + (-5 if right else 5), _DEPTH[0] - 13, kind, 10.5, style="bold", t1=step)
            sheet.pen.words.append(word._replace(align="right" if right else "left", ahead=0.3))
            last = x


def _bars(pen: Pen, told: Load, corner: tuple[float, float], right: float) -> None:
    """Draw the histogram of latencies, on an axis where each doubling is equally wide, and its percentiles."""
    spans, (left, top) = told.spans, corner
    buckets = histogram(spans)
    pen.words.append(Word(left, top - 16, "latency, from tag to end", 12, style="bold", ahead=1))
    if not buckets:
        pen.words.append(Word(left, top + 14, "nothing ended well", 11, "mid", ahead=1))
        return
    lo, hi = log2(buckets[0].lo) - 0.5, log2(buckets[-1].hi) + 0.5
    bottom, most = top + _HISTOGRAM, max(bucket.n for bucket in buckets)
    pen.shapes.append(Shape(left, bottom, right, bottom + 1, "wire", ahead=1, past=1))
    for one in buckets:
        x0, x1 = (left + (right - left) * (log2(ns) - lo) / (hi - lo) for ns in (one.lo, one.hi))
        if one.n:
            box = (x0, bottom - (_HISTOGRAM - 76) * one.n / most, x1, bottom)
            pen.shapes.append(Shape(*box, "rq0", ahead=0.85, now=0.85, past=0.85))
            tip = (f"{human_ns(int(one.lo))} to {human_ns(int(one.hi))}", f"{count(one.n, 'request')}")
            pen.hot.append(Hot(*box, tip, bisect_right(told.done.values, 0)))
    for i, (name, ns) in enumerate(shares(spans)):
        x = left + (right - left) * (log2(max(ns, 1)) - lo) / (hi - lo)
        text, y = f"{name} {human_ns(ns)}", top + 10 + 16 * i
        at = min(x + 4, right - wide(text, 10.5))  # one that has no room beside its line stands on top of it
        pen.shapes.append(Shape(x - 0.75, y - 4 if at > x else y + 7, x + 0.75, bottom, "edge", ahead=1, past=1))
        pen.words.append(Word(at, y, text, 10.5, style="bold", ahead=1))
    for ns in (int(buckets[0].lo), spans.percentile(1)):
        x = left + (right - left) * (log2(max(ns, 1)) - lo) / (hi - lo)
        pen.words.append(Word(x, bottom + 12, human_ns(ns), 10, "mid", align="center", ahead=1))
