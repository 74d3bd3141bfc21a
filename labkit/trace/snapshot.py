"""A frozen picture of the machine at one instant, and how a trace gives it back for any t."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.trace.events import (
    BlockGetrq,
    BlockRqComplete,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFlush,
    Mmap,
    MmPageAlloc,
    MmPageFree,
    Munmap,
    Ranges,
    Record,
)
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, Nsec

GUP_PIN_COUNTING_BIAS = 1 << 10
"""What one pin adds to the refcount of a small folio (MM-13)."""


class FolioState(NamedTuple):
    """A folio at one instant: first frame, order, refcount and pincount as struct folio holds them."""

    pfn: int
    order: int
    refcount: int
    pincount: int


class PinState(NamedTuple):
    """One pin at one instant: who holds it (`io`), since when (ns), under which policy, and what (physical)."""

    token: int
    io: int
    since: int
    policy: str
    ranges: Ranges


class DmaState(NamedTuple):
    """One DMA mapping at one instant. `live` is False once unmapped but still reachable through the IOTLB."""

    dma: Ranges
    phys: Ranges
    live: bool


_BOOT = Nsec(0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The machine at time `t` (ns): mappings, translations, folios, pins, device addresses, tags."""

    t: Nsec = _BOOT
    vmas: tuple[tuple[int, int, str, str], ...] = ()
    """(address, bytes, prot, name), by address."""
    pages: tuple[tuple[int, int, int], ...] = ()
    """(user address, physical address, bytes) of each run of translations, by user address."""
    folios: tuple[FolioState, ...] = ()
    pins: tuple[PinState, ...] = ()
    dma: tuple[DmaState, ...] = ()
    tags: tuple[tuple[int, int], ...] = ()
    """(tag, request) in flight."""

    def holders(self, pfn: int) -> tuple[PinState, ...]:
        """Return every pin that covers a byte of frame `pfn`, the answer to "who holds this page?"."""
        lo, hi = pfn << PAGE_SHIFT, (pfn + 1) << PAGE_SHIFT
        return tuple(pin for pin in self.pins if any(a < hi and a + n > lo for a, n in pin.ranges))


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """What physical memory holds besides the traced task: zones, and frames that others keep all the while."""

    zones: tuple[tuple[str, int, int], ...] = ()
    """(name, first frame, frame past the end)."""
    others: tuple[tuple[int, int, str], ...] = ()
    """(first frame, frames, kind) of what an earlier life of the machine left allocated."""


@dataclass(slots=True)
class _State:
    """The same, while it changes."""

    vmas: dict[int, tuple[int, int, str, str]] = field(default_factory=dict)
    pages: dict[int, int] = field(default_factory=dict)
    folios: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    refs: dict[int, int] = field(default_factory=dict)
    pins: dict[int, PinState] = field(default_factory=dict)
    dma: dict[int, DmaState] = field(default_factory=dict)
    tags: dict[int, int] = field(default_factory=dict)

    def apply(self, rec: Record) -> None:
        """Let `rec` happen; a record that changes none of this is passed over."""
        match rec:
            case Mmap() | Munmap() | MmPageAlloc() | MmPageFree():
                self._memory(rec)
            case GupPin():
                self.pins[rec.token] = PinState(rec.token, rec.io, rec.t, rec.policy, rec.ranges)
                self._count(rec.ranges, rec.policy, 1)
            case GupUnpin():
                pin = self.pins.pop(rec.token)
                self._count(pin.ranges, pin.policy, -1)
            case DmaMap() | DmaUnmap() | IotlbFlush():
                self._mapping(rec)
            case BlockGetrq():
                self.tags[rec.tag] = rec.rq
            case BlockRqComplete():
                self.tags.pop(rec.tag)

    def _memory(self, rec: Mmap | Munmap | MmPageAlloc | MmPageFree) -> None:
        match rec:
            case Mmap():
                self.vmas[rec.addr] = (rec.addr, rec.len, rec.prot, rec.name)
            case Munmap():
                self._munmap(rec)
            case MmPageAlloc():
                self._alloc(rec)
            case MmPageFree():
                for pfn in _heads(rec.ranges, rec.order):
                    self.folios.pop(pfn)

    def _mapping(self, rec: DmaMap | DmaUnmap | IotlbFlush) -> None:
        match rec:
            case DmaMap():
                self.dma[rec.rq] = DmaState(rec.dma, rec.phys, live=True)
            case DmaUnmap(stale=False):
                self.dma.pop(rec.rq)
            case DmaUnmap():
                self.dma[rec.rq] = self.dma[rec.rq]._replace(live=False)
            case IotlbFlush():
                self.dma = {rq: m for rq, m in self.dma.items() if m.live}

    def _alloc(self, rec: MmPageAlloc) -> None:
        va = rec.addr
        for addr, nbytes in rec.ranges:
            for pa in range(addr, addr + nbytes, PAGE_SIZE):
                self.pages[va] = pa
                va += PAGE_SIZE
        for pfn in _heads(rec.ranges, rec.order):
            self.folios[pfn] = (rec.order, rec.refs, 0)
            self.refs[pfn] = rec.refs

    def _munmap(self, rec: Munmap) -> None:
        self.vmas.pop(rec.addr)
        for va in range(rec.addr, rec.addr + rec.len, PAGE_SIZE):
            pfn = self.pages.pop(va, 0) >> PAGE_SHIFT
            if pfn in self.refs:
                order, refcount, pincount = self.folios[pfn]
                self.folios[pfn] = (order, refcount - self.refs.pop(pfn), pincount)

    def _count(self, ranges: Ranges, policy: str, sign: int) -> None:
        """Account a pin as the policy does: 'page' counts on each page (MM-13, MM-14), 'range' on none."""
        if policy != "page":
            return
        for addr, nbytes in ranges:
            for pfn in range(addr >> PAGE_SHIFT, (addr + nbytes + PAGE_SIZE - 1) >> PAGE_SHIFT):
                self._count_page(pfn, sign)

    def _count_page(self, pfn: int, sign: int) -> None:
        orders = range(MAX_PAGE_ORDER + 1)
        head = next((h for o in orders if (h := pfn >> o << o) in self.folios and self.folios[h][0] >= o), pfn)
        order, refcount, pincount = self.folios[head]
        if order:
            self.folios[head] = (order, refcount + sign, pincount + sign)
        else:
            self.folios[head] = (order, refcount + sign * GUP_PIN_COUNTING_BIAS, pincount)

    def freeze(self, t: Nsec) -> Snapshot:
        return Snapshot(
            t=t,
            vmas=tuple(self.vmas[a] for a in sorted(self.vmas)),
            pages=translation_runs(sorted(self.pages.items())),
            folios=tuple(FolioState(pfn, *self.folios[pfn]) for pfn in sorted(self.folios)),
            pins=tuple(self.pins[k] for k in sorted(self.pins)),
            dma=tuple(sorted(self.dma.values())),
            tags=tuple(sorted(self.tags.items())),
        )


def _heads(ranges: Ranges, order: int) -> Iterable[int]:
    for addr, nbytes in ranges:
        yield from range(addr >> PAGE_SHIFT, (addr + nbytes) >> PAGE_SHIFT, 1 << order)


def translation_runs(pages: Iterable[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return (user address, physical address, bytes) for `pages` of (user address, physical address), joined."""
    runs: list[tuple[int, int, int]] = []
    for va, pa in pages:
        if runs and runs[-1][0] + runs[-1][2] == va and runs[-1][1] + runs[-1][2] == pa:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + PAGE_SIZE)
        else:
            runs.append((va, pa, PAGE_SIZE))
    return tuple(runs)


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
