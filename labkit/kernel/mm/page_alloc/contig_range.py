"""Frames that somebody names become theirs: alloc_contig_range, for memory that is to lie just there."""

import errno

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.zone import Zone, aligned_blocks
from labkit.units import MAX_PAGE_ORDER, Pfn

_MAX_BLOCK = 1 << MAX_PAGE_ORDER


def alloc_contig_range(buddy: Buddy, start: Pfn, frames: int) -> None:
    """Take frames [start, start + frames) out of the free lists; they go back as all others do.

    Nothing is migrated out of the way, as the kernel would. Raises SyscallError EBUSY where one of them is in use,
    BadInput EINVAL for frames that are no RAM, or of two zones; nothing is taken then.
    """
    end = start + frames
    zone = next((zone for zone in buddy.zones if zone.start <= start and end <= zone.end), None)
    ram = zone is not None and any(lo <= start and end <= hi for lo, hi in buddy.memblock.free_frames_of(zone.name))
    if zone is None or not ram or frames < 1:
        what = f"frames {start:#x} to {end - 1:#x}"
        raise BadInput("mm", what, "are no RAM of one zone of this machine", errno.EINVAL)
    zone.drain_pages()
    _reach(zone, end)
    blocks = _blocks(zone, start, end)
    if sum(min(end, pfn + (1 << order)) - max(start, pfn) for pfn, order in blocks) < frames:
        raise SyscallError("mm", f"frames {start:#x} to {end - 1:#x}", "are not all free", errno.EBUSY)
    for pfn, order in blocks:
        _take(zone, pfn, order, start, end)
    zone.map.set_used(start, frames)


def _reach(zone: Zone, end: int) -> None:
    """Put the untouched tail below frame `end` into the lists, the lowest block last: it is the next to be taken."""
    first, last = zone.virgin, min(zone.end, -(-end // _MAX_BLOCK) * _MAX_BLOCK)
    if first >= last:
        return
    zone.virgin = last
    for pfn in range(last - _MAX_BLOCK, first - 1, -_MAX_BLOCK):
        zone.map.set_free(pfn, _MAX_BLOCK)
        zone.free_one_page(pfn, MAX_PAGE_ORDER)


def _blocks(zone: Zone, start: int, end: int) -> list[tuple[int, int]]:
    """Return the free blocks (first frame, order) that have a frame of [start, end), by address."""
    found, at = list[tuple[int, int]](), start
    while at < end:
        here = next(((at >> o << o, o) for o in range(MAX_PAGE_ORDER + 1) if _list_of(zone, at >> o << o, o)), None)
        if here is not None:
            found.append(here)
        at = here[0] + (1 << here[1]) if here is not None else at + 1
    return found


def _list_of(zone: Zone, pfn: int, order: int) -> dict[int, None] | None:
    """Return the list that holds the free block of 2**`order` frames at `pfn`, or None."""
    return next((blocks for blocks in zone.free_area[order] if pfn in blocks), None)


def _take(zone: Zone, pfn: int, order: int, start: int, end: int) -> None:
    """Take a block off its list, and put what of it lies outside of [start, end) back, as it is."""
    blocks, after = _list_of(zone, pfn, order), pfn + (1 << order)
    if blocks is None:
        return
    del blocks[pfn]
    zone.listed -= 1 << order
    migratetype = zone.pageblock_type(pfn)
    for lo, hi in ((pfn, min(start, after)), (max(end, pfn), after)):
        for at, size in aligned_blocks(lo, hi) if lo < hi else ():
            zone.free_area[size][migratetype][at] = None
            zone.listed += 1 << size
