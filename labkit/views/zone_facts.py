"""What is known of physical memory: zones, ranges and holes as plain values, and what follows from them by counting."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from labkit.scatter.page import STRUCT_PAGE_BYTES
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, human_bytes

TYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
"""Migratetypes in the kernel's order (BUD-7)."""


class MarksLike(Protocol):
    """Watermarks of a zone, in frames."""

    @property
    def min(self) -> int:
        """Below it only the kernel's own may allocate."""

    @property
    def low(self) -> int:
        """Below it kswapd wakes."""

    @property
    def high(self) -> int:
        """Above it kswapd sleeps."""


class ZoneLike(Protocol):
    """A zone at one instant, in frames; `free` counts blocks by order and migratetype, as /proc/pagetypeinfo does."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def start(self) -> int:
        """Where it begins."""

    @property
    def end(self) -> int:
        """Where it ends; this is past it."""

    @property
    def managed(self) -> int:
        """Frames that the buddy allocator has."""

    @property
    def free(self) -> Sequence[Sequence[int]]:
        """Free blocks by order and migratetype."""

    @property
    def watermarks(self) -> MarksLike:
        """The marks of the zone."""


class RangeLike(Protocol):
    """Physical addresses [start, end), in bytes, and whether each of their frames has a struct page."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def start(self) -> int:
        """Where it begins."""

    @property
    def end(self) -> int:
        """Where it ends; this is past it."""

    @property
    def struct_pages(self) -> bool:
        """Whether struct pages describe it."""


class Part(NamedTuple):
    """A part of the address map: `kind` is 'ram', 'hole', 'paged' or 'pageless' (a device with or without them)."""

    name: str
    kind: str
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Its length, in bytes."""
        return self.end - self.start

    @property
    def memmap(self) -> int:
        """What its struct pages cost, in bytes (MM-1)."""
        return (self.nbytes >> PAGE_SHIFT) * STRUCT_PAGE_BYTES if self.kind in {"ram", "paged"} else 0


def parts(zones: Sequence[ZoneLike], ranges: Sequence[RangeLike]) -> list[Part]:
    """Return the address map: RAM by zone, devices, and the holes between them, by address."""
    spans = [(z.name, z.start << PAGE_SHIFT, z.end << PAGE_SHIFT) for z in zones]
    known: list[Part] = []
    for r in sorted(ranges, key=lambda r: r.start):
        inside = [Part(name, "ram", max(a, r.start), min(b, r.end)) for name, a, b in spans]
        inside = [part for part in inside if part.start < part.end]
        known += inside or [Part(r.name, "paged" if r.struct_pages else "pageless", r.start, r.end)]
    for name, a, b in spans:
        if not any(part.start < b and a < part.end for part in known):
            known.append(Part(name, "ram", a, b))
    return list(_with_holes(sorted(known, key=lambda part: part.start)))


def _with_holes(known: Sequence[Part]) -> Iterator[Part]:
    at = 0
    for part in known:
        if at < part.start:
            yield Part("hole", "hole", at, part.start)
        yield part
        at = part.end


def nr_free(zone: ZoneLike) -> int:
    """Return the free frames of `zone`."""
    return sum(sum(row) << order for order, row in enumerate(zone.free))


def shares(zone: ZoneLike) -> list[float]:
    """Return, by order, which part of the free memory is in blocks of it, 0 to 1."""
    total = max(nr_free(zone), 1)
    return [(sum(row) << order) / total for order, row in enumerate(zone.free)]


def unusable(zone: ZoneLike) -> list[float]:
    """Return, by order, which part of the free memory is in smaller blocks: extfrag/unusable_index (mm/vmstat.c)."""
    found, below = [], 0.0
    for share in shares(zone):
        found.append(round(min(below, 1.0), 3) if nr_free(zone) else 1.0)
        below += share
    return found


def usable(zones: Sequence[ZoneLike]) -> float:
    """Return which part of the free memory of `zones` is in blocks of 2 MiB and more, 0 to 1."""
    free = sum(map(nr_free, zones))
    return sum(nr_free(zone) * sum(shares(zone)[PMD_ORDER:]) for zone in zones) / max(free, 1)


def block(order: int) -> str:
    """Return the size of a block of `order` as text."""
    return human_bytes(PAGE_SIZE << order)


def percent(part: float) -> str:
    """Return a share as text; what is little is not nothing, and what is not all is not 100 %."""
    if 0 < part < 0.01:  # noqa: PLR2004 - one per cent
        return "under 1 %"
    return "over 99 %" if 0.99 < part < 1 else f"{part:.0%}".replace("%", " %")  # noqa: PLR2004 - the same from above
