"""Memory that comes while the machine runs: a CXL module is onlined as ZONE_MOVABLE (mm/memory_hotplug.c)."""

import errno

from labkit.errors import BadInput
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.watermark import lowmem_reserve, setup_per_zone_wmarks
from labkit.kernel.mm.page_alloc.zone import Zone
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PhysAddr

MEMORY_BLOCK = PAGE_SIZE << MAX_PAGE_ORDER
"""What comes is whole blocks of the greatest order; the kernel adds whole sections of 128 MiB."""


def online_movable(buddy: Buddy, start: PhysAddr, nbytes: int, cpus: int = 2) -> Zone:
    """Give [start, start + nbytes) to the allocator, for what can move: it is asked first for that from now on.

    There is one node here, so nobody is nearer to the new memory than others; a pin for the long term may not stay in
    it (MM-21). Raises BadInput EINVAL for addresses below other RAM, and for less than whole blocks.
    """
    if start % MEMORY_BLOCK or nbytes % MEMORY_BLOCK or nbytes <= 0 or start < buddy.phys_end:
        what = f"{start:#x}+{nbytes}"
        raise BadInput("memory_hotplug", what, "is not whole blocks of 4 MiB above all RAM", errno.EINVAL)
    zone = Zone("Movable", start >> PAGE_SHIFT, (start + nbytes) >> PAGE_SHIFT)
    buddy.zones.insert(0, zone)
    lowmem = sum(each.managed for each in buddy.zones if each.name != "Movable")
    reserve = lowmem_reserve([(each.name, each.managed) for each in reversed(buddy.zones)])
    for each in buddy.zones:
        each.protection = reserve[each.name]
    zone.setup(setup_per_zone_wmarks("Movable", zone.managed, lowmem), reserve["Movable"], cpus)
    return zone
