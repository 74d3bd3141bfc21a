"""What is written on the picture of four addresses: headings, addresses, names on shapes, and what stopped the IO."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labkit.scatter.payload import Range, run_length
from labkit.trace.events import DmaMap
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT, human_bytes
from labkit.views.journey import NEVER, NONE, Io
from labkit.views.layout import BOTTOM, BUS, DISK, MAP, STRIP_BOTTOM, TOP, USER, Group, Layout
from labkit.views.shapes import Card, Label, Text
from labkit.views.strips import Run, place
from labkit.views.words import address, capital, count, errno_name, errno_sentence

_LINE = 14
"""Pixels that a line of small text needs, downwards."""
_MANY = 100_000
"""Sectors whose number does not fit the column any more."""


class Stop(NamedTuple):
    """Where an IO ended early: what is said there, and on which column it stands."""

    left: float
    top: float
    title: str
    text: str


def device_name(trace: Trace) -> str:
    """Return the name of the block device, 'the device' where the trace does not tell."""
    device = trace.meta.get("device")
    return str(device.get("name", "the device")) if isinstance(device, dict) else "the device"


def scenario(trace: Trace, key: str) -> str:
    """Return one knob of the scenario as text, '' where the trace does not tell."""
    knobs = trace.meta.get("scenario")
    return str(knobs.get(key, "")) if isinstance(knobs, dict) else ""


def headings(trace: Trace, plan: Layout) -> Iterator[Text]:
    """Yield the four headings and what stands under them."""
    blocks = f"{device_name(trace)[:14]} · 512 B"
    tiles = "each tile is a 2 MiB pageblock in buddy (Z-) order: every folio is a square or a 2:1 box"
    for x, head, under in (
        (USER[0], "User virtual", "the buffer of the task"),
        (MAP, "Physical memory", tiles if plan.tiles.tiles else ""),
        (BUS[0], "Device address", _bus(trace, plan)),
        (DISK[0], "Blocks", blocks),
    ):
        yield Text(x, 11, head, 15, style="bold")
        yield Text(x, 31, under, 11, "mid")
    for y, zone in plan.tiles.headings:
        yield Text(MAP, y, zone, 10.5, "mid", "mono")
    if plan.tiles.left_out:
        text = f"{count(plan.tiles.left_out, 'more pageblock')} not drawn"
        yield Text(MAP + plan.tiles.width, plan.tiles.headings[0][0], text, 10.5, "mid", align="right")


def _bus(trace: Trace, plan: Layout) -> str:
    maps = trace.of(DmaMap)
    if any(rec.bounced for rec in maps):
        return "bounce buffers"
    if plan.bus and maps and all(rec.how == "bus" for rec in maps):
        return "peer to peer: bus addresses"
    if plan.bus and all(unit.dma == unit.pa for unit in plan.units if unit.dma[1]):
        return "no IOMMU: as physical"
    if plan.bus:
        return f"IOVA · {device_name(trace)[:16]}"
    return "none: no DMA, a file instead" if plan.disk else ""


def cards(plan: Layout) -> Iterator[Card]:
    """Yield what stands behind tiles and strips."""
    wide, tall = 32 * plan.tiles.cell + 2, 16 * plan.tiles.cell + 2
    for tile in plan.tiles.tiles:
        yield Card(tile.left - 2, tile.top - 2, tile.left + wide, tile.top + tall, "tile")
    yield Card(*_column(BUS), "card" if plan.bus else "none")
    yield Card(*_column(DISK), "card" if plan.disk else "none")


def _column(edges: tuple[int, int]) -> tuple[float, float, float, float]:
    return edges[0], TOP + 10, edges[1], STRIP_BOTTOM


def addresses(plan: Layout) -> Iterator[Text]:
    """Yield the first address of each run where there is room for it, and what a strip lacks."""
    yield from _starts(plan.bus, BUS[0] + 4, address)
    yield from _starts(plan.disk, DISK[0] + 4, lambda addr: f"{addr >> SECTOR_SHIFT:,}")
    if plan.bus:
        whose: dict[int, list[Range]] = {}
        for com in plan.trip.commands:
            whose.setdefault(com.rq, []).extend(com.dma)
        found = [part for parts in whose.values() for part in run_length(parts)]
        runs = f"{len(found):,} run" + "s" * (len(found) != 1)
        text = f"{runs}, {human_bytes(sum(n for _, n in found))}"
        yield Text(BUS[0] + 4, plan.bus[-1].bottom + 11, text, 10.5, "mid")
    if plan.disk:
        sectors = sum(run.nbytes for run in plan.disk) >> SECTOR_SHIFT
        text = f"{sectors:,} sectors" if sectors < _MANY else human_bytes(sectors << SECTOR_SHIFT)
        yield Text(DISK[0] + 4, plan.disk[-1].bottom + 11, text, 10.5, "mid")


def _starts(strip: Sequence[Run], x: float, spell: object) -> Iterator[Text]:
    above = 0.0
    for run in strip:
        if run.top - above >= _LINE:
            yield Text(x, run.top - 8, spell(run.addr), 9.5, "faint", "mono")  # type: ignore[operator]
        above = run.bottom


def labels(plan: Layout) -> Iterator[Label]:
    """Yield the names on shapes that are large enough to carry them."""
    for group in plan.groups("va"):
        yield from _on_user(plan, group)
    for i, unit in enumerate(plan.units):
        found = plan.tiles.boxes(*unit.pa) if unit.pa[1] else []
        left, top, right, bottom = max(found, key=lambda box: box[2] - box[0], default=(0, 0, 0, 0))
        text = name(plan, Group(i, i, unit)) if bottom - top >= _LINE else ""
        if text and _wide(text) < right - left:
            where = ((left + right) / 2, (top + bottom) / 2)
            yield Label(*where, text, f"on{unit.hue}", "center", i, i, unit.pin, unit.unpin)
    for group in plan.groups("dma"):
        first, last, unit = group
        top, bottom = place(plan.bus, *unit.dma)
        if bottom - top >= _LINE:
            where = (sum(BUS) / 2, (top + bottom) / 2)
            yield Label(*where, name(plan, group), f"on{unit.hue}", "center", first, last, unit.map, unit.unmap)


def _on_user(plan: Layout, group: Group) -> Iterator[Label]:
    first, last, unit = group
    top, bottom = place(plan.user.runs, *unit.va)
    y, role = (top + bottom) / 2, f"on{unit.hue}"
    if bottom - top < _LINE:
        return
    text, size = name(plan, group), human_bytes(unit.va[1])
    whose = (first, last, unit.pin, unit.exit if len(plan.trip.ios) > 1 else NEVER)
    yield Label(USER[0] + 14, y, text, role, "left", *whose)
    if _wide(text) + _wide(size) < USER[1] - USER[0] - 14:
        yield Label(USER[1] - 8, y, size, role, "right", *whose)


def _wide(text: str) -> float:
    """Return about how many pixels a small text needs, and a little air."""
    return len(text) * 5.6 + 8


def name(plan: Layout, group: Group) -> str:
    """Return what a group of units is called: its phyrs, or which part of one phyr it is."""
    unit = group.unit
    if unit.first == NONE:
        return ""
    phyr = plan.trip.phyrs[unit.first]
    word = f"{'range' if phyr.policy == 'page' else 'phyr'} {unit.first}"
    if unit.phyrs > 1:
        return f"{word}–{unit.first + unit.phyrs - 1}"
    if unit.nbytes < phyr.nbytes:
        parts = [i for i, other in enumerate(plan.units) if other.first == unit.first]
        return f"{word}, {parts.index(group.first) + 1}/{len(parts)}"
    return word


def stop(plan: Layout) -> Stop | None:
    """Return what to say in the place of what did not happen, if an IO failed."""
    io = next((io for io in plan.trip.ios if io.ret is not None and io.ret < 0), None)
    if io is None:
        return None
    text = f"{capital(errno_sentence(io.ret or 0))}."
    if any(unit.lba[1] and unit.complete != NEVER for unit in plan.units):
        return Stop(BUS[0] - 350, BOTTOM - 92, _title(io), text)
    if any(unit.pin != NEVER for unit in plan.units):
        return Stop(BUS[0], TOP + 120, _title(io), text)
    return Stop(MAP + 96, TOP + 150, _title(io), text)


def _title(io: Io) -> str:
    return f"{io.name[:16]} ended with {errno_name(io.ret or 0)}"
