"""Zones become text: /proc/buddyinfo, /proc/pagetypeinfo, a part of /proc/zoneinfo, as the kernel lays them out."""

from collections.abc import Iterable

from labkit.kernel.mm.page_alloc.free_area import MIGRATE_NAMES, PAGEBLOCK_ORDER
from labkit.kernel.mm.page_alloc.zone import ZoneInfo
from labkit.units import MAX_PAGE_ORDER


def buddyinfo(zones: Iterable[ZoneInfo]) -> str:
    """Return free blocks by zone and order: 'Node 0, zone   Normal      1      0 ...' (mm/vmstat.c)."""
    return "".join(f"{_zone(zone)}{_counts(sum(row) for row in zone.free)}\n" for zone in zones)


def pagetypeinfo(zones: Iterable[ZoneInfo]) -> str:
    """Return free blocks by zone, migratetype and order, and the pageblocks of each type (mm/vmstat.c)."""
    infos = tuple(zones)
    orders = "".join(f"{order:6d} " for order in range(MAX_PAGE_ORDER + 1))
    names = "".join(f"{name:>12} " for name in MIGRATE_NAMES)
    lines = [f"Page block order: {PAGEBLOCK_ORDER}", f"Pages per block:  {1 << PAGEBLOCK_ORDER}", ""]
    lines.append(f"{'Free pages count per migrate type at order':<43} {orders}")
    for zone in infos:
        for migratetype, name in enumerate(MIGRATE_NAMES):
            counts = _counts(row[migratetype] for row in zone.free)
            lines.append(f"Node {0:4d}, zone {zone.name:>8}, type {name:>12} {counts}")
    lines += ["", f"{'Number of blocks type':<23}{names}"]
    lines += [_zone(zone) + "".join(f"{n:12d} " for n in zone.pageblocks) for zone in infos]
    return "\n".join(lines) + "\n"


def zoneinfo(zones: Iterable[ZoneInfo]) -> str:
    """Return free frames, watermarks, sizes, lowmem_reserve and the per-cpu lists of each zone (mm/vmstat.c)."""
    return "".join(map(_zoneinfo, zones))


def _zoneinfo(zone: ZoneInfo) -> str:
    marks = zone.watermarks
    rows = (
        ("boost", 0), ("min", marks.min), ("low", marks.low), ("high", marks.high), ("promo", marks.promo),
        ("spanned", zone.end - zone.start), ("present", zone.present), ("managed", zone.managed), ("cma", 0),
    )  # fmt: skip
    body = "".join(f"\n        {name:<8} {value}" for name, value in rows)
    protection = ", ".join(map(str, zone.protection))
    pageset = (("count:", zone.pcp), ("high:", zone.high), ("batch:", zone.batch))
    sets = "".join(f"\n              {name:<9} {value}" for name, value in pageset)
    head = f"Node 0, zone {zone.name:>8}\n  pages free     {zone.nr_free}"
    return f"{head}{body}\n        protection: ({protection})\n  pagesets\n    cpu: 0{sets}\n"


def _zone(zone: ZoneInfo) -> str:
    return f"Node 0, zone {zone.name:>8} "


def _counts(counts: Iterable[int]) -> str:
    return "".join(f"{count:6d} " for count in counts)
