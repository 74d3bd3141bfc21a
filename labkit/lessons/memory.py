"""The questions of notebook 02: physical memory."""

from collections.abc import Iterator
from random import Random

from labkit.kernel.mm.frames.folio import memmap_bytes
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import MIGRATE_NAMES, MOVABLE, FreeArea
from labkit.kernel.mm.page_alloc.memblock import ZONE_NAMES, Memblock, Region
from labkit.kernel.mm.page_alloc.zone import Zone, ZoneInfo
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.trace.events import GupPin
from labkit.trace.trace import Trace
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, human_bytes

_GIB = 1 << 30
FRAMES = 1 << MAX_PAGE_ORDER
"""Frames of the memory that the exercises are about."""
_GAP = 0.5
"""How often a buddy is missing."""


def empty_area() -> FreeArea:
    """Return 1024 frames, all of them in use: free lists to fill by hand."""
    area = FreeArea(0, FRAMES)
    area.virgin = FRAMES
    return area


def free_lists(area: FreeArea, migratetype: int = MOVABLE) -> dict[int, list[int]]:
    """Return the first frames of the free blocks of `area` by their order."""
    return {order: sorted(row[migratetype]) for order, row in enumerate(area.free_area) if row[migratetype]}


def take(area: FreeArea, order: int) -> int | None:
    """Take a block of just 2**`order` frames, as an allocation does, and return its first frame; None without one."""
    found = area.take(order, MOVABLE)
    if found is None:
        return None
    area.give_rest(*found, 1 << order)
    return found[0]


def _ram_end(boot: Memblock) -> int:
    return boot.phys_end // _GIB


def _memmap(device: Region) -> int:
    return memmap_bytes(device.end - device.start >> PAGE_SHIFT) >> 20


def _changed(zones: tuple[ZoneInfo, ...]) -> int:
    unmovable = MIGRATE_NAMES.index("Unmovable")
    return sum(zone.pageblocks[unmovable] for zone in zones)


def _phyrs(trace: Trace) -> int:
    return sum(len(pin.ranges) for pin in trace.of(GupPin))


RAM_END = Question(
    "16 GiB of RAM begin at address 0: at which GiB do they end?",
    _ram_end,
    "The 4th GiB is left to the PCI devices, and what would be there lies above 4 GiB (BUD-1).",
)
MEMMAP = Question(
    "A GPU has 96 GiB: how many MiB of struct pages would describe it?",
    _memmap,
    "Each 4 KiB take a struct page of 64 bytes, which is 1/64 of the memory (MM-1).",
)
BUDDY = Question(
    "A block of two frames begins at PFN 6: where does its buddy begin?",
    lambda area: free_lists(area)[1][0],
    "The buddy is one bit away: 6 XOR 2 is 4 (BUD-3).",
)
JOINED = Question(
    "Of which order is the block when all have joined?",
    lambda area: max(free_lists(area)),
    "The blocks at 4 and 6 make one of order 2 at 4; its buddy at 0 is free too: order 3 at 0 (BUD-3).",
)
HOT = Question(
    "Pages a, b, c are freed in this order: which one does the next allocation get?",
    str,
    "What was freed last is still in the cache of the CPU, and is taken first (BUD-8).",
    ("a", "b", "c"),
)
PAGEBLOCKS = Question(
    "One unmovable page on a fresh machine: how many pageblocks of 2 MiB become unmovable?",
    _changed,
    "The largest free block is claimed, with every pageblock in it: better one wound than many (BUD-6).",
)
LEFT = Question(
    "A program takes every page that it is given: how many stay free?",
    lambda buddy: buddy.nr_free,
    "The minimum watermark is for those who free memory, and a lower zone keeps some from all others (BUD-9).",
)
PHYRS = Question(
    "1 MiB in pages of 4 KiB, months of uptime: how many phyrs?",
    _phyrs,
    "At fragmentation 1 no two pages that are allocated one after the other touch: each is a phyr of its own.",
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on physical memory without end; the same seed gives the same series."""
    return quiz.endless(seed, (_buddy_of, _join, _split, _memmap_of, _zone_of, _next_page))


def _buddy_of(rng: Random) -> Exercise:
    order = rng.randrange(MAX_PAGE_ORDER)
    pfn = rng.randrange(1 << 20) >> order << order
    text = f"A free block of order {order} begins at PFN {pfn}. At which PFN does its buddy begin?"
    return Exercise(text, pfn ^ (1 << order), f"The buddy differs in one bit: {pfn} XOR {1 << order} (BUD-3).")


def _join(rng: Random) -> Exercise:
    order = rng.randrange(2)
    pfn = rng.randrange(64) >> order << order
    sizes = list(range(order, rng.randrange(order + 2, 6)))
    if rng.random() < _GAP:
        sizes.remove(rng.choice(sizes))
    area = empty_area()
    free = sorted(((pfn ^ (1 << size)) >> size << size, size) for size in sizes)
    for block in (*free, (pfn, order)):
        area.free_one_page(*block)
    joined = next(size for size, blocks in free_lists(area).items() for at in blocks if at <= pfn < at + (1 << size))
    told = ", ".join(f"{at} (order {size})" for at, size in free)
    text = f"Free blocks begin at PFN {told}. Now {pfn} (order {order}) is freed. Of which order is its block then?"
    return Exercise(text, joined, "A block joins its buddy as long as that is free too (BUD-3).")


def _split(rng: Random) -> Exercise:
    high = rng.randrange(3, MAX_PAGE_ORDER + 1)
    order = rng.randrange(high)
    area = empty_area()
    area.free_one_page(0, high)
    take(area, order)
    left = sum(map(len, free_lists(area).values()))
    text = f"One block of order {high} is free. One of order {order} is taken: how many free blocks are there then?"
    return Exercise(text, left, "It is halved until it fits, and the upper half goes back each time (BUD-5).")


def _memmap_of(rng: Random) -> Exercise:
    gib = 1 << rng.randrange(3, 9)
    text = f"A device has {gib} GiB of memory: how many MiB of struct pages would describe it?"
    return Exercise(text, memmap_bytes(gib << 18) >> 20, "Struct pages of 64 bytes are 1/64 of the memory (MM-1).")


def _zone_of(rng: Random) -> Exercise:
    boot = Memblock(16 * _GIB)
    zone = rng.choice(boot.zones)
    addr = rng.randrange(zone.start, zone.end) & -4096
    text = f"A machine has 16 GiB of RAM. In which zone does physical address {addr:#x} ({human_bytes(addr)}) lie?"
    return Exercise(text, zone.name, "ZONE_DMA ends at 16 MiB, ZONE_DMA32 at 4 GiB (BUD-1).", ZONE_NAMES)


def _next_page(rng: Random) -> Exercise:
    zone = Buddy(64 << 20).zones[0]
    pages = [_page(zone) for _ in range(rng.randrange(3, 7))]
    rng.shuffle(pages)
    for pfn in pages:
        zone.free(pfn, 0)
    text = f"Pages {', '.join(map(str, pages))} are freed in this order. Which one does the next allocation get?"
    return Exercise(text, _page(zone), "What was freed last is taken first: it is still in the cache (BUD-8).")


def _page(zone: Zone) -> int:
    pfn = zone.rmqueue(0)
    assert pfn is not None  # noqa: S101 - 64 MiB have a few pages
    return pfn
