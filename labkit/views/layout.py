"""Units find their places on the page: a row on each of four columns, and where ribbons land on the map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from labkit.trace.events import MemremapPages, MmPageAlloc, SetPtes
from labkit.trace.snapshot import MemoryMap
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT
from labkit.views.buffers import Buffers, buffers, height
from labkit.views.fold import Place, Unit, fold, join
from labkit.views.journey import Journey
from labkit.views.strips import Run, runs, stack
from labkit.views.tiles import Tiles, lay_out, touched

WIDTH, HEIGHT = 1568, 590
TOP, BOTTOM = 54, 582
USER, MAP, BUS, DISK = (118, 258), 474, (1212, 1302), (1446, 1528)
"""Left and right edges of the columns; the map's right edge follows from its tiles."""
STRIP_BOTTOM = 426
_THREADS = 24
"""Above so many ribbons each is thinner where it lands than its memory is tall, or they would hide each other."""

Edges = tuple[float, float, float, float]
"""left, top, right, bottom."""


class Group(NamedTuple):
    """Units from `first` to `last` that one shape stands for, and the unit that they make up together."""

    first: int
    last: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is."""

    trip: Journey
    units: tuple[Unit, ...]
    tiles: Tiles
    user: Buffers
    bus: tuple[Run, ...]
    disk: tuple[Run, ...]
    landing: tuple[Edges | None, ...]
    """For each unit the box on the map where its ribbon lands, None where that part of memory is not drawn."""

    def groups(self, column: str) -> Iterator[Group]:
        """Yield neighbours of one colour whose addresses follow each other in `column`.

        va and pa join whole phyrs, dma and lba no more than a request.
        """
        first = 0
        for i in range(1, len(self.units) + 1):
            if i == len(self.units) or not _follows(self.units[i - 1], self.units[i], column):
                yield Group(first, i - 1, join(self.units[first:i]))
                first = i


def lay(trace: Trace, trip: Journey, most: int) -> Layout:
    """Return the layout of at most about `most` units."""
    units = tuple(fold(trip, most))
    places = [unit.pa for unit in units if unit.pa[1]]
    brought = (rec for rec in trace.records if isinstance(rec, MmPageAlloc | SetPtes))
    places = places or [place for rec in brought for place in rec.ranges]
    tiles = lay_out(touched(places), known(trace), MAP, TOP, BOTTOM)
    bus, disk = runs(u.dma for u in units), runs(sorted(u.lba for u in units))
    return Layout(
        trip,
        units,
        tiles,
        buffers(trace, trip.ios, (USER[0], TOP, USER[1], BOTTOM)),
        tuple(_strip(bus)),
        tuple(_strip(disk)),
        tuple(_landings(units, tiles)),
    )


def known(trace: Trace) -> MemoryMap:
    """Return the lie of the land: its zones, and one more for each device range that has struct pages."""
    devices = [rec for rec in trace.of(MemremapPages) if rec.frames]
    if not devices or not trace.memory.zones:
        return trace.memory
    more = ((f"Device {rec.name}", rec.start >> PAGE_SHIFT, rec.start + rec.len >> PAGE_SHIFT) for rec in devices)
    return replace(trace.memory, zones=(*trace.memory.zones, *more))


def _strip(places: Sequence[Place]) -> list[Run]:
    """Return the strip of device addresses or blocks, as tall as the buffer they belong to."""
    room = STRIP_BOTTOM - TOP - 62.0
    tall = min(room, height(sum(n for _, n in places)) + 18 * (len(places) - 1))
    top = TOP + 36 + (room - tall) / 2
    return stack(places, top, top + tall, 18)


def _landings(units: Sequence[Unit], tiles: Tiles) -> Iterator[Edges | None]:
    """Yield for each unit its share of the contiguous memory that it is part of; alone, the largest block of it."""
    whole = runs(unit.pa for unit in units)
    hulls = {place: tiles.hull(*place) for place in whole}
    for unit in units:
        run = next((run for run in whole if run[0] <= unit.pa[0] < sum(run)), None)
        hull = hulls[run] if run else None
        if run is None or hull is None:
            yield None
        elif run == unit.pa:
            yield _thin(max(tiles.boxes(*run), key=_area), 0, 1, len(units))
        else:
            yield _thin(hull, (unit.pa[0] - run[0]) / run[1], unit.pa[1] / run[1], len(units))


def _area(edges: Edges) -> float:
    return (edges[2] - edges[0]) * (edges[3] - edges[1])


def _thin(edges: Edges, start: float, share: float, ribbons: int) -> Edges:
    """Return the part of a box from `start` on, both as fractions of its height, thinner where ribbons are many."""
    left, top, right, bottom = edges
    middle = top + (bottom - top) * (start + share / 2)
    half = (bottom - top) * share / 2 * min(1.0, _THREADS / ribbons)
    return left, middle - half, right, middle + half


def _follows(one: Unit, two: Unit, column: str) -> bool:
    """Return whether `two` goes on where `one` ends, so that one shape can stand for both."""
    same = one.io == two.io and (one.hue == two.hue or column == "pa")
    if column in ("dma", "lba"):
        same = same and one.request == two.request
    return same and sum(getattr(one, column)) == getattr(two, column)[0]
