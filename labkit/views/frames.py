"""A real buffer's memory becomes a picture: user pages above, their frames below, and what each bio took of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labkit.units import PAGE_SHIFT, human_bytes
from labkit.views.fold import HUES
from labkit.views.frame_facts import (
    Bio,
    Folio,
    Run,
    bios,
    buckets,
    folios,
    runs,
    sizes,
    there,
    touched,
)
from labkit.views.frame_units import MOST, Unit, steps, units, where, which
from labkit.views.runs import Strip, strip
from labkit.views.steps import NARROW, WIDE, Hot
from labkit.views.timed import Band, Pen, Shape, Timed, Word, wide
from labkit.views.words import address, count

_USER, _FRAMES, _BIOS = (26, 58), (158, 190), (262, 288)
"""Top and bottom of each row."""
_FOLIO, _TALL = 7, 84
"""How much larger than its frames a folio is drawn, and the height of a bar that holds everything."""


class _Sheet(NamedTuple):
    pen: Pen
    left: float
    right: float
    user: Strip
    frames: Strip
    large: list[Folio]
    units: list[Unit]
    narrow: bool


def frames(
    layout: Iterable[Sequence[int]],
    large: Iterable[Sequence[object]] = (),
    queued: Iterable[Sequence[object]] = (),
    width: int = WIDE,
) -> Timed:
    """Return the picture of a buffer: `layout` (page address, PFN or -1, pages), `large` (head PFN, pages, flags).

    `queued` are the bios that it went into, [sector, [[physical address, bytes], ...]].
    """
    found, blocks, taken = runs(layout), folios(large), bios(queued)
    sheet = _sheet(found, blocks, taken, width)
    if not found:
        return sheet.pen.done(width, 40, [])
    _names(sheet, taken)
    _folios(sheet, found)
    if len(found) > MOST:
        _stretches(sheet, found)
    for step, unit in enumerate(sheet.units):
        _unit(sheet, step, unit)
    for number, bio in enumerate(taken):
        _bio(sheet, taken, number, bio)
    height = _facts(sheet, found, (_BIOS[1] if taken else _FRAMES[1]) + 50, width)
    return sheet.pen.done(width, height, steps(sheet.units, found, blocks, taken))


def _sheet(found: Sequence[Run], blocks: list[Folio], taken: Sequence[Bio], width: int) -> _Sheet:
    """Return an empty sheet: user memory and frames to scale, large folios as a whole, what is between left out."""
    left, right = (74.0 if width <= NARROW else 116.0), width - 12.0
    user = strip(((run.va, run.nbytes) for run in found), left, right, 12)
    places = [(run.pa, run.nbytes) for run in there(found)]
    places += [(folio.pfn << PAGE_SHIFT, folio.pages << PAGE_SHIFT) for folio, _ in touched(found, blocks)]
    physical = strip(places, left, right, 14)
    return _Sheet(Pen(), left, right, user, physical, blocks, units(found, taken), width <= NARROW)


def _names(sheet: _Sheet, taken: Sequence[Bio]) -> None:
    """Write the names of the rows, and addresses where there is room for them."""
    rows = {"user pages": _USER, "frames": _FRAMES} | ({"bios": _BIOS} if taken else {})
    for name, (top, bottom) in rows.items():
        word = Word(0, (top + bottom) / 2, name, 11 if sheet.narrow else 12.5, style="bold", ahead=1)
        sheet.pen.words.append(word)
    if not sheet.frames.pieces:
        sheet.pen.words.append(Word(sheet.left, sum(_FRAMES) / 2, "none of these pages has one", 11, "mid", ahead=1))
    for strip_, y in ((sheet.user, _USER[0] - 15), (sheet.frames, _FRAMES[1] + 16)):
        last = -1e9
        for start, _, left, _pixels in strip_.pieces:
            text = address(start) if strip_ is sheet.user else f"{start >> PAGE_SHIFT:#x}"
            if left > last and left + wide(text, 10) < sheet.right + 8:
                sheet.pen.words.append(Word(left, y, text, 10, "faint", "mono", ahead=1))
                last = left + len(text) * 6.4 + 12


def _folios(sheet: _Sheet, found: Sequence[Run]) -> None:
    """Outline the large folios that the buffer lies in, with their order where there is room."""
    some = touched(found, sheet.large)
    for folio, inside in some[:MOST]:
        start, nbytes = folio.pfn << PAGE_SHIFT, folio.pages << PAGE_SHIFT
        x0, x1 = sheet.frames.box(start, nbytes)
        box = (x0 - 1, _FRAMES[0] - _FOLIO, x1 + 1, _FRAMES[1] + _FOLIO)
        sheet.pen.shapes.append(Shape(*box, "folio", ahead=1))
        used = f"{inside} of its pages are the buffer's"
        about = (f"a folio of {human_bytes(nbytes)}, order {folio.pages.bit_length() - 1}", f"PFN {folio.pfn:#x}", used)
        sheet.pen.hot.append(Hot(*box, (*about, *([folio.words.lower()] if folio.words else []))))
        word = Word(x1, _FRAMES[1] + 16, f"order {folio.pages.bit_length() - 1}", 10, "mid", align="right", ahead=1)
        if x1 - x0 > wide(f"{folio.pfn:#x}", 12) + wide(word.text, 10):
            sheet.pen.words.append(word)


def _stretches(sheet: _Sheet, found: Sequence[Run]) -> None:
    """Draw all frames of a buffer that is bundled, those together that a pixel cannot tell apart."""
    pieces = [(left, left + pixels) for _, _, left, pixels in strip_of(found, sheet).pieces]
    size = -(-len(pieces) // MOST)
    for at in range(0, len(pieces), size):
        mine = pieces[at : at + size]
        sheet.pen.shapes.append(Shape(mine[0][0], _FRAMES[0], mine[-1][1], _FRAMES[1], "vec1", ahead=1))


def strip_of(found: Sequence[Run], sheet: _Sheet) -> Strip:
    """Return the frames of runs, each stretch of them where the strip of the sheet has it."""
    out = []
    for run in sorted(there(found), key=lambda run: run.pfn):
        x0, x1 = sheet.frames.box(run.pa, run.nbytes)
        out.append((run.pa, run.nbytes, x0, x1 - x0))
    return Strip(tuple(out))


def _unit(sheet: _Sheet, step: int, unit: Unit) -> None:
    """Draw a unit: its user pages, its frames, a ribbon between; at its step in full, else pale."""
    pen, one, last = sheet.pen, unit.runs[0], unit.runs[-1]
    box = (sheet.user.box(one.va, one.nbytes)[0], _USER[0], sheet.user.box(last.va, last.nbytes)[1], _USER[1])
    alone, total = len(unit.runs) == 1, sum(len(each.runs) for each in sheet.units)
    pen.shapes.append(Shape(*box, unit.role, ahead=1))
    pen.shapes.append(Shape(box[0], _USER[0] - 5, max(box[2], box[0] + 3), _USER[0] - 2, "edge", step, step + 1))
    tip = (which(unit, total), address(one.va), where(one) + ("" if alone else " and elsewhere"))
    pen.hot.append(Hot(*box, tip, step))
    text = "not there" if one.pfn < 0 else f"{count(one.pages, 'page')}"
    pen.fit(box, text if alone else "", Word(0, 0, "", 10.5, _ink(unit.role), ahead=1, back=unit.role))
    if one.pfn < 0:
        return
    x0, x1 = sheet.frames.box(one.pa, one.nbytes)
    x1 = max(x1, x0 + 1)
    pen.shapes.append(Shape(x0, _FRAMES[0], x1, _FRAMES[1], unit.role, ahead=1))
    pen.shapes.append(Shape(x0, _FRAMES[1] + 2, max(x1, x0 + 3), _FRAMES[1] + 5, "edge", step, step + 1))
    pen.hot.append(Hot(x0, _FRAMES[0], x1, _FRAMES[1], tip, step))
    end = box[2] if alone else max(sheet.user.box(one.va, one.nbytes)[1], box[0] + 1)
    ends, pale = (_USER[1] + 2, box[0], end, _FRAMES[0] - _FOLIO - 2, x0, x1), _pale(len(sheet.units))
    pen.bands.append(Band(*ends, unit.role, step, step + 1, pale, 0.7, pale))


def _ink(role: str) -> str:
    return f"on{role[2:]}" if role.startswith("rq") else {"absent": "ink", "vec0": "ongrey"}.get(role, "on0")


def _pale(many: int) -> float:
    """Return how opaque ribbons are that nobody looks at: the more there are, the less."""
    return min(max(8 / max(many, 1), 0.06), 0.2)


def _bio(sheet: _Sheet, taken: Sequence[Bio], number: int, bio: Bio) -> None:
    """Draw a bio as wide as its bytes, and ribbons from the frames that it took."""
    pen, step = sheet.pen, len(sheet.units) + number
    before, total = sum(each.nbytes for each in taken[:number]), sum(each.nbytes for each in taken) or 1
    scale = (sheet.right - sheet.left - 3 * (len(taken) - 1)) / total
    x0 = sheet.left + before * scale + 3 * number
    box = (x0, _BIOS[0], x0 + bio.nbytes * scale, _BIOS[1])
    role = f"rq{number % HUES}" if len(taken) > 1 else "mapped"
    pen.shapes.append(Shape(*box, role, ahead=1))
    pen.shapes.append(Shape(box[0], _BIOS[1] + 3, box[2], _BIOS[1] + 6, "edge", step, step + 1))
    texts = (f"bio {number + 1}: {human_bytes(bio.nbytes)}, {count(len(bio.vecs), 'vector')}", f"{number + 1}")
    text = next((text for text in texts if wide(text, 10.5) + 6 < box[2] - box[0]), texts[-1])
    pen.fit(box, text, Word(0, 0, "", 10.5, _ink(role), ahead=1, back=role))
    pen.hot.append(Hot(*box, (texts[0], f"sector {bio.sector:,}"), step))
    vecs = sum(len(each.vecs) for each in taken)
    at, size, pale = x0, -(-vecs // MOST), _pale(vecs)
    for i, (addr, nbytes) in enumerate(bio.vecs):
        if i % size == 0 and any(start <= addr < start + n for start, n, _, _ in sheet.frames.pieces):
            a0, a1 = sheet.frames.box(addr, nbytes)
            ends = (_FRAMES[1] + _FOLIO + 16, a0, max(a1, a0 + 1), _BIOS[0] - 2, at, max(at + nbytes * scale, at + 1))
            pen.bands.append(Band(*ends, role, step, step + 1, pale, 0.55, pale))
        at += nbytes * scale


def _facts(sheet: _Sheet, found: Sequence[Run], top: float, width: int) -> float:
    """Draw the histogram of run lengths and what there is to say beside it; return where the page ends."""
    pen, some = sheet.pen, buckets(found)
    pages = sum(bucket.pages for bucket in some) or 1
    if not some:
        return _told(sheet, found, (sheet.left, top))
    edge = sheet.right if sheet.narrow else width * 0.6
    pen.words.append(Word(0, top, "pages in runs of this many pages", 12, style="bold", ahead=1))
    base = top + 28 + _TALL
    each = min((edge - sheet.left) / max(len(some), 1), 120)
    pen.shapes.append(Shape(sheet.left, base, edge, base + 1, "wire", ahead=1, past=1))
    for i, bucket in enumerate(some):
        x0, x1 = sheet.left + i * each + 4, sheet.left + (i + 1) * each - 4
        box = (x0, base - max(_TALL * bucket.pages / pages, 1.5), x1, base)
        tip = (f"{count(bucket.runs, 'run')} of {bucket.name} pages", f"{bucket.pages:,} of {pages:,} pages")
        pen.hot.append(Hot(x0, base - _TALL, x1, base + 16, tip))
        if bucket.pages:
            pen.shapes.append(Shape(*box, "gauge", ahead=0.85, now=0.85, past=0.85))
            pen.words.append(Word((x0 + x1) / 2, box[1] - 9, f"{bucket.pages:,}", 10.5, align="center", ahead=1))
        if wide(bucket.name, 10) < each:
            pen.words.append(Word((x0 + x1) / 2, base + 12, bucket.name, 10, "mid", "mono", align="center", ahead=1))
    return _told(sheet, found, (sheet.left, base + 44) if sheet.narrow else (width * 0.66, top))


def _told(sheet: _Sheet, found: Sequence[Run], corner: tuple[float, float]) -> float:
    """Write what there is to say of the memory, a line each; return where the page ends."""
    x, y = corner
    real = there(found)
    lines = [("runs", f"{len(real):,}")]
    if real:
        pages = [run.pages for run in real]
        lines += [("longest run", count(max(pages), "page")), ("mean", f"{sum(pages) / len(pages):.1f} pages")]
    lines += [(f"in folios of {human_bytes(n)}", f"{pages:,} pages") for n, pages in sizes(found, sheet.large)]
    if lost := sum(run.pages for run in found if run.pfn < 0):
        lines.append(("not there", count(lost, "page")))
    if len(sheet.units) < len(found):
        lines.append(("drawn in bundles of", f"{len(sheet.units[0].runs)} runs, a ribbon to the first"))
    for i, (name, text) in enumerate(lines):
        sheet.pen.words.append(Word(x, y + 20 * i, name, 11.5, "mid", ahead=1))
        sheet.pen.words.append(Word(x + 140, y + 20 * i, text, 11.5, style="bold", ahead=1))
    return max(y + 20 * len(lines), corner[1] + 140 if not sheet.narrow else 0)
