"""User memory becomes a column of cards: a mapping each, and in it the bytes that IOs touch."""

from collections.abc import Iterable, Sequence
from math import log2
from typing import NamedTuple

from labkit.trace.events import IoUringSubmitReq, Mmap, Munmap, SysEnter
from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, human_bytes
from labkit.views.fold import Place
from labkit.views.journey import Io
from labkit.views.shapes import Card, Text
from labkit.views.strips import Run, runs, stack
from labkit.views.words import address

_HEAD, _PAD, _GAP, _CLOSED = 25, 6, 10, 26
_MOST = 9
"""Mappings that are drawn; touched ones come first."""


class Buffers(NamedTuple):
    """The column: cards and words that stand still, and the runs of addresses that the IOs touch."""

    cards: list[Card]
    texts: list[Text]
    runs: list[Run]


class _Vma(NamedTuple):
    addr: int
    nbytes: int
    name: str
    prot: str
    touched: tuple[Place, ...]


def height(nbytes: int) -> float:
    """Return how tall so many bytes are drawn, in pixels: 46 for a page, and 40 more for each doubling but one."""
    return 46 + 40 * max(0.0, log2(max(nbytes, PAGE_SIZE) / PAGE_SIZE))


def buffers(trace: Trace, ios: Sequence[Io], edges: tuple[float, float, float, float]) -> Buffers:
    """Return the column within `edges` (left, top, right, bottom)."""
    left, top, right, bottom = edges
    vmas = _vmas(trace, runs(sorted(_asked(trace, ios))))
    fixed = sum(_GAP + (_HEAD + 2 * _PAD if vma.touched else _CLOSED) for vma in vmas)
    total = sum(n for vma in vmas for _, n in vma.touched)
    room = min(height(total), bottom - top - fixed) if total else 0
    y = top + max(0.0, bottom - top - fixed - room) / 3
    out = Buffers([], [], [])
    for vma in vmas:
        mine = sum(n for _, n in vma.touched)
        tall = _HEAD + 2 * _PAD + room * mine / total if mine else _CLOSED
        out.cards.append(Card(left, y, right, y + tall))
        out.texts.extend(_words(vma, left, right, y))
        asked = stack(vma.touched, y + _HEAD, y + tall - _PAD, 8)
        out.cards.extend(Card(left + 6, run.top, right, run.bottom, "asked") for run in asked)
        out.runs.extend(asked)
        y += tall + _GAP
    return out


def _asked(trace: Trace, ios: Sequence[Io]) -> Iterable[Place]:
    """Yield the memory of each IO: piece by piece, where it is in several."""
    iovs = {rec.io: rec.iov for rec in trace.records if isinstance(rec, SysEnter | IoUringSubmitReq)}
    for io in ios:
        yield from (place for place in iovs.get(io.io) or ((io.buf, io.nbytes),) if place[1])


def _words(vma: _Vma, left: float, right: float, y: float) -> Iterable[Text]:
    yield Text(left - 8, y + 13, address(vma.addr), 10, "faint", "mono", align="right")
    yield Text(left + 8, y + 13, f"{vma.name[:12]}", 11, "ink", style="bold")
    yield Text(right - 8, y + 13, f"{human_bytes(vma.nbytes)}  {vma.prot[:4]}", 10, "mid", align="right")


def _vmas(trace: Trace, touched: Sequence[Place]) -> list[_Vma]:
    """Return the mappings in the order of addresses; a touched range without one has a card too."""
    out = [_Vma(m.addr, m.len, m.name, m.prot, tuple(_within(touched, m.addr, m.len))) for m in _mapped(trace)]
    covered = sorted(place for vma in out for place in vma.touched)
    out += [_Vma(*hole, "no mapping", "", (hole,)) for place in touched for hole in _holes(place, covered)]
    out.sort(key=lambda vma: (not vma.touched, vma.addr))
    return sorted(out[:_MOST], key=lambda vma: vma.addr)


def _mapped(trace: Trace) -> Iterable[Mmap]:
    """Return the mappings that some IO may have found: those not gone before the first one begins."""
    known: dict[int, Mmap] = {}
    begun = False
    for rec in trace.records:
        begun = begun or isinstance(rec, SysEnter)
        if isinstance(rec, Mmap):
            known[rec.addr] = rec
        elif isinstance(rec, Munmap) and not begun:
            known.pop(rec.addr, None)
    return known.values()


def _within(touched: Sequence[Place], addr: int, nbytes: int) -> Iterable[Place]:
    """Yield what of `touched` lies in a mapping."""
    for start, length in touched:
        lo, hi = max(start, addr), min(start + length, addr + nbytes)
        if lo < hi:
            yield lo, hi - lo


def _holes(place: Place, covered: Sequence[Place]) -> Iterable[Place]:
    """Yield what of a range no mapping covers."""
    at, end = place[0], sum(place)
    for addr, nbytes in (*covered, (end, 0)):
        if at < min(addr, end):
            yield at, min(addr, end) - at
        at = max(at, addr + nbytes)
