"""A trace becomes the picture of four addresses: user pages, physical memory, device addresses, LBAs, and ribbons."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.trace.events import MmPageAlloc, MmPageFree
from labkit.trace.trace import Trace
from labkit.views.captions import Stop, addresses, cards, headings, labels, stop
from labkit.views.fold import Unit
from labkit.views.journey import NEVER, Journey, journey
from labkit.views.layout import BUS, DISK, MAP, USER, Group, Layout, lay
from labkit.views.shapes import Box, Card, Columns, Label, Pin, Ribbon, Text, columns
from labkit.views.strips import place
from labkit.views.tiles import Tiles, cells

MOST_SHAPES = 1500
"""What a browser can repaint 50 times a second."""
_FOLIOS = 240
"""Allocated blocks that are drawn."""
_BANDS, _PINS = 24, 64
"""Ribbons that go through the map, and dots: of more only the ends, or the map could not be read."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The picture as columns. `folded`: (shapes drawn, pieces they stand for), equal where nothing is folded."""

    texts: Columns
    cards: Columns
    labels: Columns
    moving: dict[str, Columns]
    """folios, user, memory, bus, disk, bands, ribbons, pins: what changes with time."""
    tiles: Tiles
    cells: NDArray[np.uint8]
    units: tuple[Unit, ...]
    folded: tuple[int, int]
    stop: Stop | None

    @property
    def shapes(self) -> int:
        """Return how many shapes change with time."""
        return _count(self.moving)


def memory(trace: Trace, trip: Journey | None = None) -> Memory:
    """Return the picture of `trace`, of at most MOST_SHAPES moving shapes; `trip` is its journey, if that is known."""
    trip = trip or journey(trace)
    plan = lay(trace, trip, MOST_SHAPES)
    moving = _moving(trace, plan)
    while (shapes := _count(moving)) > MOST_SHAPES:
        plan = lay(trace, trip, min(len(plan.units) - 1, len(plan.units) * MOST_SHAPES // shapes))
        moving = _moving(trace, plan)
    return Memory(
        columns([*headings(trace, plan), *addresses(plan), *plan.user.texts], Text),
        columns([*cards(plan), *plan.user.cards], Card),
        columns(labels(plan), Label),
        moving,
        plan.tiles,
        cells(plan.tiles, trace.memory),
        plan.units,
        (len(plan.units), len(trip.pieces)),
        stop(plan),
    )


def _moving(trace: Trace, plan: Layout) -> dict[str, Columns]:
    return {
        "folios": columns(_folios(trace, plan), Box),
        "user": columns(_user(plan), Box),
        "memory": columns(_memory(plan), Box),
        "bus": columns(_strip(plan, "dma"), Box),
        "disk": columns(_strip(plan, "lba"), Box),
        "bands": columns(_bands(plan), Box),
        "ribbons": columns(_ribbons(plan), Ribbon),
        "pins": columns(_pins(plan), Pin),
    }


def _count(moving: dict[str, Columns]) -> int:
    return sum(len(table["t1"]) for table in moving.values())


def _folios(trace: Trace, plan: Layout) -> Iterator[Box]:
    """Yield what the task allocated, block by block, until it is freed."""
    freed = {addr: at for at, rec in enumerate(trace) if isinstance(rec, MmPageFree) for addr, _ in rec.ranges}
    drawn = 0
    for at, rec in enumerate(trace):
        for addr, nbytes in rec.ranges if isinstance(rec, MmPageAlloc) else ():
            for edges in plan.tiles.boxes(addr, nbytes):
                if (drawn := drawn + 1) > _FOLIOS:
                    return
                yield Box(*edges, t1=at, t4=freed.get(addr, NEVER))


def _gone(plan: Layout, unit: Unit) -> int:
    """Return when the shapes of a unit may fade: at the end of its IO where others follow, else never."""
    return unit.exit if len(plan.trip.ios) > 1 else NEVER


def _spell(group: Group) -> tuple[int, int, int]:
    """Return when the first unit of a group is served, and the last one moved and completed."""
    flight = min(min(unit.serve, unit.issue) if unit.serve == NEVER else unit.serve for unit in group.units)
    return flight, max(unit.move for unit in group.units), max(unit.complete for unit in group.units)


def _user(plan: Layout) -> Iterator[Box]:
    for group in plan.groups("va"):
        first, (flight, _, done) = group.units[0], _spell(group)
        length = sum(unit.va[1] for unit in group.units)
        top, bottom = place(plan.user.runs, first.va[0], length)
        if length:
            gone = _gone(plan, first)
            yield Box(
                USER[0] + 6, top, USER[1], bottom, first.hue, group.first, group.last, first.pin, flight, done, gone
            )


def _memory(plan: Layout) -> Iterator[Box]:
    for i, unit in enumerate(plan.units):
        for edges in plan.tiles.boxes(*unit.pa) if unit.pa[1] else ():
            yield Box(*edges, unit.hue, i, i, unit.pin, unit.serve, unit.complete, unit.unpin)


def _strip(plan: Layout, column: str) -> Iterator[Box]:
    strip, (left, right) = (plan.bus, BUS) if column == "dma" else (plan.disk, DISK)
    for group in plan.groups(column):
        first, (flight, moved, done) = group.units[0], _spell(group)
        addr, length = getattr(first, column)[0], sum(getattr(unit, column)[1] for unit in group.units)
        if not length:
            continue
        top, bottom = place(strip, addr, length)
        if column == "dma":
            times = (first.map, flight, done, max(unit.unmap for unit in group.units))
        else:
            times = (first.issue, flight, min(moved, done), _gone(plan, first))
        yield Box(left, top, right, bottom, first.hue, group.first, group.last, *times)


def _through(plan: Layout) -> bool:
    return len(plan.units) <= _BANDS


def _bands(plan: Layout) -> Iterator[Box]:
    """Yield the straight parts of ribbons that cross the map to where they land, and from there on."""
    edge = MAP + plan.tiles.width
    for i, (unit, land) in enumerate(zip(plan.units, plan.landing, strict=True)):
        if land is None or not _through(plan):
            continue
        left, top, right, bottom = land
        yield Box(MAP - 6, top, left, bottom, unit.hue, i, i, unit.pin, unit.serve, unit.complete, unit.unpin)
        if unit.lba[1]:
            yield Box(right, top, edge + 6, bottom, unit.hue, i, i, *_carry(unit))


def _carry(unit: Unit) -> tuple[int, int, int, int]:
    """Return when a unit is ready to travel, travels, has arrived, and lets go of the way."""
    ready, free = (unit.map, unit.unmap) if unit.dma[1] else (unit.issue, unit.complete)
    return ready, min(unit.serve, unit.complete), unit.complete, free


def _ribbons(plan: Layout) -> Iterator[Ribbon]:
    edge = MAP + plan.tiles.width + 6
    for i, (unit, land) in enumerate(zip(plan.units, plan.landing, strict=True)):
        if land is None:
            continue
        a, b = land[1], land[3]
        mine = (unit.hue, i, i)
        times = (unit.pin, unit.serve, unit.complete, unit.unpin)
        yield Ribbon(USER[1], *place(plan.user.runs, *unit.va), MAP - 6, a, b, 0, *mine, *times)
        if unit.dma[1]:
            yield Ribbon(edge, a, b, BUS[0], *place(plan.bus, *unit.dma), 1, *mine, *_carry(unit))
        elif unit.lba[1]:
            yield Ribbon(edge, a, b, DISK[0], *place(plan.disk, *unit.lba), 1, *mine, *_carry(unit))
    yield from _to_disk(plan)


def _to_disk(plan: Layout) -> Iterator[Ribbon]:
    """Yield the last leg, from device address to block: one ribbon for what is contiguous in both."""
    for group in plan.groups("dma"):
        first, (flight, _, done) = group.units[0], _spell(group)
        length = sum(unit.dma[1] for unit in group.units)
        if length:
            a, b = place(plan.bus, first.dma[0], length), place(plan.disk, first.lba[0], length)
            mine = (first.hue, group.first, group.last)
            yield Ribbon(BUS[1], *a, DISK[0], *b, 2, *mine, first.map, flight, done, max(u.unmap for u in group.units))


def _pins(plan: Layout) -> Iterator[Pin]:
    """Yield a dot for each run of memory that is pinned."""
    found = [group for group in plan.groups("pa") if plan.landing[group.first]]
    for first, last, units in found if len(found) <= _PINS else ():
        _, top, right, _ = plan.landing[first] or (0, 0, 0, 0)
        yield Pin(right, top, first, last, units[0].pin, max(unit.unpin for unit in units))
