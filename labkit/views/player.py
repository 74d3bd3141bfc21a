"""A trace becomes what a player needs: at each record its time, its sentence, the meters and the pins held."""

from dataclasses import dataclass
from typing import Any

from labkit.trace.events import GupPin, GupUnpin
from labkit.trace.meters import Meters
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT, human_bytes
from labkit.views.fold import Place, Unit
from labkit.views.journey import NEVER, NONE, Journey
from labkit.views.story import story
from labkit.views.words import address

METERS = {
    "pinned_frames": "frames pinned",
    "struct_pages_touched": "struct pages",
    "pin_atomics": "atomics",
    "conversions": "conversions",
    "descriptor_bytes": "descriptor bytes",
    "dma_maps": "DMA maps",
    "iotlb_syncs": "IOTLB flushes",
}
"""The meters that are shown, and their names in plain words."""


@dataclass(frozen=True, slots=True)
class Player:
    """Columns with a row for each record, and `poster`: the index (with a fraction) that the picture opens at."""

    t: list[int]
    layer: list[str]
    text: list[str]
    function: list[str]
    origin: list[str]
    meters: dict[str, list[int]]
    poster: float


def player(trace: Trace, trip: Journey) -> Player:
    """Return the columns of `trace`."""
    lines = story(trace)
    return Player(
        [line.t for line in lines],
        [line.layer for line in lines],
        [line.text for line in lines],
        [line.function for line in lines],
        [line.origin for line in lines],
        _running(trace),
        _poster(trace, trip),
    )


def _running(trace: Trace) -> dict[str, list[int]]:
    """Return each meter as it stands after each record."""
    sums, held, frames = Meters(), 0, dict[int, int]()
    out: dict[str, list[int]] = {name: [] for name in METERS}
    for rec in trace.records:
        sums.add(rec)
        if isinstance(rec, GupPin):
            frames[rec.token] = sum((a + n + 4095 >> 12) - (a >> 12) for a, n in rec.ranges)
            held += frames[rec.token]
        elif isinstance(rec, GupUnpin):
            held -= frames.pop(rec.token, 0)
        for name, values in out.items():
            values.append(held if name == "pinned_frames" else getattr(sums, name))
    return out


def _poster(trace: Trace, trip: Journey) -> float:
    """Return where to open: in the middle of things, with some bytes moved and some on their way; else at the end."""
    last = max(len(trace) - 1, 0)
    moved = sorted(min(com.move, com.complete) for com in trip.commands)
    if not moved or moved[len(moved) // 2] == NEVER:
        return float(last)
    end = moved[len(moved) // 2]
    return max(end - 0.45, 0.0)


def card(trip: Journey, unit: Unit) -> dict[str, Any]:
    """Return what the inspector says of a unit: a title and rows of (name, value)."""
    rows = [
        ("user", _place(unit.va)),
        ("physical", _place(unit.pa)),
        ("device", _place(unit.dma)),
        ("blocks", f"{unit.lba[0] >> SECTOR_SHIFT:,} + {unit.lba[1] >> SECTOR_SHIFT:,}" if unit.lba[1] else "none"),
        ("request", _request(trip, unit)),
    ]
    return {"title": _title(trip, unit), "size": human_bytes(unit.nbytes), "rows": rows}


def _title(trip: Journey, unit: Unit) -> str:
    if unit.first == NONE:
        return "nothing pinned"
    word = "range" if trip.phyrs[unit.first].policy == "page" else "phyr"
    last = unit.first + unit.phyrs - 1
    return f"{word} {unit.first}" + (f"–{last}" if unit.phyrs > 1 else "")


def _place(place: Place) -> str:
    return f"{address(place[0])} + {human_bytes(place[1])}" if place[1] else "none"


def _request(trip: Journey, unit: Unit) -> str:
    if unit.request == NONE:
        return "none"
    com = trip.commands[unit.request]
    where = f", channel {com.unit}" if com.unit != NONE else ""
    return f"{com.rq}, tag {com.tag}{where}"
