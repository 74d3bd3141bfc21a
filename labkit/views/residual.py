"""Captured IOs become a matrix: buffers down, sizes across, a cell for each IO, whether it went as was predicted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from labkit.units import human_bytes
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import capital, count

PARTS = ("result", "bios", "splits", "requests", "events")
"""What is compared, from the outermost on."""
MOST = 1500
"""Cells that are drawn; of more IOs, a cell stands for several, and is exact where all of them are."""
_TOP, _SMALLEST, _LARGEST = 64.0, 3.0, 15.0
"""Where the matrix begins below gauges in one row, and the edge of a cell in pixels."""
_BUFFERS = ("4KiB", "4KiB-shuffled", "16KiB", "64KiB", "2MiB", "hugetlb", "memfd", "memfd-2MiB", "file", "synth")
"""The order of rows: kinds of buffer from small folios to large ones; others come after them."""
_OPS = {"r": "read", "w": "write"}


class Io(NamedTuple):
    """One IO that was predicted and done: `parts` are True where exact, False where not, None where not compared."""

    id: str
    op: str
    size: int
    buffer: str
    parts: tuple[tuple[str, bool | None], ...]
    first: str = ""
    limits: str = ""

    @property
    def exact(self) -> bool | None:
        """Whether all that was compared is as predicted; None where nothing was."""
        known = [value for _, value in self.parts if value is not None]
        return all(known) if known else None

    @property
    def what(self) -> str:
        """The IO in words."""
        return f"{_OPS.get(self.op, self.op)} of {human_bytes(self.size)}, buffer of {self.buffer}"


class _Sheet(NamedTuple):
    pen: Pen
    ios: list[Io]
    left: float
    right: float
    narrow: bool


def ios(rows: Iterable[Mapping[str, Any]]) -> list[Io]:
    """Return `rows` (id, op, size in bytes, buffer, parts by name, the first difference, limits) as records."""
    out = []
    for row in rows:
        told = row.get("parts") or {}
        names = [*PARTS, *(name for name in told if name not in PARTS)]
        parts = tuple((name, told[name]) for name in names if name in told)
        limits = row.get("limits") or ""
        if isinstance(limits, Mapping):
            limits = ", ".join(f"{name} {value}" for name, value in limits.items())
        texts = (str(row.get("first") or ""), str(limits))
        out.append(Io(str(row["id"]), str(row["op"]), int(row["size"]), str(row["buffer"]), parts, *texts))
    return out


def residual(rows: Iterable[Mapping[str, Any]], width: int = WIDE) -> Timed:
    """Return the picture of captured IOs: rows with id, op, size, buffer, parts, first, and limits where known."""
    found, narrow = ios(rows), width <= NARROW
    sheet = _Sheet(Pen(), found, 96.0 if narrow else 136.0, width - 12.0, narrow)
    if not found:
        return sheet.pen.done(width, 40, [])
    _gauges(sheet, width)
    height = _matrix(sheet)
    return sheet.pen.done(width, height, [_step(i, io, len(found)) for i, io in enumerate(found)])


def rate(found: Iterable[Io], part: str) -> tuple[int, int]:
    """Return of how many IOs `part` is exact, and of how many it was compared."""
    known = [value for io in found for name, value in io.parts if name == part and value is not None]
    return sum(known), len(known)


def named(found: Iterable[Io]) -> list[str]:
    """Return the parts that any of the IOs has, in order."""
    names = [name for io in found for name, _ in io.parts]
    return [*(name for name in PARTS if name in names), *dict.fromkeys(n for n in names if n not in PARTS)]


def _gauges(sheet: _Sheet, width: int) -> None:
    """Draw a gauge for each part: of how many IOs it is exact."""
    pen, names = sheet.pen, named(sheet.ios)
    across = max(min(len(names), 3 if sheet.narrow else len(names)), 1)
    pitch = (width - 12.0) / across
    for i, name in enumerate(names):
        x, y = i % across * pitch, i // across * 46.0
        right, (good, known) = x + pitch - 18, rate(sheet.ios, name)
        pen.words.append(Word(x, y + 8, name, 12, style="bold", ahead=1))
        text = f"{good:,} of {known:,}" if known else "not compared"
        pen.words.append(Word(right, y + 8, text, 11, "mid", align="right", ahead=1))
        box = (x, y + 18, right, y + 18 + 9)
        pen.shapes.append(Shape(*box, "full" if good < known else "row", ahead=1))
        if good:
            pen.shapes.append(Shape(x, box[1], x + (right - x) * good / known, box[3], "mapped", ahead=1))
        pen.hot.append(Hot(x, y, right, y + 30, (name, text, f"{100 * good / max(known, 1):.1f} % exact")))


def _sizes(found: Iterable[Io]) -> list[int]:
    """Return the columns: each power of two of bytes below which sizes end, from the smallest to the largest."""
    some = [_column(io.size) for io in found]
    return [1 << power for power in range(min(some).bit_length() - 1, max(some).bit_length())]


def _column(size: int) -> int:
    """Return the power of two that a size is, or that it is above."""
    return 1 << max(size.bit_length() - 1, 0)


def _cells(sheet: _Sheet) -> dict[tuple[str, int], list[list[int]]]:
    """Return for each place of the matrix the IOs of each cell, by their index: one in a cell, if there are few."""
    size = -(-len(sheet.ios) // MOST)
    places: dict[tuple[str, int], list[int]] = {}
    for i, io in enumerate(sheet.ios):
        places.setdefault((io.buffer, _column(io.size)), []).append(i)
    return {place: [some[at : at + size] for at in range(0, len(some), size)] for place, some in places.items()}


def _matrix(sheet: _Sheet) -> float:
    """Draw the matrix and the rates at its edges; return where it ends."""
    pen, cells = sheet.pen, _cells(sheet)
    kinds, sizes = sorted({io.buffer for io in sheet.ios}, key=_place), _sizes(sheet.ios)
    y = _TOP + 46.0 * (sheet.narrow and len(named(sheet.ios)) > 3)  # noqa: PLR2004 - gauges in a narrow row
    right = sheet.right - (58 if sheet.narrow else 84)
    pitch = (right - sheet.left) / len(sizes)
    edge = _edge(pitch - 6, max(len(some) for some in cells.values()))
    _sizes_named(sheet, sizes, pitch, y)
    y += 14
    for kind in kinds:
        rows = max(_rows(len(some), pitch - 6, edge) for (name, _), some in cells.items() if name == kind)
        high = max(rows * edge + 6, 22)
        pen.words.append(Word(0, y + high / 2, kind, 11, ahead=1))
        for column, size in enumerate(sizes):
            x = sheet.left + column * pitch
            pen.shapes.append(Shape(x, y, x + pitch - 2, y + high, "frame", ahead=1))
            across = max(int((pitch - 6) // edge), 1)
            for at, mine in enumerate(cells.get((kind, size), ())):
                corner = (x + 3 + at % across * edge, y + 3 + at // across * edge)
                _cell(sheet, mine, corner, edge)
        good = [io.exact for io in sheet.ios if io.buffer == kind and io.exact is not None]
        pen.words.append(Word(right + 8, y + high / 2, f"{sum(good)} of {len(good)}", 11, "mid", ahead=1))
        y += high + 4
    return y + 4


def _place(kind: str) -> tuple[int, str]:
    return (_BUFFERS.index(kind) if kind in _BUFFERS else len(_BUFFERS), kind)


def _edge(pitch: float, most: int) -> float:
    """Return how large a cell may be so that `most` of them take no more than a few rows."""
    edge = _LARGEST
    while edge > _SMALLEST and _rows(most, pitch, edge) * edge > max(pitch, 64):
        edge -= 1
    return edge


def _rows(many: int, pitch: float, edge: float) -> int:
    return -(-many // max(int(pitch // edge), 1))


def _sizes_named(sheet: _Sheet, sizes: Sequence[int], pitch: float, y: float) -> None:
    """Write the smallest size over each column, where there is room."""
    last = -1e9
    size = 11 if sheet.narrow else 12.5
    sheet.pen.words.append(
        Word(0, y, "buffer, size from" if not sheet.narrow else "buffer", size, style="bold", ahead=1)
    )
    for column, nbytes in enumerate(sizes):
        x, text = sheet.left + column * pitch, human_bytes(nbytes)
        if x > last:
            sheet.pen.words.append(Word(x, y, text, 10, "mid", "mono", ahead=1))
            last = x + wide(text, 11) + 4
    sheet.pen.words.append(Word(sheet.right, y, "exact", 10, "mid", align="right", ahead=1))


def _cell(sheet: _Sheet, mine: Sequence[int], corner: tuple[float, float], edge: float) -> None:
    """Draw a cell: exact, not so, or nothing to compare with; the one that is looked at has a frame."""
    pen, (x, y) = sheet.pen, corner
    found = [sheet.ios[i] for i in mine]
    values = [io.exact for io in found]
    role = "full" if False in values else "mapped" if True in values else "empty"
    box = (x, y, x + edge - 2, y + edge - 2)
    pen.shapes.append(Shape(x - 2, y - 2, x + edge, y + edge, "edge", mine[0], mine[-1] + 1))
    pen.shapes.append(Shape(*box, role, ahead=1))
    if role == "full" and edge > 9:  # noqa: PLR2004 - pixels that a sign needs
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        pen.words.append(Word(*middle, "×", 11, "on6", style="bold", align="center", ahead=1, back="full"))
    pen.hot.append(Hot(x - 1, y - 1, x + edge - 1, y + edge - 1, _tip(found), mine[0]))


def _tip(found: Sequence[Io]) -> tuple[str, ...]:
    wrong = next((io for io in found if io.exact is False), None)
    io = wrong or found[0]
    head = io.id if len(found) == 1 else f"{io.id} and {len(found) - 1} more"
    return tuple(text for text in (head, io.what, io.limits, _verdict(io), io.first) if text)


def _verdict(io: Io) -> str:
    """Return in which parts an IO went as predicted, and in which not."""
    if io.exact is None:
        return "nothing of it was compared"
    off = [name for name, value in io.parts if value is False]
    same = [name for name, value in io.parts if value]
    return f"differs in {', '.join(off)}" if off else f"exact: {', '.join(same)}"


def _step(at: int, io: Io, total: int) -> Step:
    limits = f" ({io.limits})" if io.limits else ""
    text = f"{io.id}: {io.what}{limits}: {_verdict(io)}.{f' {io.first}' if io.first else ''}"
    kind = "exact" if io.exact else "not compared" if io.exact is None else "differs"
    return Step(f"{at + 1} of {total:,}", kind, text)


def headline(found: Sequence[Io]) -> tuple[str, str]:
    """Return of how many IOs all is exact, and the rate of each part."""
    if not found:
        return "No IOs", "Nothing was captured, so there is nothing to compare."
    known = [io for io in found if io.exact is not None]
    good = sum(bool(io.exact) for io in known)
    if not known:
        return capital(f"{count(len(found), 'IO')} and nothing to compare with"), "Nothing of them was recorded."
    head = f"All {len(known):,} IOs are exact" if good == len(known) else f"{good:,} of {len(known):,} IOs are exact"
    parts = []
    for name in named(found):
        same, all_ = rate(found, name)
        parts.append(f"{name} {100 * same / all_:.1f} % of {all_:,}" if all_ else f"{name} not compared")
    head = "The one IO is exact" if (good, len(known)) == (1, 1) else head
    return head, capital("; ".join(parts)).replace("100.0 %", "100 %") + "."
