"""The events of the model and of the kernel become a picture: two axes of time, matches joined, the rest lit."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labkit.units import human_ns
from labkit.views.event_rows import QUIET, CountLike, Line, RowLike, lines, off, step, tip
from labkit.views.runs import Strip, strip
from labkit.views.steps import NARROW, WIDE, Hot
from labkit.views.timed import Band, Pen, Shape, Timed, Word, wide

_KERNEL, _MODEL = (34.0, 54.0), (118.0, 138.0)
"""Top and bottom of each axis."""
_COUNTS, _CELL, _ROW, _PAGE = 186.0, 124.0, 22.0, 14
"""Where the counts begin, how wide each is, how high a row of the list, and how many rows there are on a page of it."""
_QUIET = 0.04
"""Nothing happens for this share of the whole time: that is folded."""
_HALF = 470.0
"""Pixels that each side of the list has at most."""
_SIDES = {"both": "=", "kernel": "+", "model": "-", "differ": "≠", "own": "·"}


class _Sheet(NamedTuple):
    pen: Pen
    lines: list[Line]
    kernel: Strip
    model: Strip
    left: float
    right: float
    narrow: bool


def sequence(rows: Iterable[RowLike], counts: Iterable[CountLike] = (), width: int = WIDE) -> Timed:
    """Return the picture of `rows`, and of `counts` (name, kernel, model) beside them."""
    shown, narrow = lines(rows), width <= NARROW
    left, right = (74.0 if narrow else 116.0), width - 12.0
    kernel = _axis([(line.kernel_ns, line.upto[0]) for line in shown], left, right)
    model = _axis([(line.model_ns, line.upto[1]) for line in shown], left, right)
    sheet = _Sheet(Pen(), shown, kernel, model, left, right, narrow)
    if not shown:
        return sheet.pen.done(width, 40, [])
    _axes(sheet)
    for at, line in enumerate(shown):
        _mark(sheet, at, line)
    top = _counts(sheet, list(counts))
    for at, line in enumerate(shown):
        _listed(sheet, at, line, top)
    height = top + 26 + _ROW * min(len(shown), _PAGE) + 6
    return sheet.pen.done(width, height, [step(line) for line in shown])


def _axis(spans: Iterable[tuple[int | None, int | None]], left: float, right: float) -> Strip:
    """Return an axis of time; long silences are folded, but not what a line that stands for many takes."""
    known = [(t, max(upto or t, t)) for t, upto in spans if t is not None]
    if not known:
        return Strip(())
    quiet = max(round((max(end for _, end in known) - min(known)[0]) * _QUIET), 1)
    return strip(((t, end - t + quiet) for t, end in known), left, right - 4, 46)


def _axes(sheet: _Sheet) -> None:
    """Draw both axes: their names, whose time it is, a time where each stretch begins, and how long each fold is."""
    sides = (("kernel", "measured", sheet.kernel, _KERNEL, -14), ("model", "simulated", sheet.model, _MODEL, 14))
    for name, kind, axis, (top, bottom), away in sides:
        size = 11 if sheet.narrow else 12.5
        sheet.pen.words.append(Word(0, (top + bottom) / 2 - 6, name, size, style="bold", ahead=1))
        sheet.pen.words.append(Word(0, (top + bottom) / 2 + 8, kind, 10, "mid", ahead=1))
        y, before, room = (top if away < 0 else bottom) + away, -1.0, -1e9
        for start, _, left, pixels in axis.pieces:
            sheet.pen.shapes.append(Shape(left, top, left + pixels, bottom, "row", ahead=1))
            if before >= 0 and left - before > 14:  # noqa: PLR2004 - pixels that the sign needs
                word = Word((before + left) / 2, (top + bottom) / 2, "⋯", 12, "mid", align="center", ahead=1)
                sheet.pen.words.append(word)
            text = human_ns(start)
            if left > room and left + len(text) * 6.4 < sheet.right + 12:
                sheet.pen.words.append(Word(left, y, text, 10, "mid", "mono", ahead=1))
                room = left + len(text) * 6.4 + 10
            before = left + pixels
        last = human_ns(max((t for line in sheet.lines for t in _times(line, name)), default=0))
        if room + wide(last, 11) < sheet.right:
            sheet.pen.words.append(Word(sheet.right - 4, y, last, 10, "mid", "mono", align="right", ahead=1))


def _times(line: Line, name: str) -> list[int]:
    """Return when a line begins and ends on the side `name`, as far as it is there."""
    both = (line.kernel_ns, line.upto[0]) if name == "kernel" else (line.model_ns, line.upto[1])
    return [t for t in both if t is not None]


def _mark(sheet: _Sheet, at: int, line: Line) -> None:
    """Draw an event on each side that has it, and a line between the two."""
    pen, lit = sheet.pen, line.side not in QUIET
    xs: list[float | None] = []
    sides = ((line.kernel_ns, sheet.kernel, _KERNEL), (line.model_ns, sheet.model, _MODEL))
    for (t, axis, (top, bottom)), upto in zip(sides, line.upto, strict=True):
        if t is not None and upto is not None:
            pen.shapes.append(Shape(axis.x(t), top + 3, axis.x(upto), bottom - 3, "vec1", ahead=1))
        if t is None:
            xs.append(None)
            continue
        x, more = axis.x(t), 5 if lit else 0
        role = "cut" if lit else "mapped" if line.side == "both" else "vec1"
        pen.shapes.append(Shape(x - 1, top - more, x + 1.5, bottom + more, role, ahead=1))
        pen.shapes.append(Shape(x - 2, top - 5, x + 2.5, bottom + 5, "edge", at, at + 1))
        pen.hot.append(Hot(x - 3, top - 4, x + 4, bottom + 4, tip(line), at))
        xs.append(x)
    if xs[0] is not None and xs[1] is not None:
        ends = (_KERNEL[1] + 7, xs[0] - 0.5, xs[0] + 1, _MODEL[0] - 7, xs[1] - 0.5, xs[1] + 1)
        pen.bands.append(Band(*ends, "cut" if lit else "mapped", at, at + 1, 0.22, 1, 0.22))


def _counts(sheet: _Sheet, counts: Sequence[CountLike]) -> float:
    """Draw a cell for each count, lit where the two differ and may not; return where the page goes on."""
    pen, told = sheet.pen, [(one, _equation(one)) for one in counts]
    if not told:
        return _COUNTS - 10
    each = max(_CELL, *(wide(text, 12) + 26 for _, text in told))
    across = max(int((sheet.right - sheet.left) // each), 1)
    pen.words.append(Word(0, _COUNTS + 12, "counts", 11 if sheet.narrow else 12.5, style="bold", ahead=1))
    pen.words.append(Word(0, _COUNTS + 28, "k = m" if sheet.narrow else "kernel = model", 10, "mid", ahead=1))
    for i, (one, text) in enumerate(told):
        x, y = sheet.left + i % across * each, _COUNTS + i // across * 48
        role = "stale" if off(one) else "box"
        box = (x, y, x + each - 8, y + 40)
        pen.shapes.append(Shape(*box, role, ahead=1))
        pen.words.append(Word(x + 8, y + 12, one.name, 10.5, "mid", ahead=1, back=role))
        pen.words.append(Word(x + 8, y + 28, text, 12, style="bold", ahead=1, back=role))
        loose = () if one.certain else ("time decides, or others: they need not be equal",)
        said = (one.name, f"kernel: {_number(one.kernel)}", f"model: {_number(one.model)}", *loose)
        pen.hot.append(Hot(*box, said))
    return _COUNTS + -(-len(told) // across) * 48 + 12


def _equation(one: CountLike) -> str:
    """Return both numbers and what is between them; of two long ones that are equal, one."""
    sign = "?" if None in (one.kernel, one.model) else "=" if one.kernel == one.model else "≠" if one.certain else "≈"
    text = f"{_number(one.kernel)} {sign} {_number(one.model)}"
    return f"= {_number(one.model)}" if sign == "=" and wide(text, 12) + 26 > _CELL else text


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _listed(sheet: _Sheet, at: int, line: Line, top: float) -> None:
    """Write a line of the list, on the page of it that is shown while its step is; the step's own is marked."""
    pen, first, lit = sheet.pen, at // _PAGE * _PAGE, line.side not in QUIET
    middle, half = (sheet.left + sheet.right) / 2, min((sheet.right - sheet.left) / 2, _HALF)
    y, word = top + 26 + (at - first) * _ROW, Word(middle, 0, "", 11, t1=first, t4=first + _PAGE)
    if at == first:
        for x, text, align in ((middle - 26, "kernel", "right"), (middle + 26, "model", "left")):
            pen.words.append(Word(x, top + 8, text, 11, "mid", style="bold", align=align, t1=first, t4=first + _PAGE))
    box = (middle - half - 8, y - 10, middle + half + 8, y + 10)
    if lit:
        pen.shapes.append(Shape(*box, "stale", first, first + _PAGE))
    pen.shapes.append(Shape(box[0] - 7, y - 9, box[0] - 3, y + 9, "edge", at, at + 1))
    pen.hot.append(Hot(*box, tip(line), at))
    word = word._replace(y=y, back="stale" if lit else "")
    pen.words.append(word._replace(text=_SIDES[line.side], size=13, style="bold", align="center"))
    for way, align, far, t, text in (
        (-1, "right", "left", line.kernel_ns, line.kernel), (1, "left", "right", line.model_ns, line.model),
    ):  # fmt: skip
        if t is None:
            continue
        pen.words.append(word._replace(x=middle + 26 * way, text=_short(text, half - 120), align=align))
        stamp = word._replace(x=middle + half * way, text=human_ns(t), size=10.5, role="mid", font="mono", align=far)
        pen.words.append(stamp)


def _short(text: str, room: float) -> str:
    """Return `text`, or as much of it as fits into `room` pixels."""
    return text if wide(text, 11) < room else f"{text[: max(int(room / wide('m', 11)) - 1, 4)]}…"
