"""A trace becomes the picture of four addresses: user pages, physical memory, device addresses, LBAs, and ribbons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labkit.trace.events import (
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Ranges,
    SetPtes,
)
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT
from labkit.views.captions import Stop, addresses, cards, headings, labels, stop
from labkit.views.fold import Unit
from labkit.views.journey import NEVER, Journey, journey
from labkit.views.layout import BUS, DISK, MAP, USER, Layout, known, lay
from labkit.views.shapes import Box, Card, Columns, Label, Pin, Ribbon, Text, columns
from labkit.views.strips import place
from labkit.views.tiles import NO_PAGE, Tiles, cells, zone_of

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
    """folios, cached, user, memory, bus, disk, bands, ribbons, pins: what changes with time."""
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
    """Return the picture of `trace`, of at most MOST_SHAPES moving shapes; `trip` is its journey, if that is known.

    Each IO keeps a unit of its own: of very many IOs the shapes are more.
    """
    trip = trip or journey(trace)
    plan = lay(trace, trip, MOST_SHAPES)
    moving = _moving(trace, plan)
    while (shapes := _count(moving)) > MOST_SHAPES:
        folded = lay(trace, trip, min(len(plan.units) - 1, len(plan.units) * MOST_SHAPES // shapes))
        if len(folded.units) >= len(plan.units):
            break
        plan, moving = folded, _moving(trace, folded)
    return Memory(
        columns([*headings(trace, plan), *addresses(plan), *plan.user.texts], Text),
        columns([*cards(plan), *plan.user.cards], Card),
        columns(labels(plan), Label),
        moving,
        plan.tiles,
        cells(plan.tiles, known(trace)),
        plan.units,
        (len(plan.units), len(trip.pieces)),
        stop(plan),
    )


def _moving(trace: Trace, plan: Layout) -> dict[str, Columns]:
    return {
        "folios": columns(_folios(trace, plan), Box),
        "cached": columns(_cached(trace, plan), Box),
        "user": columns(_user(plan), Box),
        "memory": columns(_memory(plan), Box),
        "bus": columns(_bus(plan), Box),
        "disk": columns(_disk(plan), Box),
        "bands": columns(_bands(plan), Box),
        "ribbons": columns(_ribbons(plan), Ribbon),
        "pins": columns(_pins(plan), Pin),
    }


def _count(moving: dict[str, Columns]) -> int:
    return sum(len(table["t1"]) for table in moving.values())


def _folios(trace: Trace, plan: Layout) -> Iterator[Box]:
    """Yield what the task allocated, or what it moved to, block by block, until it is freed or moves away."""
    came = [
        (at, addr, nbytes)
        for at, rec in enumerate(trace)
        if isinstance(rec, MmPageAlloc | MmMigratePages)
        for addr, nbytes in (rec.dst if isinstance(rec, MmMigratePages) else rec.ranges)
    ]
    return _blocks(plan, came, _gone_at(trace))


def _cached(trace: Trace, plan: Layout) -> Iterator[Box]:
    """Yield pages of files, and what else was there before it was mapped; memory without struct pages stays hatched."""
    memory_map, seen = known(trace), set[tuple[int, int]]()
    came = []
    for at, rec in enumerate(trace):
        for place_ in rec.ranges if isinstance(rec, MmFilemapAddToPageCache | SetPtes) else ():
            if place_ not in seen and zone_of(place_[0] >> PAGE_SHIFT + 9, memory_map) != NO_PAGE:
                seen.add(place_)
                came.append((at, *place_))
    return _blocks(plan, came, _gone_at(trace))


def _gone_at(trace: Trace) -> dict[int, int]:
    """Return, by the address of a range, the record that frees it, moves it away, or takes it out of its file."""
    out: dict[int, int] = {}
    for at, rec in enumerate(trace):
        if isinstance(rec, MmPageFree | MmFilemapDeleteFromPageCache | MmMigratePages):
            left: Ranges = rec.src if isinstance(rec, MmMigratePages) else rec.ranges
            out |= dict.fromkeys((addr for addr, _ in left), at)
    return out


def _blocks(plan: Layout, came: Sequence[tuple[int, int, int]], gone: dict[int, int]) -> Iterator[Box]:
    """Yield the boxes of (record, address, bytes) where they are drawn, no more than a browser can bear."""
    drawn = 0
    for at, addr, nbytes in came:
        for edges in plan.tiles.boxes(addr, nbytes):
            if (drawn := drawn + 1) > _FOLIOS:
                return
            yield Box(*edges, t1=at, t4=gone.get(addr, NEVER))


def _gone(plan: Layout, unit: Unit) -> int:
    """Return when the shapes of a unit may fade: at the end of its IO where others follow, else never."""
    return unit.exit if len(plan.trip.ios) > 1 else NEVER


def _pinned(unit: Unit) -> tuple[int, int, int, int]:
    """Return when the memory of a unit is pinned, has bytes on their way, has them all, and is let go of."""
    return unit.pin, unit.serve, unit.complete, unit.unpin


def _carried(unit: Unit) -> tuple[int, int, int, int]:
    """Return when a unit is ready to travel, travels, has arrived, and gives up its way."""
    if unit.dma[1]:
        return unit.map, unit.serve, unit.complete, unit.unmap
    return unit.issue, unit.serve, unit.complete, unit.complete


def _user(plan: Layout) -> Iterator[Box]:
    for first, last, unit in plan.groups("va"):
        if unit.va[1]:
            top, bottom = place(plan.user.runs, *unit.va)
            times = (unit.pin, unit.serve, unit.complete, _gone(plan, unit))
            yield Box(USER[0] + 6, top, USER[1], bottom, unit.hue, first, last, *times)


def _memory(plan: Layout) -> Iterator[Box]:
    for i, unit in enumerate(plan.units):
        for edges in plan.tiles.boxes(*unit.pa) if unit.pa[1] else ():
            yield Box(*edges, unit.hue, i, i, *_pinned(unit))


def _bus(plan: Layout) -> Iterator[Box]:
    for first, last, unit in plan.groups("dma"):
        if unit.dma[1]:
            top, bottom = place(plan.bus, *unit.dma)
            yield Box(BUS[0], top, BUS[1], bottom, unit.hue, first, last, *_carried(unit))


def _disk(plan: Layout) -> Iterator[Box]:
    for first, last, unit in plan.groups("lba"):
        if unit.lba[1]:
            top, bottom = place(plan.disk, *unit.lba)
            times = (unit.issue, unit.serve, min(unit.move, unit.complete), _gone(plan, unit))
            yield Box(DISK[0], top, DISK[1], bottom, unit.hue, first, last, *times)


def _bands(plan: Layout) -> Iterator[Box]:
    """Yield the straight parts of ribbons that cross the map to where they land, and from there on."""
    if len(plan.units) > _BANDS:
        return
    for i, (unit, land) in enumerate(zip(plan.units, plan.landing, strict=True)):
        if land is not None:
            left, top, right, bottom = land
            yield Box(MAP - 6, top, left, bottom, unit.hue, i, i, *_pinned(unit))
            if unit.lba[1]:
                yield Box(right, top, MAP + plan.tiles.width + 6, bottom, unit.hue, i, i, *_carried(unit))


def _ribbons(plan: Layout) -> Iterator[Ribbon]:
    edge = MAP + plan.tiles.width + 6
    for i, (unit, land) in enumerate(zip(plan.units, plan.landing, strict=True)):
        if land is None:
            continue
        _, top, _, bottom = land
        mine = (unit.hue, i, i)
        yield Ribbon(USER[1], *place(plan.user.runs, *unit.va), MAP - 6, top, bottom, 0, *mine, *_pinned(unit))
        if unit.dma[1]:
            yield Ribbon(edge, top, bottom, BUS[0], *place(plan.bus, *unit.dma), 1, *mine, *_carried(unit))
        elif unit.lba[1]:
            yield Ribbon(edge, top, bottom, DISK[0], *place(plan.disk, *unit.lba), 1, *mine, *_carried(unit))
    for first, last, unit in plan.groups("dma"):
        if unit.dma[1]:
            here, there = place(plan.bus, *unit.dma), place(plan.disk, *unit.lba)
            yield Ribbon(BUS[1], *here, DISK[0], *there, 2, unit.hue, first, last, *_carried(unit))


def _pins(plan: Layout) -> Iterator[Pin]:
    """Yield a dot for each run of memory that is pinned."""
    found = [(group, land) for group in plan.groups("pa") if (land := plan.landing[group.first])]
    for (first, last, unit), (_, top, right, _) in found if len(found) <= _PINS else ():
        yield Pin(right, top, first, last, unit.pin, unit.unpin)
