"""A walk finds its places on the page: the address, four tables, pages, frames and phyrs, and what it costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from labkit.units import PAGE_SHIFT, PAGE_SIZE, human_bytes
from labkit.views.shapes import Columns, Label, Ribbon, Text, columns
from labkit.views.steps import NARROW, WIDE, Hot
from labkit.views.walk import BITS, LEVELS, Cost, Walk
from labkit.views.words import address

HUES = 6
_ROOMY = 110
"""Pixels of a column from which on its heading says more."""
_LINE = 13
"""Pixels that a line of small text needs, downwards."""
METERS = (
    ("entries", "", "page table entries read"),
    ("atomics_today", "atomics_phyr", "atomic operations"),
    ("struct_pages", "", "struct pages touched"),
    ("bytes_today", "bytes_phyr", "bytes that describe it"),
)
"""What is counted: today's field, phyr's ('' for one that is always 0 or the same), what it is called."""


class Block(NamedTuple):
    """A box of one column: whose phyr, and from which step until which it grows."""

    left: float
    top: float
    right: float
    bottom: float
    hue: int
    phyr: int
    t1: int
    t2: int


class Table(NamedTuple):
    """Where one level is drawn: its 512 entries between `top` and `bottom`."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Sheet:
    """The picture as columns, for one width."""

    width: float
    height: float
    texts: Columns
    starts: Columns
    """The addresses of runs of frames, written over ribbons."""
    names: Columns
    """The names of phyrs: `t4` is the step from which on all of it is found."""
    fields: list[tuple[float, float, float]]
    """(left, right, middle) of the five fields of an address: four indexes and the offset."""
    field_top: float
    tables: list[Table]
    chips: list[tuple[float, float]]
    chip_top: float
    blocks: dict[str, Columns]
    ribbons: dict[str, Columns]
    gauges: list[tuple[float, float, float, bool]]
    """(left, right, top, whether it is today's) of each counter's bar."""
    hot: Columns


class _Edges(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def lay(found: Walk, width: int = WIDE) -> Sheet:
    """Return the picture of a walk, in two columns where there is room for them."""
    narrow = width <= NARROW
    tables = _Edges(1, 0, width - 1, 520) if narrow else _Edges(1, 0, 690, 640)
    flow = _Edges(1, 556, width - 1, 960) if narrow else _Edges(780, 0, width - 1, 452)
    meters = _Edges(1, 1000, width - 1, 1150) if narrow else _Edges(780, 494, width - 1, 640)
    texts: list[Text] = []
    fields = _fields(texts, tables)
    drawn = _tables(texts, tables)
    chips = _chips(tables)
    blocks, hot = _columns(texts, found, flow)
    return Sheet(
        width, meters.bottom + 6, columns([*texts, *_counters(meters)], Text), columns(_starts(found, blocks), Text),
        columns(_names(found, blocks), Label), fields, tables.top + 42, drawn, chips,
        tables.bottom - 32, {k: columns(v, Block) for k, v in blocks.items()}, _ribbons(blocks), _gauges(meters),
        columns(hot, Hot),
    )  # fmt: skip


def _fields(texts: list[Text], edges: _Edges) -> list[tuple[float, float, float]]:
    """Place the address: 9 bits for each index, 12 for the offset."""
    texts.append(Text(edges.left, edges.top + 11, "The user address", 15, style="bold"))
    scale, x, out = (edges.right - edges.left - 16) / 48, edges.left, []
    for bits in (9, 9, 9, 9, 12):
        out.append((x, x + bits * scale, x + bits * scale / 2))
        x += bits * scale + 4
    names = [f"{name}, bits {shift + 8}–{shift}" for name, shift in LEVELS] + ["offset, bits 11–0"]
    texts += [Text(left, edges.top + 33, name, 10.5, "mid") for (left, _, _), name in zip(out, names, strict=True)]
    return out


def _tables(texts: list[Text], edges: _Edges) -> list[Table]:
    """Place the four tables, each as tall as 512 entries."""
    texts.append(Text(edges.left, edges.bottom - 45, "Bits of the leaf entry", 11, "mid"))
    top, bottom, pitch = edges.top + 150, edges.bottom - 90, (edges.right - edges.left) / 4
    out = []
    for i, (name, _) in enumerate(LEVELS):
        left = edges.left + i * pitch + 8
        texts.append(Text(left, top - 34, name, 13, style="bold"))
        out.append(Table(left, left + pitch - 64, top, bottom))
    return out


def _chips(edges: _Edges) -> list[tuple[float, float]]:
    pitch = (edges.right - edges.left + 6) / len(BITS)
    return [(edges.left + i * pitch, edges.left + (i + 1) * pitch - 6) for i in range(len(BITS))]


def _spans(found: Walk) -> list[tuple[int, int, int, int]]:
    """Return (first step, last step, user address, bytes) of each phyr."""
    out: list[tuple[int, int, int, int]] = []
    for at, entry in enumerate(found.entries):
        if entry.phyr == len(out):
            out.append((at, at, entry.va, 0))
        first, _, va, nbytes = out[-1]
        out[-1] = (first, at, va, nbytes + entry.nbytes)
    return out


def _stack(sizes: Sequence[float], top: float, bottom: float, most: float = 10) -> list[tuple[float, float]]:
    """Return (top, bottom) of each of `sizes`, as tall as they are large, with gaps of `most` pixels or less."""
    if not sizes:
        return []
    gap = min(most, (bottom - top) * 0.35 / len(sizes))
    scale, y, out = (bottom - top - gap * (len(sizes) - 1)) / sum(sizes), top, []
    for size in sizes:
        out.append((y, y + size * scale))
        y += size * scale + gap
    return out


def _columns(texts: list[Text], found: Walk, edges: _Edges) -> tuple[dict[str, list[Block]], list[Hot]]:
    """Place pages, frames (by physical address) and phyrs (in the order of the user's bytes)."""
    spans, top, bottom = _spans(found), edges.top + 50, edges.bottom
    sizes = [sqrt(span[3]) for span in spans]
    wide = (edges.right - edges.left) / 6.4
    x = [edges.left, (edges.left + edges.right - wide) / 2 - wide * 0.2, edges.right - wide * 1.25]
    by_frame = sorted(range(len(spans)), key=lambda i: found.phyrs[i][0])
    pages, phyrs = _stack(sizes, top, bottom, 0), _stack(sizes, top, bottom)
    frames = dict(zip(by_frame, _stack([sizes[i] for i in by_frame], top, bottom), strict=True))
    blocks: dict[str, list[Block]] = {"pages": [], "frames": [], "phyrs": []}
    for i, (first, last, _, _) in enumerate(spans):
        same = (hue(i, len(spans)), i, first, last)
        blocks["pages"].append(Block(x[0], pages[i][0], x[0] + wide, pages[i][1], *same))
        blocks["frames"].append(Block(x[1], frames[i][0], x[1] + wide, frames[i][1], *same))
        blocks["phyrs"].append(Block(x[2], phyrs[i][0], x[2] + wide * 1.25, phyrs[i][1], *same))
    heads = ("Pages, as the task sees them", "Frames, by physical address", "Phyrs of the IO")
    short = ("Pages", "Frames by address", "Phyrs of the IO")
    for name, brief, at in zip(heads, short, x, strict=True):
        texts.append(Text(at, edges.top + 11, name if wide > _ROOMY else brief, 13, style="bold"))
    texts += _sizes(found, x, edges.top + 31)
    return blocks, list(_hots(found, spans, blocks))


def hue(phyr: int, phyrs: int) -> int:
    """Return the colour of a phyr: its own where they are few, its neighbourhood's where they are many."""
    return phyr if phyrs <= HUES else phyr * HUES // phyrs if phyrs > 8 * HUES else phyr % HUES


def _sizes(found: Walk, x: Sequence[float], y: float) -> Iterator[Text]:
    pages = sum(-(-entry.nbytes // PAGE_SIZE) for entry in found.entries)
    n = len(found.phyrs)
    yield Text(x[0], y, f"{pages:,} pages", 11, "mid")
    yield Text(x[1], y, "heights are square roots", 11, "mid")
    yield Text(x[2], y, f"{n:,} × 16 B", 11, "mid")


def _starts(found: Walk, blocks: dict[str, list[Block]]) -> Iterator[Text]:
    """Yield the first address beside each run of frames, where there is room."""
    below = -1.0
    for box in sorted(blocks["frames"], key=lambda box: box.top):
        if box.top + 6 - below >= _LINE:
            yield Text(box.left - 5, box.top + 6, address(found.phyrs[box.phyr][0]), 10, "mid", "mono", align="right")
            below = box.top + 6


def _names(found: Walk, blocks: dict[str, list[Block]]) -> Iterator[Label]:
    """Yield the name and the size of each phyr that is tall enough, for the step from which on it is whole."""
    for box in blocks["phyrs"]:
        if box.bottom - box.top >= _LINE:
            y, role, same = (box.top + box.bottom) / 2, f"on{box.hue}", (box.phyr, box.phyr, box.t1, box.t2)
            yield Label(box.left + 8, y, f"phyr {box.phyr}", role, "left", *same)
            yield Label(box.right - 8, y, human_bytes(found.phyrs[box.phyr][1]), role, "right", *same)


def _hots(found: Walk, spans: Sequence[tuple[int, int, int, int]], blocks: dict[str, list[Block]]) -> Iterator[Hot]:
    for boxes in blocks.values():
        for box in boxes:
            (first, last, va, nbytes), (pa, _) = spans[box.phyr], found.phyrs[box.phyr]
            tip = (
                f"phyr {box.phyr}, {human_bytes(nbytes)}",
                f"user {address(va)} + {nbytes:#x}",
                f"physical {address(pa)} + {nbytes:#x}",
                f"frame {pa >> PAGE_SHIFT:#x}, {last + 1 - first:,} entries (PT-1)",
                "walked: upstream; told of as a phyr: proposed",
            )
            yield Hot(box.left, box.top, box.right, box.bottom, tip, first)


def _ribbons(blocks: dict[str, list[Block]]) -> dict[str, Columns]:
    """Join pages to frames, and frames to phyrs."""
    out = {}
    for name, one, two in (("found", "pages", "frames"), ("told", "frames", "phyrs")):
        out[name] = columns(
            [
                Ribbon(a.right, a.top, a.bottom, b.left, b.top, b.bottom, 0, a.hue, a.phyr, a.phyr, a.t1, a.t2)
                for a, b in zip(blocks[one], blocks[two], strict=True)
            ],
            Ribbon,
        )
    return out


def _counters(edges: _Edges) -> Iterator[Text]:
    yield Text(edges.left, edges.top + 4, "What the walk costs", 13, style="bold")
    for i, (_, _, name) in enumerate(METERS):
        yield Text(edges.left, edges.top + 34 + i * 32, name, 11.5, "ink")


def _gauges(edges: _Edges) -> list[tuple[float, float, float, bool]]:
    left, right = edges.left + 160, edges.right - 96
    return [(left, right, edges.top + 23 + i * 32 + 12 * row, row == 0) for i in range(len(METERS)) for row in range(2)]


def counted(costs: Sequence[Cost]) -> dict[str, Any]:
    """Return the counters as columns: for each bar its value at every step, and the most that its row reaches."""
    values = []
    for today, phyr, _ in METERS:
        mine = [getattr(cost, today) for cost in costs]
        values += [
            mine,
            [getattr(cost, phyr) for cost in costs] if phyr else mine if today == "entries" else [0] * len(costs),
        ]
    most = [
        max((max(a, b) for a, b in zip(values[i], values[i + 1], strict=True)), default=1) or 1
        for i in range(0, len(values), 2)
    ]
    return {"values": values, "most": most, "stopped": [cost.stopped for cost in costs]}
