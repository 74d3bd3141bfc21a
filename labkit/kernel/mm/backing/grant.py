"""Memory of another Xen domain, by grant: machine frames, to which Linux has no struct pages (PHYR-29, D-16)."""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.kernel.mm.backing.memremap import DevPagemap
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.backing.remap_pfn import PfnMapping
from labkit.kernel.mm.frames.frames import Frames
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PhysAddr

FOREIGN = MemoryClass("foreign", "xen")
"""What granted memory is to DMA: its addresses are the machine's already."""
_MOST_RUNS = 256


class Scratch(NamedTuple):
    """Guest physical addresses where nothing is, made to stand for foreign frames (drivers/xen/unpopulated-alloc.c)."""

    start: PhysAddr
    p2m: dict[int, int]
    """Guest frame to machine frame, filled in here."""


def scattered(start: int, nbytes: int) -> tuple[Range, ...]:
    """Return `nbytes` of machine memory from `start` on as another domain has it: in order, and hardly ever adjacent.

    Every second run of frames first, then the others: what goes on in the guest does not in the machine.
    """
    pages = nbytes >> PAGE_SHIFT
    step = -(-pages // _MOST_RUNS)
    firsts = [*range(0, pages, 2 * step), *range(step, pages, 2 * step)]
    return tuple((start + (at << PAGE_SHIFT), min(step, pages - at) << PAGE_SHIFT) for at in firsts)


def map_grant_phyrs(frames: Frames, runs: Sequence[Range], provider: Provider) -> PfnMapping:
    """Offer machine `runs` as they are (proposed): no page is made up, and a phyr says that it is foreign."""
    frames.emit(("MemremapPages", frames.now(), 0, provider.name, provider.start, provider.nbytes, 0, 0, 0))
    return PfnMapping(frames, "foreign", tuple(runs), provider)


def map_grant_pages(frames: Frames, runs: Sequence[Range], scratch: Scratch, name: str) -> DevPagemap:
    """Offer machine `runs` as upstream does: each frame gets a made-up struct page, and DMA looks through it."""
    pfn = scratch.start >> PAGE_SHIFT
    for addr, nbytes in runs:
        first, count = addr >> PAGE_SHIFT, nbytes >> PAGE_SHIFT
        scratch.p2m.update(zip(range(pfn, pfn + count), range(first, first + count), strict=True))
        pfn += count
    return DevPagemap(frames, "foreign", scratch.start, (pfn << PAGE_SHIFT) - scratch.start, name=name)
