"""Physical memory becomes a picture: the address map, and for each zone its free lists in two states side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

from labkit.scatter.page import STRUCT_PAGE_BYTES
from labkit.units import PAGE_SHIFT, human_bytes
from labkit.views.shapes import Columns, Text, columns
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.words import address
from labkit.views.zone_facts import (
    TYPES,
    Part,
    RangeLike,
    ZoneLike,
    block,
    nr_free,
    parts,
    percent,
    shares,
    unusable,
    usable,
)

MAP_TOP, MAP_TALL, TAX_TOP, TAX_TALL = 50, 58, 132, 34
PANELS, ZONE_TALL = 214, 136
ORDERS = 11
_FOLD = 0.46
"""Where the mark `high` stands on a gauge: up to it and above it two scales, both true."""
_LIGHT = 0.5
"""From here on the colours of amounts are light, and want dark ink."""
_CLOSE = 74
"""Pixels below which a part of the map has no words of its own."""


class Rect(NamedTuple):
    """A rectangle that stands still; `role` is the look, `amount` a share where the colour says one."""

    left: float
    top: float
    right: float
    bottom: float
    role: str
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Zones:
    """The picture as columns, for one width. `focus`: the rectangles that each step brings out."""

    width: float
    height: float
    rects: Columns
    texts: Columns
    hot: Columns
    focus: list[list[tuple[float, float, float, float]]]
    steps: list[Step]


class _Sheet(NamedTuple):
    """The picture while it is made."""

    rects: list[Rect]
    texts: list[Text]
    hot: list[Hot]
    focus: list[list[tuple[float, float, float, float]]]


def zones(states: Mapping[str, Sequence[ZoneLike]], ranges: Sequence[RangeLike] = (), width: int = WIDE) -> Zones:
    """Return the picture of memory in one or two `states`, by name; `ranges` are RAM and what devices add.

    Without `ranges` the zones have no holes. Steps lead through the map, then through each zone and its orders.
    """
    first = next(iter(states.values()), ())
    found, names = parts(first, ranges), [zone.name for zone in first]
    sheet = _Sheet([], [], [], [[] for _ in range(len(found) + len(names) * (ORDERS + 1))])
    _map(sheet, found, width)
    across = max(len(states), 1) if width > NARROW else 1
    wide = (width - 2 - 40 * (across - 1)) / across
    tall = 40 + ZONE_TALL * len(names)
    for i, (name, state) in enumerate(states.items()):
        corner = (1 + i % across * (wide + 40), PANELS + i // across * (tall + 24))
        _panel(sheet, name, state, corner, wide, len(found))
    height = PANELS + -(-len(states) // across) * (tall + 24) - 16
    steps = [*map(_part, found), *(step for name in names for step in _zone_steps(states, name))]
    drawn = (columns(sheet.rects, Rect), columns(sheet.texts, Text), columns(sheet.hot, Hot))
    return Zones(width, height, *drawn, sheet.focus, steps)


def _weight(part: Part) -> float:
    """Return how wide a part is drawn, in shares: logarithmic, and holes narrower than what is there."""
    wide = 1 + max(0.0, log2(part.nbytes / (1 << 18))) / 5
    return min(wide, 1.1) if part.kind == "hole" else wide


def _map(sheet: _Sheet, found: Sequence[Part], width: float) -> None:
    tax = sum(part.memmap for part in found)
    ram = sum(part.nbytes for part in found if part.memmap)
    sheet.texts.append(Text(0, 11, "Physical addresses", 15, style="bold"))
    under = (
        "widths are logarithms"
        if width <= NARROW
        else "from 0 upwards; widths are logarithms of sizes, holes are folded"
    )
    sheet.texts.append(Text(0, 31, under, 11, "mid"))
    text = f"{human_bytes(tax)} of struct pages for {human_bytes(ram)}: {STRUCT_PAGE_BYTES} B a frame (MM-1)"
    sheet.texts.append(Text(width, 31, text, 11, "mid", align="right"))
    scale = (width - 2 - 3 * (len(found) - 1)) / max(sum(map(_weight, found)), 1)
    most, x = max((part.memmap for part in found), default=1) or 1, 1.0
    for i, part in enumerate(found):
        right = x + _weight(part) * scale
        sheet.rects.append(Rect(x, MAP_TOP, right, MAP_TOP + MAP_TALL, part.kind))
        sheet.rects.append(Rect(x, TAX_TOP, right, TAX_TOP + 1, "hair"))
        if part.memmap:
            sheet.rects.append(Rect(x, TAX_TOP, right, TAX_TOP + 1 + TAX_TALL * part.memmap / most, "tax"))
        sheet.texts.extend(_words(part, x, right, most))
        sheet.hot.append(Hot(x, MAP_TOP, right, TAX_TOP + TAX_TALL, _part_tip(part), i))
        sheet.focus[i].append((x - 1, MAP_TOP - 2, right + 1, MAP_TOP + MAP_TALL + 2))
        x = right + 3


def _words(part: Part, left: float, right: float, most: int) -> Iterator[Text]:
    """Yield what is written on a part of the map where there is room for it."""
    if right - left < _CLOSE:
        room = int((right - left) // 6.4)
        short = part.name[:room] if part.kind != "hole" or room >= len(part.name) else ""
        yield Text(left + 4, MAP_TOP + 20, short, 10.5, "mid")
        return
    yield Text(left + 8, MAP_TOP + 20, part.name[: int((right - left) // 7.4)], 12.5, "ink", style="bold")
    yield Text(left + 8, MAP_TOP + 40, human_bytes(part.nbytes), 11, "mid")
    if len(address(part.start)) * 6.2 <= right - left + 3:
        yield Text(left, MAP_TOP + MAP_TALL + 11, address(part.start), 10, "faint", "mono")
    if part.kind != "hole":
        words = human_bytes(part.memmap) if part.memmap else "no struct pages"
        yield Text(left + 2, TAX_TOP + 12 + TAX_TALL * part.memmap / most, words, 11, "ink" if part.memmap else "mid")


def _part_tip(part: Part) -> tuple[str, ...]:
    kinds = {"ram": "RAM", "hole": "no memory answers here", "paged": "device memory", "pageless": "device memory"}
    pages = f"{part.nbytes >> PAGE_SHIFT:,} struct pages, {human_bytes(part.memmap)} (MM-1)"
    return (
        f"{part.name}, {human_bytes(part.nbytes)}", f"{address(part.start)} to {address(part.end)}", kinds[part.kind],
        pages if part.memmap else "no struct page describes it", "upstream: mm/memblock.c (BUD-1)",
    )  # fmt: skip


def _part(part: Part) -> Step:
    size, frames, tax = human_bytes(part.nbytes), f"{part.nbytes >> PAGE_SHIFT:,}", human_bytes(part.memmap)
    text = {
        "ram": f"{size} of RAM belong to zone {part.name}: {frames} frames, and struct pages of {tax}.",
        "hole": f"A hole of {size}: no memory answers at these addresses.",
        "paged": f"{size} of {part.name} have struct pages, {tax} of RAM: today's direct IO can reach them.",
        "pageless": f"{size} of {part.name} have no struct pages: today's direct IO cannot name them, a phyr can.",
    }  # fmt: skip
    function = {"ram": "memblock_add", "hole": "", "paged": "memremap_pages", "pageless": "request_mem_region"}
    return Step(address(part.start), "address map", text[part.kind], function[part.kind], "upstream")


def _panel(
    sheet: _Sheet, name: str, state: Sequence[ZoneLike], corner: tuple[float, float], wide: float, first: int
) -> None:
    """Draw one state: a heading, and a row for each zone, whose steps begin at `first`."""
    x, y = corner
    free = sum(map(nr_free, state))
    sheet.texts.append(Text(x, y + 4, name, 15, style="bold"))
    text = f"{human_bytes(free << PAGE_SHIFT)} free, {percent(usable(state))} of it in blocks of 2 MiB and more"
    sheet.texts.append(Text(x, y + 24, text, 11, "mid"))
    for i, zone in enumerate(state):
        top, at = y + 40 + i * ZONE_TALL, first + i * (ORDERS + 1)
        sheet.rects.append(Rect(x, top, x + wide, top + ZONE_TALL - 8, "card"))
        sheet.focus[at].append((x - 1, top - 1, x + wide + 1, top + ZONE_TALL - 7))
        sheet.hot.append(Hot(x, top, x + wide, top + ZONE_TALL - 8, _zone_tip(zone), at))
        gauge = min(236.0, wide * 0.33)
        _gauge(sheet, zone, x + 12, top, gauge)
        sheet.texts.append(Text(x + gauge + 56, top + 93, "order", 9.5, "faint", align="right"))
        sheet.texts.append(Text(x + gauge + 56, top + 111, "% smaller", 9.5, "faint", align="right"))
        _lists(sheet, zone, (x + gauge + 64, top, x + wide - 6), at + 1)


def along(zone: ZoneLike, frames: int) -> float:
    """Return where `frames` stand on the gauge of a zone, 0 to 1: one scale up to the mark high, one above."""
    high, most = max(zone.watermarks.high, 1), max(zone.managed, 2)
    if frames <= high or most <= high:
        return _FOLD * min(frames / high, 1)
    return min(1.0, _FOLD + (1 - _FOLD) * (frames - high) / (most - high))


def _gauge(sheet: _Sheet, zone: ZoneLike, left: float, top: float, wide: float) -> None:
    """Draw how much is free, and the marks at which the kernel begins to reclaim (BUD-9)."""
    free, marks = nr_free(zone), zone.watermarks
    sheet.texts.append(Text(left, top + 18, zone.name, 13, "ink", style="bold"))
    text = f"{human_bytes(free << PAGE_SHIFT)} of {human_bytes(zone.managed << PAGE_SHIFT)} free"
    sheet.texts.append(Text(left, top + 37, text, 11, "mid"))
    y = top + 62
    sheet.rects.append(Rect(left, y, left + wide, y + 13, "gauge"))
    sheet.rects.append(Rect(left, y, left + wide * along(zone, free), y + 13, "level"))
    for name, frames, dy, dx, align in (
        ("min", marks.min, -9, -3, "left"), ("low", marks.low, 23, 0, "center"), ("high", marks.high, -9, -2, "left"),
    ):  # fmt: skip
        x = left + wide * along(zone, frames)
        sheet.rects.append(Rect(x - 0.8, y - 4, x + 0.8, y + 17, "tick"))
        size = "" if name != "low" else f" {human_bytes(frames << PAGE_SHIFT)}: kswapd wakes"
        sheet.texts.append(
            Text(x + dx - (34 if size else 0), y + dy, f"{name}{size}", 10, "mid", align="left" if size else align)
        )


def _lists(sheet: _Sheet, zone: ZoneLike, edges: tuple[float, float, float], first: int) -> None:
    """Draw a bar for each order, as high as its share of the free memory; under it what of it is too small."""
    left, top, right = edges
    pitch, base, tall = (right - left) / ORDERS, top + 82, 58
    for order, (row, share, bad) in enumerate(zip(zone.free, shares(zone), unusable(zone), strict=True)):
        x, y, count = left + order * pitch, float(base), sum(row)
        wide, middle = pitch - 6, left + order * pitch + (pitch - 6) / 2
        sheet.rects.append(Rect(x, base, x + wide, base + 1, "hair"))
        for kind, n in enumerate(row):
            high = max(tall * share * n / count, 1.6) if n else 0.0
            if n:
                sheet.rects.append(Rect(x, y - high, x + wide, y, f"type{kind}"))
            y -= high
        if count:
            sheet.texts.append(Text(middle, y - 8, _short(count, pitch), 10, "ink", "mono", align="center"))
        sheet.texts.append(Text(middle, base + 11, str(order), 10, "faint", "mono", align="center"))
        sheet.rects.append(Rect(x, base + 21, x + wide, base + 36, "bad", bad))
        ink = "onlight" if bad > _LIGHT else "ondark"
        sheet.texts.append(Text(middle, base + 29, f"{bad:.0%}"[:-1], 9.5, ink, "mono", align="center"))
        sheet.hot.append(Hot(x - 3, top + 2, x + wide + 3, base + 40, _order_tip(zone, order), first + order))
        sheet.focus[first + order].append((x - 3, top + 4, x + wide + 3, base + 39))


def _short(count: int, pitch: float) -> str:
    """Return a count in as many letters as there is room for: 12345 -> '12k'."""
    text = f"{count:,}"
    return text if len(text) * 8.4 < pitch else f"{count / 1000:.0f}k" if count < 10**6 else f"{count / 10**6:.1f}M"


def _zone_tip(zone: ZoneLike) -> tuple[str, ...]:
    marks = zone.watermarks
    return (
        f"zone {zone.name}", f"frames {zone.start:,} to {zone.end:,}, {zone.managed:,} managed",
        f"{nr_free(zone):,} frames free",
        f"watermarks: min {marks.min:,}, low {marks.low:,}, high {marks.high:,} frames (BUD-9)",
        "upstream: struct zone",
    )  # fmt: skip


def _order_tip(zone: ZoneLike, order: int) -> tuple[str, ...]:
    kinds = (f"{kind} {n:,}" for kind, n in zip(TYPES, zone.free[order], strict=False) if n)
    return (
        f"{zone.name}, order {order}: blocks of {block(order)}",
        f"{sum(zone.free[order]):,} free, {human_bytes(sum(zone.free[order]) << order + PAGE_SHIFT)}",
        ", ".join(kinds) or "none of any migratetype",
        f"{percent(unusable(zone)[order])} of the zone's free memory is in smaller blocks",
        "upstream: free_area[] (BUD-2)",
    )


def _zone_steps(states: Mapping[str, Sequence[ZoneLike]], name: str) -> Iterator[Step]:
    found = {state: next(zone for zone in rows if zone.name == name) for state, rows in states.items()}
    one = next(iter(found.values()))
    free = {state: human_bytes(nr_free(zone) << PAGE_SHIFT) for state, zone in found.items()}
    told = "; ".join(
        f"{state}: {free[state]} free, {percent(usable([zone]))} of it in blocks of 2 MiB and more"
        for state, zone in found.items()
    )
    low = human_bytes(one.watermarks.low << PAGE_SHIFT)
    text = f"Zone {name} manages {human_bytes(one.managed << PAGE_SHIFT)}, and kswapd wakes below {low}. {told}."
    yield Step(name, "zone", text, "struct zone", "upstream")
    for order in range(ORDERS):
        counts = " and ".join(f"{sum(zone.free[order]):,} free in “{state}”" for state, zone in found.items())
        bad = " and ".join(percent(unusable(zone)[order]) for zone in found.values())
        smaller = f" Of the free memory, {bad} is in smaller blocks." if order else ""
        yield Step(
            f"{name}, order {order}", "free list", f"Blocks of {block(order)} in {name}: {counts}.{smaller}",
            f"free_area[{order}]", "upstream",
        )  # fmt: skip
