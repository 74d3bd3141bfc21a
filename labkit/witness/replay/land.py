"""The frames behind a buffer, as pagemap and kpageflags told of them, become records of memory."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from labkit.scatter.payload import Range, Ranges, join, run_length
from labkit.trace.events import (
    MemremapPages,
    Mmap,
    MmFilemapAddToPageCache,
    MmPageAlloc,
    Record,
    SetPtes,
    ZapPtes,
)
from labkit.trace.page_flags import PG_uptodate
from labkit.trace.snapshot import MemoryMap
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER
from labkit.witness.capture import Capture
from labkit.witness.captured_layout import CapturedLayout
from labkit.witness.layout import PCI_HOLE

_NAMES = {
    "LOCKED": 0, "REFERENCED": 2, "UPTODATE": 3, "DIRTY": 4, "WRITEBACK": 8, "ANON": 12, "SWAPBACKED": 14, "HUGE": 17,
    "KSM": 21, "ZERO_PAGE": 24,
}  # fmt: skip
"""Bits of /proc/kpageflags by the names that captures may have for them."""
_ANON, _SWAPBACKED, _HUGE, _ZERO = (_NAMES[name] for name in ("ANON", "SWAPBACKED", "HUGE", "ZERO_PAGE"))
_KEPT = sum(1 << _NAMES[name] for name in ("REFERENCED", "UPTODATE", "DIRTY", "ANON", "HUGE", "ZERO_PAGE"))
"""Those that a folio of a trace has, too."""
_DMA_END, _DMA32_END = 1 << 12, 1 << 20
"""Frames past the end of the zones DMA (16 MiB) and DMA32 (4 GiB) of x86."""
_GIB_FRAMES = 1 << 18
_NEAR = 16 * PAGE_SIZE
"""Pages that are further apart are not taken for one mapping, in bytes."""

Rows = Sequence[tuple[int, int, int]]
"""(user address, first PFN or -1, pages)."""
Pages = dict[int, int]
"""The PFN behind each user address that is present."""


class _Large(NamedTuple):
    """A folio of `frames` frames at `head`: which kpageflags it has, and the user addresses that map it."""

    head: int
    frames: int
    flags: frozenset[int]
    mapped: list[int]

    @property
    def order(self) -> int:
        return self.frames.bit_length() - 1

    @property
    def ranges(self) -> tuple[Range]:
        return ((self.head << PAGE_SHIFT, self.frames << PAGE_SHIFT),)


def memory(capture: Capture) -> MemoryMap:
    """Return the zones of an x86 machine that has the highest frame seen; what else it holds nobody told."""
    rows = [*capture.layout.before, *(capture.layout.after or ())]
    end = max((pfn + n for _, pfn, n in rows if pfn >= 0), default=0)
    ram = PCI_HOLE[0] >> PAGE_SHIFT if capture.mode == "p2p" else _DMA32_END
    zones = [("DMA", 0, _DMA_END), ("DMA32", _DMA_END, ram)]
    if end > _DMA32_END:
        zones.append(("Normal", _DMA32_END, -(-end // _GIB_FRAMES) * _GIB_FRAMES))
    return MemoryMap(tuple(zones))


def before(capture: Capture) -> Iterator[Record]:
    """Yield what was there when the call began, at 0 ns: mappings, folios, and which page maps which frame."""
    layout = capture.layout
    early, late = _present(layout.before), _present(layout.after or ())
    prot = "rw-" if any(io.op == "r" for io in capture.io) else "r--"
    for addr, nbytes in _mappings(capture.layout, sorted(early | late)):
        yield Mmap(0, 0, addr, nbytes, prot, "buffer", 0, "anon")
    yield from _mapped(0, capture, early)


def _mappings(layout: CapturedLayout, pages: Sequence[int]) -> Iterator[Range]:
    """Yield (address, bytes) of each mapping: pages near each other are of one, unless one between them is absent."""
    absent = [va for va, pfn, _ in (layout.before if layout.after is None else layout.after) if pfn < 0]
    first = last = -1
    for va in pages:
        if first < 0 or va - last > _NEAR or any(last < gap < va for gap in absent):
            if first >= 0:
                yield first, last + PAGE_SIZE - first
            first = va
        last = va
    if first >= 0:
        yield first, last + PAGE_SIZE - first


def meanwhile(capture: Capture, t: int) -> Iterator[Record]:
    """Yield the pages that came, or moved, while the call ran: pagemap tells of them afterwards; `t` is a guess."""
    early = _present(capture.layout.before)
    yield from _mapped(t, capture, {va: pfn for va, pfn in later(capture).items() if early.get(va) != pfn})


def later(capture: Capture) -> Pages:
    """Return the pages as they were seen afterwards; nothing where that was not noted."""
    return _present(capture.layout.after or ())


def _present(rows: Rows) -> Pages:
    return {va + (at << PAGE_SHIFT): pfn + at for va, pfn, n in rows if pfn >= 0 for at in range(n)}


def _spans(pages: Iterable[int]) -> Iterator[Range]:
    """Yield user addresses that follow each other as (address, bytes)."""
    yield from run_length([(va, PAGE_SIZE) for va in sorted(pages)])


def _mapped(t: int, capture: Capture, pages: Pages) -> Iterator[Record]:
    """Yield the records after which `pages` are mapped as they were seen, and no other."""
    shared = {pfn for pfn, times in Counter(pages.values()).items() if times > 1}
    there: Pages = dict(pages)
    for folio in _large(capture.layout, pages):
        if _is_anon(folio, pages, shared):
            yield from _alloc(t, folio, pages)
            for va in folio.mapped:
                del there[va]
        elif _ZERO not in folio.flags:
            name = "hugetlb" if _HUGE in folio.flags else "shared memory" if _SWAPBACKED in folio.flags else "a file"
            flags = sum(1 << bit for bit in folio.flags) & _KEPT or PG_uptodate
            yield MmFilemapAddToPageCache(t, 0, folio.order, folio.frames, flags, folio.ranges, name)
            shared.update(range(folio.head, folio.head + folio.frames))
    bars = {pfn for pfn in there.values() if capture.buffer.is_bar(pfn << PAGE_SHIFT)}
    for start, nbytes in run_length([(pfn << PAGE_SHIFT, PAGE_SIZE) for pfn in sorted(bars)]):
        yield MemremapPages(t, 0, capture.provider, start, nbytes, 1, PG_uptodate, nbytes >> PAGE_SHIFT)
    yield from _small(t, there, shared | bars)


def _large(layout: CapturedLayout, pages: Pages) -> Iterator[_Large]:
    """Yield the large folios that `pages` map."""
    vas: dict[int, list[int]] = {}
    for va, pfn in sorted(pages.items()):
        vas.setdefault(pfn, []).append(va)
    for head, frames, *more in layout.large_folios:
        mapped = [va for pfn in range(head, head + frames) for va in vas.get(pfn, ())]
        if mapped and frames & (frames - 1) == 0:
            yield _Large(head, frames, _bits(more), mapped)


def _bits(more: Sequence[object]) -> frozenset[int]:
    """Return kpageflags, told as names or as bits, as bits."""
    told = more[0] if more and isinstance(more[0], list) else []
    return frozenset(_NAMES.get(flag, -1) if isinstance(flag, str) else int(flag) for flag in told) - {-1}


def _is_anon(folio: _Large, pages: Pages, shared: set[int]) -> bool:
    """Return whether the folio is private memory, mapped page by page in its own order.

    Where no flags but its size were noted it is taken for that.
    """
    mapped, base = set(folio.mapped), _base(folio, pages)
    places = range(base, base + (folio.frames << PAGE_SHIFT), PAGE_SIZE)
    in_order = base >= 0 and all(va - base == pages[va] - folio.head << PAGE_SHIFT for va in mapped)
    alone = in_order and all(va in mapped or va not in pages for va in places)
    of_file = folio.flags & {_SWAPBACKED, _HUGE} and _ANON not in folio.flags
    return alone and not of_file and not any(pages[va] in shared for va in mapped)


def _base(folio: _Large, pages: Pages) -> int:
    """Return the user address that the first page of the folio has, if it is mapped in order."""
    return folio.mapped[0] - (pages[folio.mapped[0]] - folio.head << PAGE_SHIFT)


def _alloc(t: int, folio: _Large, pages: Pages) -> Iterator[Record]:
    """Yield the folio, mapped; and that what pagemap was not asked for is not: nobody looked there."""
    base = _base(folio, pages)
    whole = len(folio.mapped) == folio.frames
    by_pmd = whole and folio.order == PMD_ORDER and base % (PAGE_SIZE << PMD_ORDER) == 0
    yield MmPageAlloc(t, 0, base, folio.order, 1 if by_pmd else folio.frames, folio.ranges)
    mapped = set(folio.mapped)
    beyond = [va for at in range(folio.frames) if (va := base + (at << PAGE_SHIFT)) not in mapped]
    for addr, nbytes in _spans(beyond):
        yield ZapPtes(t, 0, addr, nbytes)


def _small(t: int, pages: Pages, there: set[int]) -> Iterator[Record]:
    """Yield single pages: those `there` already are only mapped, others are allocated, too."""
    for known, group in groupby(sorted(pages.items()), key=lambda page: page[1] in there):
        found = dict(group)
        for addr, nbytes in _spans(found):
            pfns = (found[va] << PAGE_SHIFT for va in range(addr, addr + nbytes, PAGE_SIZE))
            ranges: Ranges = join([run_length([(pa, PAGE_SIZE) for pa in pfns])])
            yield SetPtes(t, 0, addr, 0, ranges) if known else MmPageAlloc(t, 0, addr, 0, 1, ranges)
