"""The machine at any instant, from the records up to it: the trace is sufficient."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from labkit.trace.events import (
    BlockGetrq,
    BlockRqComplete,
    BlockRqMerge,
    DmaMap,
    DmaUnmap,
    DupMmap,
    FolioFlags,
    GupPin,
    GupUnpin,
    IotlbFlush,
    MemremapPages,
    MemunmapPages,
    Mmap,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Mprotect,
    Munmap,
    Ranges,
    Record,
    SetPtes,
    SplitHugePmd,
    ZapPtes,
)
from labkit.trace.page_flags import ANON
from labkit.trace.snapshot import GUP_PIN_COUNTING_BIAS, DmaState, FolioState, PinState, Snapshot
from labkit.trace.translations import Run, Translations
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PUD_ORDER, Nsec

_ORDERS = (*range(MAX_PAGE_ORDER + 1), PUD_ORDER)


@dataclass(slots=True)
class _Folios:
    """Folios by their first frame: order, refcount, pincount, mapcount, flags."""

    by_head: dict[int, list[int]] = field(default_factory=dict)

    def add(self, ranges: Ranges, order: int, refs: int, flags: int) -> None:
        for pfn in _heads(ranges, order):
            self.by_head[pfn] = [order, refs, 0, 0, flags]

    def within(self, addr: int, nbytes: int) -> Iterator[tuple[list[int], int]]:
        """Yield (folio, pages) for what [addr, addr + nbytes) holds of each."""
        at, end = addr >> PAGE_SHIFT, (addr + nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT
        while at < end:
            heads = ((order, at >> order << order) for order in _ORDERS)
            found = next(((h, f) for o, h in heads if (f := self.by_head.get(h)) and f[0] >= o), None)
            stop = min(end, found[0] + (1 << found[1][0])) if found else at + 1
            if found:
                yield found[1], stop - at
            at = stop

    def map(self, run: Run, sign: int) -> None:
        """Count the entries that map `run`, or count them off."""
        for folio, pages in self.within(run.pa, run.len):
            entries = sign * (pages >> run.leaf)
            folio[1] += entries
            folio[3] += entries

    def pin(self, ranges: Ranges, policy: str, sign: int) -> None:
        """Account a pin as its policy does: a count a page (MM-13, MM-14), a count a folio, or none on folios."""
        if policy not in {"page", "folio"}:
            return
        found = [each for addr, nbytes in ranges for each in self.within(addr, nbytes)]
        if policy == "folio":
            found = [(folio, 1) for folio in {id(folio): folio for folio, _ in found}.values()]
        for folio, pages in found:
            folio[1] += sign * pages * (1 if folio[0] else GUP_PIN_COUNTING_BIAS)
            folio[2] += sign * pages if folio[0] else 0

    def flag(self, ranges: Ranges, put: int, take: int) -> None:
        for addr, nbytes in ranges:
            for folio, _ in self.within(addr, nbytes):
                folio[4] = (folio[4] | put) & ~take


@dataclass(slots=True)
class _State:
    """A snapshot while it changes."""

    vmas: dict[tuple[int, int], tuple[int, int, str, str]] = field(default_factory=dict)
    pages: dict[int, Translations] = field(default_factory=lambda: defaultdict(Translations))
    folios: _Folios = field(default_factory=_Folios)
    pins: dict[int, PinState] = field(default_factory=dict)
    dma: dict[int, DmaState] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)

    def apply(self, rec: Record) -> None:
        """Let `rec` happen; a record that changes none of this is passed over."""
        match rec:
            case Mmap() | Munmap() | Mprotect() | DupMmap():
                self._mapping(rec)
            case MmPageAlloc() | SetPtes() | ZapPtes() | SplitHugePmd() | MmMigratePages():
                self._entries(rec)
            case MmFilemapAddToPageCache() | MmFilemapDeleteFromPageCache() | MemremapPages() | MemunmapPages():
                self._owner(rec)
            case MmPageFree():
                for pfn in _heads(rec.ranges, rec.order):
                    self.folios.by_head.pop(pfn)
            case FolioFlags():
                self.folios.flag(rec.ranges, rec.put, rec.take)
            case GupPin():
                self.pins[rec.token] = PinState(rec.token, rec.io, rec.t, rec.policy, rec.ranges)
                self.folios.pin(rec.ranges, rec.policy, 1)
            case GupUnpin():
                pin = self.pins.pop(rec.token)
                self.folios.pin(pin.ranges, pin.policy, -1)
            case DmaMap() | DmaUnmap() | IotlbFlush() | BlockGetrq() | BlockRqMerge() | BlockRqComplete():
                self._request(rec)

    def freeze(self, t: Nsec) -> Snapshot:
        return Snapshot(
            t=t,
            vmas=tuple(sorted((*vma, mm) for (mm, _), vma in self.vmas.items())),
            pages=tuple(row for mm in sorted(self.pages) for row in self.pages[mm].joined(mm)),
            folios=tuple(FolioState(pfn, *self.folios.by_head[pfn]) for pfn in sorted(self.folios.by_head)),
            pins=tuple(self.pins[k] for k in sorted(self.pins)),
            dma=tuple(sorted(self.dma.values())),
            tags=tuple(sorted(self.tags.items())),
        )

    def _mapping(self, rec: Mmap | Munmap | Mprotect | DupMmap) -> None:
        match rec:
            case Mmap():
                self.vmas[rec.mm, rec.addr] = (rec.addr, rec.len, rec.prot, rec.name)
            case Munmap():
                if not self._cut(rec.mm, rec.addr, rec.len):
                    raise KeyError(rec)
                self._zap(rec.mm, rec.addr, rec.len)
            case Mprotect():
                for addr, nbytes, _, name in self._cut(rec.mm, rec.addr, rec.len):
                    self.vmas[rec.mm, addr] = (addr, nbytes, rec.prot, name)
            case DupMmap():
                self.vmas |= {(rec.child, addr): vma for (mm, addr), vma in self.vmas.items() if mm == rec.mm}
                for run in tuple(self.pages[rec.mm]):
                    self._map(rec.child, run)

    def _entries(self, rec: MmPageAlloc | SetPtes | ZapPtes | SplitHugePmd | MmMigratePages) -> None:
        match rec:
            case MmPageAlloc():
                self.folios.add(rec.ranges, rec.order, 0, ANON)
                leaf = 0 if rec.refs == 1 << rec.order else PMD_ORDER if rec.order < PUD_ORDER else PUD_ORDER
                self._map_ranges(rec.mm, rec.addr, leaf, rec.ranges)
            case SetPtes():
                self._map_ranges(rec.mm, rec.addr, rec.leaf, rec.ranges)
            case ZapPtes():
                self._zap(rec.mm, rec.addr, rec.len)
            case SplitHugePmd():
                for run in self.pages[rec.mm].take(rec.addr, PAGE_SIZE << rec.order):
                    self.folios.map(run, -1)
                    self._map(rec.mm, run._replace(leaf=0))
            case MmMigratePages():
                for (src, nbytes), (dst, _) in zip(_each(rec.src, rec.order), _each(rec.dst, rec.order), strict=True):
                    self.folios.by_head[dst >> PAGE_SHIFT] = self.folios.by_head.pop(src >> PAGE_SHIFT)
                    for pages in self.pages.values():
                        pages.move(src, dst, nbytes)

    def _owner(
        self, rec: MmFilemapAddToPageCache | MmFilemapDeleteFromPageCache | MemremapPages | MemunmapPages
    ) -> None:
        match rec:
            case MmFilemapAddToPageCache():
                self.folios.add(rec.ranges, rec.order, rec.refs, rec.flags)
            case MmFilemapDeleteFromPageCache():
                for addr, nbytes in rec.ranges:
                    for folio, _ in self.folios.within(addr, nbytes):
                        folio[1] -= rec.refs
            case MemremapPages(frames=frames) if frames:
                self.folios.add(((rec.start, rec.len),), 0, rec.refs, rec.flags)
            case MemunmapPages():
                for pfn in range(rec.start >> PAGE_SHIFT, (rec.start + rec.len) >> PAGE_SHIFT):
                    self.folios.by_head.pop(pfn, None)

    def _request(self, rec: DmaMap | DmaUnmap | IotlbFlush | BlockGetrq | BlockRqMerge | BlockRqComplete) -> None:
        match rec:
            case BlockGetrq():
                self.tags[rec.tag] = rec.rq
            case BlockRqComplete():
                if rec.nr_sector or self.tags.get(rec.tag) == rec.rq:
                    self.tags.pop(rec.tag)  # a flush, of no sectors, has borrowed the tag of one that waits for it
            case BlockRqMerge():
                self.tags.pop(rec.tag)
            case DmaMap():
                self.dma[rec.rq] = DmaState(rec.dma, rec.phys, live=True)
            case DmaUnmap(stale=False):
                self.dma.pop(rec.rq)
            case DmaUnmap():
                self.dma[rec.rq] = self.dma[rec.rq]._replace(live=False)
            case IotlbFlush():
                self.dma = {rq: m for rq, m in self.dma.items() if m.live}

    def _cut(self, mm: int, addr: int, nbytes: int) -> list[tuple[int, int, str, str]]:
        """Take what mappings of `mm` have of [addr, addr + nbytes) out; return it."""
        end, gone = addr + nbytes, list[tuple[int, int, str, str]]()
        for start, length, prot, name in [vma for (owner, _), vma in self.vmas.items() if owner == mm]:
            lo, hi = max(addr, start), min(end, start + length)
            if lo < hi:
                del self.vmas[mm, start]
                gone.append((lo, hi - lo, prot, name))
                for a, b in ((start, lo), (hi, start + length)):
                    if a < b:
                        self.vmas[mm, a] = (a, b - a, prot, name)
        return gone

    def _map_ranges(self, mm: int, va: int, leaf: int, ranges: Ranges) -> None:
        for pa, nbytes in ranges:
            self._map(mm, Run(va, pa, nbytes, leaf))
            va += nbytes

    def _map(self, mm: int, run: Run) -> None:
        self.folios.map(run, 1)
        for old in self.pages[mm].put(run):
            self.folios.map(old, -1)

    def _zap(self, mm: int, addr: int, nbytes: int) -> None:
        for run in self.pages[mm].take(addr, nbytes):
            self.folios.map(run, -1)


def _each(ranges: Ranges, order: int) -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of each folio of `order` in `ranges`."""
    size = PAGE_SIZE << order
    for addr, nbytes in ranges:
        yield from ((at, size) for at in range(addr, addr + nbytes, size))


def _heads(ranges: Ranges, order: int) -> Iterator[int]:
    return (addr >> PAGE_SHIFT for addr, _ in _each(ranges, order))


def state_at(records: Iterable[Record], t: Nsec) -> Snapshot:
    """Return the machine as it was once everything of time `t` (ns) and before had happened.

    The trace is sufficient: for every t this equals `Machine.snapshot()` taken at t.
    """
    state = _State()
    for rec in records:
        if rec.t > t:
            break
        state.apply(rec)
    return state.freeze(t)
