"""The steps of a split become a picture: one bio, vector by vector, what it fills, and where a limit cuts it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from labkit.units import SECTOR_SHIFT, human_bytes
from labkit.views.fold import HUES
from labkit.views.journey import NEVER
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import address, capital, count

MOST = 600
"""Vectors that can be walked one by one; of a longer bio the first ones are shown."""
_VECTORS, _PIECES, _RULER, _GAUGES, _ROW = (34, 74), (84, 116), (150, 160), 196, 34
_RULES = {
    "SPLIT-2": "the most sectors of a request, and boundaries on the device",
    "SPLIT-3": "alignment", "SPLIT-3b": "gaps in memory", "SPLIT-3d": "segments",
}  # fmt: skip


class TakenLike(Protocol):
    """As much of a step of a walk as the picture needs."""

    @property
    def piece(self) -> int: ...  # noqa: D102 - the names say it, here and below
    @property
    def vec(self) -> int: ...  # noqa: D102
    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def addr(self) -> int: ...  # noqa: D102
    @property
    def nbytes(self) -> int: ...  # noqa: D102
    @property
    def segments(self) -> int: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def most(self) -> int: ...  # noqa: D102
    @property
    def rule(self) -> str: ...  # noqa: D102
    @property
    def why(self) -> str: ...  # noqa: D102


class LimitsLike(Protocol):
    """As much of the limits of a queue as the picture needs."""

    @property
    def max_segments(self) -> int: ...  # noqa: D102
    @property
    def max_sectors(self) -> int: ...  # noqa: D102
    @property
    def chunk_sectors(self) -> int: ...  # noqa: D102
    @property
    def virt_boundary_mask(self) -> int: ...  # noqa: D102


class _Sheet(NamedTuple):
    pen: Pen
    left: float
    right: float
    total: int
    taken: Sequence[TakenLike]

    def x(self, at: int) -> float:
        return self.left + (self.right - self.left) * at / max(self.total, 1)


def split(taken: Iterable[TakenLike], limits: LimitsLike, sector: int = 0, width: int = WIDE) -> Timed:
    """Return the picture of the walk `taken` over a bio that begins at `sector`."""
    rows = list(taken)[: 2 * MOST]
    total = max((row.start + row.nbytes for row in rows), default=0)
    sheet = _Sheet(Pen(), 78.0 if width <= NARROW else 116.0, width - 12.0, total, rows)
    _names(sheet, width)
    for step, row in enumerate(rows):
        if row.nbytes:
            _vector(sheet, step, row)
    _pieces(sheet)
    for step, row in enumerate(rows):
        if not row.nbytes:
            _cut(sheet, step, row)
    _ruler(sheet, limits, sector)
    _gauge(sheet, 0, "segments", [row.segments for row in rows], [limits.max_segments] * len(rows), str)
    _gauge(sheet, 1, "bytes", [row.total for row in rows], [row.most for row in rows], human_bytes)
    return sheet.pen.done(width, _GAUGES + 2 * _ROW + 8, steps(rows, limits))


def steps(rows: Sequence[TakenLike], limits: LimitsLike) -> list[Step]:
    """Return a step for each vector that is taken, and for each cut."""
    out = []
    for row in rows:
        where = f"piece {row.piece + 1}"
        if not row.nbytes:
            text = f"Cut: {row.why} ({row.rule}). The front goes on as a request, the rest begins anew."
            out.append(Step(where, "cut", text, "bio_split", "upstream"))
            continue
        now = f"{row.segments} of {limits.max_segments} segments"
        much = f"{human_bytes(row.total)} of {human_bytes(row.most)}"
        text = f"{human_bytes(row.nbytes)} at {address(row.addr)} fit: {now}, {much}."
        out.append(Step(where, f"vector {row.vec}", text, "bio_split_io_at", "upstream"))
    return out


def headline(rows: Sequence[TakenLike], total: int) -> tuple[str, str]:
    """Return what came of the bio, and by which rules."""
    vecs, cuts = len({row.vec for row in rows}), [row for row in rows if not row.nbytes]
    pieces = max((row.piece for row in rows), default=-1) + 1
    head = f"A bio of {human_bytes(total)} in {count(vecs, 'vector')} becomes {count(pieces, 'piece')}"
    if not cuts:
        return head, "No limit is in its way."
    rules = {row.rule: sum(cut.rule == row.rule for cut in cuts) for row in cuts}
    told = "; ".join(f"{count(n, 'cut')} by {rule}, {_RULES.get(rule, 'a limit')}" for rule, n in rules.items())
    return head, f"{capital(told)}."


def _names(sheet: _Sheet, width: int) -> None:
    size = 11 if width <= NARROW else 12.5
    for name, (top, bottom) in (("memory", _VECTORS), ("pieces", _PIECES), ("device", _RULER)):
        sheet.pen.words.append(Word(0, (top + bottom) / 2, name, size, style="bold", ahead=1))
    ends = ((sheet.left, "byte 0 of the bio", "left"), (sheet.right, human_bytes(sheet.total), "right"))
    for x, text, align in ends:
        sheet.pen.words.append(Word(x, 12, text, 10, "mid", align=align, ahead=1))


def _vector(sheet: _Sheet, step: int, row: TakenLike) -> None:
    """Draw a vector: pale until the walk has come to it, in ink while it is looked at, then in the hue of its piece."""
    pen, hue = sheet.pen, row.piece % HUES
    box = sheet.x(row.start), _VECTORS[0], sheet.x(row.start + row.nbytes), _VECTORS[1]
    pen.shapes.append(Shape(*box, "row", 0, step + 1, 1.0, 1.0, 0.0))
    pen.shapes.append(Shape(*box, f"rq{hue}", step, NEVER))
    pen.shapes.append(Shape(box[0], _VECTORS[0] - 8, box[2], _VECTORS[0] - 3, "edge", step, step + 1))
    same = [i for i, other in enumerate(sheet.taken) if other.nbytes and other.start == row.start]
    pen.fit(box, human_bytes(row.nbytes), Word(0, 0, "", 10, f"on{hue}", t1=step, back=f"rq{hue}"))
    tip = (f"{human_bytes(row.nbytes)} at {address(row.addr)}", f"up to {address(row.addr + row.nbytes)}")
    pen.hot.append(Hot(*box, tip, same[0] if same else step))


def _cut(sheet: _Sheet, step: int, row: TakenLike) -> None:
    x = sheet.x(row.start)
    top, bottom = _VECTORS[0] - 10, _PIECES[1] + 6
    sheet.pen.shapes.append(Shape(x - 1.5, top, x + 1.5, bottom, "cut", step))
    sheet.pen.hot.append(Hot(x - 5, top, x + 5, bottom, (f"cut: {row.rule}", row.why), step))
    every = [other for other in sheet.taken if not other.nbytes]
    room = (sheet.right - sheet.left) / max(len(every), 1)
    right = x + wide(row.rule, 10.5) > sheet.right
    if room > wide(row.rule, 10.5) + 10:
        word = Word(x, bottom + 8, row.rule, 10.5, style="bold", align="right" if right else "center", t1=step)
        sheet.pen.words.append(word)


def _pieces(sheet: _Sheet) -> None:
    """Draw each piece as far as the walk has come, and what it is when it is cut off."""
    for number in sorted({row.piece for row in sheet.taken}):
        mine = [(step, row) for step, row in enumerate(sheet.taken) if row.piece == number]
        taken = [(step, row) for step, row in mine if row.nbytes]
        if not taken:
            continue
        first, hue = taken[0][1].start, number % HUES
        for (step, row), after in zip(taken, [*(at for at, _ in taken[1:]), NEVER], strict=True):
            box = sheet.x(first), _PIECES[0], sheet.x(row.start + row.nbytes), _PIECES[1]
            sheet.pen.shapes.append(Shape(*box, f"rq{hue}", step, after))
        last = taken[-1][1]
        box = sheet.x(first), _PIECES[0], sheet.x(last.start + last.nbytes), _PIECES[1]
        end = taken[-1][0]
        word = Word(0, 0, "", 11, f"on{hue}", style="bold", t1=end, back=f"rq{hue}")
        texts = (f"piece {number + 1}: {human_bytes(last.total)}, {count(last.segments, 'segment')}", f"{number + 1}")
        sheet.pen.fit(box, next((t for t in texts if wide(t, 11) + 6 < box[2] - box[0]), texts[-1]), word)


def _ruler(sheet: _Sheet, limits: LimitsLike, sector: int) -> None:
    """Draw the device: sectors, and the multiples of chunk_sectors that no request crosses."""
    pen, (top, bottom) = sheet.pen, _RULER
    pen.shapes.append(Shape(sheet.left, top, sheet.right, bottom, "row", ahead=1))
    chunk = limits.chunk_sectors << SECTOR_SHIFT
    first = -(sector << SECTOR_SHIFT) % chunk if chunk else 0
    marks = list(range(first, sheet.total + 1, chunk)) if chunk else []
    pen.words.append(Word(sheet.left, bottom + 11, f"sector {sector:,}", 10, "faint", "mono", ahead=1))
    last = sheet.left + 90
    for at in marks[:200]:
        x = sheet.x(at)
        pen.shapes.append(Shape(x - 1, top - 4, x + 1, bottom + 4, "edge", ahead=1))
        text = f"{sector + (at >> SECTOR_SHIFT):,}"
        if x - wide(text, 10) / 2 > last:
            pen.words.append(Word(x, bottom + 11, text, 10, "faint", "mono", align="center", ahead=1))
            last = x + wide(text, 10) / 2 + 8


def _gauge(sheet: _Sheet, row: int, name: str, values: Sequence[int], most: Sequence[int], say: object) -> None:
    """Draw a bar for each step: how much of a limit is used, in another look where all of it is."""
    pen, top = sheet.pen, _GAUGES + row * _ROW
    room = 150
    left, right, bottom = sheet.left, sheet.right - room, top + 16
    pen.words.append(Word(0, top + 8, name, 11, ahead=1))
    pen.shapes.append(Shape(left, top, right, bottom, "row", ahead=1))
    step = 0
    while step < len(values):
        end = step + 1
        while end < len(values) and (values[end], most[end]) == (values[step], most[step]):
            end += 1
        share = min(values[step] / max(most[step], 1), 1)
        role = "full" if share == 1 else "gauge"
        until = NEVER if end == len(values) else end
        pen.shapes.append(Shape(left, top, left + (right - left) * share, bottom, role, step, until))
        text = f"{say(values[step])} of {say(most[step])}"  # type: ignore[operator]
        pen.words.append(Word(right + 10, top + 8, text, 11, "ink", "mono", t1=step, t4=until))
        step = end
