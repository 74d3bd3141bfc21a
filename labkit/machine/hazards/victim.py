"""Memory that is free again gets a new owner, who fills it with bytes of its own: so that a stray write is seen."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.folio import map_refs
from labkit.kernel.mm.page_alloc.zone import Zone
from labkit.machine.hazards.stage import Stage
from labkit.machine.invariants.memory import is_free
from labkit.scatter.payload import Range, run_length
from labkit.task import Task
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE

OWN = b"somebody else's "
"""What the new owner writes: 16 bytes, again and again."""


class Victim(NamedTuple):
    """A task that has got memory at `ranges` (physical), and has filled it with OWN."""

    task: Task
    addr: int
    ranges: tuple[Range, ...]


def take_over(stage: Stage, pfns: Iterable[int]) -> Victim | None:
    """Let a new task have those of `pfns` that are free; None where none is."""
    stage.frames.buddy.drain_all_pages()
    taken = [pfn for pfn in pfns if is_free(stage.frames, pfn, 1) and _take(stage, pfn)]
    if not taken:
        return None
    runs = tuple(run_length([(pfn << PAGE_SHIFT, PAGE_SIZE) for pfn in taken]))
    task = stage.spawn()
    addr = do_mmap(task.mm, len(taken) * PAGE_SIZE, "rw-", "the next owner")
    vma = task.mm.space.find_vma(addr)
    assert vma is not None  # noqa: S101 - it was mapped a line ago
    groups = stage.frames.folios.add_runs(runs, 0)
    task.mm.map_runs(vma, 0, runs, 0, vma.pte_flags)
    stage.frames.map((group, map_refs(0)) for group in groups)
    task.mm.emit("MmPageAlloc", addr, 0, 1, runs, task.mm.task)
    return fill(stage, task, addr, runs)


def fill(stage: Stage, task: Task, addr: int, ranges: Sequence[Range]) -> Victim:
    """Let `task` write its own bytes to `ranges` (physical), which it has mapped at `addr`."""
    for start, nbytes in ranges:
        stage.ram.scatter(((start, nbytes),), OWN * (nbytes // len(OWN)))
    return Victim(task, addr, tuple(ranges))


def wrong_bytes(stage: Stage, victim: Victim) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (physical address, expected, found) of the first 16 wrong bytes of each page that was written to."""
    for start, nbytes in victim.ranges:
        for addr in range(start, start + nbytes, PAGE_SIZE):
            found = stage.ram.gather(((addr, PAGE_SIZE),))
            if found != OWN * (PAGE_SIZE // len(OWN)):
                at = next(i for i in range(PAGE_SIZE) if found[i] != OWN[i % len(OWN)])
                at -= at % len(OWN)
                yield addr + at, OWN, found[at : at + len(OWN)]


def take_page_off_buddy(zone: Zone, pfn: int) -> bool:
    """Take frame `pfn` out of the free block that it is in, and give back the rest of that (mm/page_alloc.c)."""
    for order in range(MAX_PAGE_ORDER + 1):
        head = pfn >> order << order
        for blocks in zone.free_area[order]:
            if head in blocks:
                del blocks[head]
                zone.listed -= 1 << order
                _break_down(zone, pfn, head, order)
                zone.map.set_used(pfn, 1)
                return True
    return False


def _break_down(zone: Zone, pfn: int, head: int, order: int) -> None:
    """Halve the block at `head` until `pfn` is alone, and list every other half (break_down_buddy_pages)."""
    lists = zone.pageblock_type(pfn)
    while order:
        order -= 1
        upper = head + (1 << order)
        other, head = (head, upper) if pfn >= upper else (upper, head)
        zone.free_area[order][lists][other] = None
        zone.listed += 1 << order


def _take(stage: Stage, pfn: int) -> bool:
    zones = (zone for zone in stage.frames.buddy.zones if zone.start <= pfn < zone.end)
    return any(take_page_off_buddy(zone, pfn) for zone in zones)
