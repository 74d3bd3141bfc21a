"""A frozen picture of the machine at one instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from labkit.trace.events import Ranges
from labkit.trace.translations import Run, Translations
from labkit.units import PAGE_SHIFT, Nsec, human_ns

GUP_PIN_COUNTING_BIAS = 1 << 10
"""What one pin adds to the refcount of a small folio (MM-13)."""


class FolioState(NamedTuple):
    """A folio at one instant: first frame, order, and its counts and flags as struct folio holds them."""

    pfn: int
    order: int
    refcount: int
    pincount: int
    mapcount: int = 0
    flags: int = 0


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


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The machine at time `t` (ns): mappings, translations, folios, pins, device addresses, tags."""

    t: Nsec = _BOOT
    vmas: tuple[tuple[int, int, str, str, int], ...] = ()
    """(address, bytes, prot, name, mm), by address."""
    pages: tuple[tuple[int, int, int, int], ...] = ()
    """(user address, physical address, bytes, mm) of each run of translations, by address space and user address."""
    folios: tuple[FolioState, ...] = ()
    pins: tuple[PinState, ...] = ()
    dma: tuple[DmaState, ...] = ()
    tags: tuple[tuple[int, int], ...] = ()
    """(tag, request) in flight."""

    def __repr__(self) -> str:
        """Return the time, and how many there are of each."""
        names = ("vmas", "pages", "folios", "pins", "dma", "tags")
        told = ", ".join(f"{len(getattr(self, name)):,} {name}" for name in names)
        return f"<Snapshot at {human_ns(self.t)}: {told}>"

    def holders(self, pfn: int) -> tuple[PinState, ...]:
        """Return every pin that covers a byte of frame `pfn`, the answer to "who holds this page?"."""
        lo, hi = pfn << PAGE_SHIFT, (pfn + 1) << PAGE_SHIFT
        return tuple(pin for pin in self.pins if any(a < hi and a + n > lo for a, n in pin.ranges))


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """What physical memory holds besides the traced task: zones, and frames that others keep all the while."""

    zones: tuple[tuple[str, int, int], ...] = ()
    """(name, first frame, frame past the end)."""
    others: Sequence[tuple[int, int, str]] = ()
    """(first frame, frames, kind) of what an earlier life of the machine left allocated."""


def translation_runs(pages: Iterable[Run], mm: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return (user address, physical address, bytes, `mm`) for runs of pages in the order of addresses, joined."""
    every = Translations()
    for run in pages:
        every.put(run)
    return tuple(every.joined(mm))
