"""A file becomes a picture: its bytes above, the device below, a ribbon for each extent, folios and bios over time."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT, human_bytes, human_ns
from labkit.views.file_steps import CachedFolio, FileBio, FileStory, Lie, Span, file_story
from labkit.views.journey import NEVER
from labkit.views.runs import Strip, strip
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.story import story
from labkit.views.story_io import KINDS
from labkit.views.timed import Band, Pen, Shape, Timed, Word
from labkit.views.words import count

_FOLIOS, _FILE, _DEVICE, _BIOS = (8, 44), (80, 132), (238, 280), (302, 330)
"""Top and bottom of each row."""
_HEIGHT, _NO_CACHE = 342, 56
"""Pixels in all, and how many of them are saved where there is no page cache."""
_MARK = 6
INKS = {"mapped": "on0", "unwritten": "on1", "delalloc": "on4", "inline": "on2", "shared": "on3", "hole": "mid"}


class _Sheet(NamedTuple):
    pen: Pen
    told: FileStory
    file: Strip
    device: Strip
    up: float
    """Pixels by which all is higher than where there is a page cache."""
    left: float
    narrow: bool


def extents(trace: Trace, layout: Iterable[tuple[int, int, int, str]] = (), width: int = WIDE) -> Timed:
    """Return the picture of the file that `trace` reads or writes.

    `layout`: (offset, bytes, byte of the device or -1, type) of what is known of it before the first record.
    """
    told, narrow = file_story(trace, layout), width <= NARROW
    left, right = (72.0 if narrow else 116.0), width - 12.0
    file = Strip(((0, max(told.isize, 1), left, right - left),))
    up = 0 if told.folios else _NO_CACHE
    sheet = _Sheet(Pen(), told, file, _device(told, left, right), up, left, narrow)
    _rows(sheet)
    seen = list(_first(told.lies))
    for lie in seen:
        _extent(sheet, lie)
    _window(sheet)
    for folio in told.folios:
        _folio(sheet, folio)
    for bio in told.bios:
        _bio(sheet, bio)
    return sheet.pen.done(width, _HEIGHT - up, steps(trace, told))


def steps(trace: Trace, told: FileStory) -> list[Step]:
    """Return a step for each record that matters to the file."""
    lines = story(trace)
    return [Step(human_ns(lines[at].t), *lines[at][1:]) for at in told.told]


def headline(trace: Trace, told: FileStory) -> tuple[str, str]:
    """Return a headline of the picture, and the sentence under it."""
    seen = list(_first(told.lies))
    kinds = {kind: sum(lie.length for lie in seen if _role(lie) == kind) for kind in dict.fromkeys(map(_role, seen))}
    what = f"{count(len(seen), 'extent')} of " if seen else ""
    head = f"{what}a file of {human_bytes(told.isize)}, {count(len(told.bios), 'bio')}"
    parts = [f"{human_bytes(n)} {kind}" for kind, n in kinds.items()]
    if told.folios:
        parts.append(f"{count(len(told.folios), 'folio')} in the page cache")
    beside = sum(bio.nbytes for bio in told.bios if bio.zeros)
    if beside:
        parts.append(f"{human_bytes(beside)} of zeros written beside the data")
    if told.zeros:
        parts.append(f"{human_bytes(sum(span.nbytes for span in told.zeros))} zeroed by the CPU")
    kernel = str(trace.meta.get("kernel", ""))
    return head[:1].upper() + head[1:], "; ".join([*parts, f"rules of {kernel}" if kernel else ""]).rstrip("; ") + "."


def _first(lies: Sequence[Lie]) -> Iterator[Lie]:
    """Yield what is told of the file for the first time: later calls see the same extents again."""
    seen: list[tuple[int, int, int, str]] = []
    for lie in lies:
        lo, hi, place = lie.offset, lie.offset + lie.length, lie.addr - lie.offset if lie.addr >= 0 else -1
        if not any(a <= lo and hi <= b and (place, lie.type) == (at, kind) for a, b, at, kind in seen):
            seen.append((lo, hi, place, lie.type))
            yield lie


def _role(lie: Lie) -> str:
    if "shared" in lie.flags.split():
        return "shared"
    return lie.type


def _device(told: FileStory, left: float, right: float) -> Strip:
    """Return the strip of the device: what the file and the bios touch, and folded gaps between."""
    places = [(lie.addr, lie.length) for lie in told.lies if lie.addr >= 0]
    places += [(bio.addr, bio.nbytes) for bio in told.bios]
    return strip(places, left, right)


def _rows(sheet: _Sheet) -> None:
    """Write the names of the rows, the ends of the file and the first sector of each run on the device."""
    pen, up, size = sheet.pen, sheet.up, 11 if sheet.narrow else 12.5
    names = {"page cache": _FOLIOS, "file": _FILE, "device": _DEVICE, "bios": _BIOS}
    for name, (top, bottom) in names.items():
        if name != "page cache" or sheet.told.folios:
            pen.words.append(Word(0, (top + bottom) / 2 - up, name, size, style="bold", ahead=1))
    whole = sheet.file.pieces[0]
    pen.shapes.append(Shape(whole[2], _FILE[0] - up, whole[2] + whole[3], _FILE[1] - up, "row", ahead=1))
    ends = ((whole[2], "0", "left"), (whole[2] + whole[3], human_bytes(whole[1]), "right"))
    for x, text, align in ends:
        pen.words.append(Word(x, _FILE[0] - 9 - up, text, 10, "mid", align=align, ahead=1))
    last = 0.0
    for start, _, left, wide in sheet.device.pieces:
        pen.shapes.append(Shape(left, _DEVICE[0] - up, left + wide, _DEVICE[1] - up, "row", ahead=1))
        text = f"{start >> SECTOR_SHIFT:,}" if last else f"sector {start >> SECTOR_SHIFT:,}"
        if left > last:
            pen.words.append(Word(left, _DEVICE[1] + 11 - up, text, 10, "faint", "mono", ahead=1))
            last = left + len(text) * 6.4 + 12


def _extent(sheet: _Sheet, lie: Lie) -> None:
    """Draw an extent in the file, on the device, and the ribbon between; what is written is mapped from then on."""
    pen, up = sheet.pen, sheet.up
    x0, x1 = sheet.file.x(lie.offset), sheet.file.x(lie.offset + lie.length)
    role, looks = _role(lie), _looks(lie)
    states = [(looks, lie.step, lie.settled, 0.25)]
    if lie.settled < NEVER:
        states.append(("mapped", lie.settled, NEVER, 0.0))
    for look, t1, t4, ahead in states:
        box = (x0, _FILE[0] - up, x1, _FILE[1] - up)
        pen.shapes.append(Shape(*box, look, t1, t4, ahead))
        name = f"{role}{' new' if 'new' in lie.flags.split() else ''}" if look == looks else look
        word = Word(0, 0, "", 10.5, INKS[look], style="bold", t1=t1, t4=t4, back=look)
        pen.fit((*box[:3], box[3] - 14), name, word)
        pen.hot.append(Hot(*box, _tip(lie), lie.step))
        if lie.addr >= 0:
            d0, d1 = sheet.device.x(lie.addr), sheet.device.x(lie.addr + lie.length)
            ribbon = Band(_FILE[1] - up + 2, x0, x1, _DEVICE[0] - up - 2, d0, d1, look, t1, t4)
            pen.bands.append(ribbon._replace(ahead=ahead / 3))
            pen.shapes.append(Shape(d0, _DEVICE[0] - up, d1, _DEVICE[1] - up, look, t1, t4, ahead))
            pen.hot.append(Hot(d0, _DEVICE[0] - up, d1, _DEVICE[1] - up, _tip(lie), lie.step))


def _looks(lie: Lie) -> str:
    role = _role(lie)
    return role if role in INKS else "mapped"


def _tip(lie: Lie) -> tuple[str, ...]:
    """Return what is said of an extent that is pointed at."""
    place = f"sector {lie.addr >> SECTOR_SHIFT:,} of the device" if lie.addr >= 0 else "nowhere on the device"
    span = f"bytes {lie.offset:,} to {lie.offset + lie.length - 1:,}, {human_bytes(lie.length)}"
    kind = f"{_role(lie)}: {KINDS.get(lie.type, lie.type)}"
    return (kind, span, place, *([lie.flags] if lie.flags else []))


def _window(sheet: _Sheet) -> None:
    """Mark what each call asked for, what the CPU copied, and where it wrote zeros instead of reading."""
    pen, up, told = sheet.pen, sheet.up, sheet.told
    for call in told.calls:
        x0, x1 = sheet.file.x(call.offset), max(sheet.file.x(call.offset + call.nbytes), sheet.file.x(call.offset) + 2)
        edges = (_FILE[1] + 3 - up, _FILE[1] + 8 - up)
        if call.nbytes:
            pen.shapes.append(Shape(x0, edges[0], x1, edges[1], "edge", call.begin, call.end, 0, 1, 0.18))
            word = Word((x0 + x1) / 2, edges[1] + 9, f"the IO: {human_bytes(call.nbytes)}", 10.5, align="center")
            pen.words.append(word._replace(t1=call.begin, t4=call.end))
    for span in told.zeros:
        _strip(sheet, span, "zero", (_FILE[1] - 15 - up, _FILE[1] - 1 - up), "zeros")
    for span in told.copies:
        _strip(sheet, span, "edge", (_FOLIOS[1] + 5 - up, _FOLIOS[1] + 10 - up), "")


def _strip(sheet: _Sheet, span: Span, role: str, edges: tuple[float, float], text: str) -> None:
    x0, x1 = sheet.file.x(span.offset), sheet.file.x(span.offset + span.nbytes)
    sheet.pen.shapes.append(Shape(x0, edges[0], x1, edges[1], role, span.begin, span.end, past=0.15))
    if text:
        tip = (f"the CPU writes {text}", f"{human_bytes(span.nbytes)} of the buffer")
        sheet.pen.hot.append(Hot(x0, edges[0], x1, edges[1], tip, span.begin))


def _folio(sheet: _Sheet, folio: CachedFolio) -> None:
    """Draw a folio as wide as its bytes, and what it is marked with, for as long as it is."""
    pen, up = sheet.pen, sheet.up
    x0, x1 = sheet.file.x(folio.offset), sheet.file.x(folio.offset + folio.nbytes)
    box = (x0, _FOLIOS[0] - up, x1, _FOLIOS[1] - up)
    pen.shapes.append(Shape(*box, "empty", folio.came, folio.gone, 0.0, 1.0, 0.1))
    for name, begin, end in folio.marks:
        top, bottom = {
            "uptodate": (box[1], box[3]), "dirty": (box[1], box[1] + _MARK), "writeback": (box[3] - _MARK, box[3])
        }[name]  # fmt: skip
        pen.shapes.append(Shape(x0, top, x1, bottom, name, begin, min(end, folio.gone)))
    order = (folio.nbytes >> 12).bit_length() - 1
    pen.fit(box, f"order {order}", Word(0, 0, "", 10.5, t1=folio.came, t4=folio.gone))
    tip = (f"a folio of {human_bytes(folio.nbytes)}, order {order}", f"bytes {folio.offset:,} on, at {folio.addr:#x}")
    pen.hot.append(Hot(*box, tip, folio.came))


def _bio(sheet: _Sheet, bio: FileBio) -> None:
    pen, up = sheet.pen, sheet.up
    x0, x1 = sheet.device.x(bio.addr), sheet.device.x(bio.addr + bio.nbytes)
    box = (x0, _BIOS[0] - up, x1, _BIOS[1] - up)
    role = "zero" if bio.zeros else "bio"
    pen.shapes.append(Shape(*box, role, bio.queued, bio.done, 0.1, 1.0, 0.35))
    text = f"bio {bio.bio}: zeros" if bio.zeros else f"bio {bio.bio}"
    pen.fit(box, text, Word(0, 0, "", 10.5, t1=bio.queued, back=role))
    state = () if bio.done == NEVER else ("done before the trace ends",)
    tip = (f"bio {bio.bio}: {human_bytes(bio.nbytes)}", f"sector {bio.addr >> SECTOR_SHIFT:,}", *state)
    pen.hot.append(Hot(*box, tip, bio.queued))
