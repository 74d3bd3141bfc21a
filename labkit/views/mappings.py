"""Records of DMA become mappings, IOTLB entries and bounce slots, each with the steps at which it lives and dies.

A step is one of the records of TOLD, in order; what never comes has the step NEVER.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from labkit.scatter.payload import Range, Ranges, cut
from labkit.trace.events import (
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    Fault,
    GupUnpin,
    IoPageFault,
    IotlbFill,
    IotlbFlush,
    MmPageFree,
    Record,
    SwiotlbBounced,
)
from labkit.trace.trace import Trace
from labkit.views.journey import NEVER

TOLD = (
    SwiotlbBounced, DmaMap, DeviceStart, IotlbFill, IoPageFault, DeviceDma, DmaUnmap, IotlbFlush, GupUnpin, MmPageFree,
    Fault,
)  # fmt: skip
"""The records that are steps of the picture."""
MOST_STEPS = 400
"""Steps that are drawn; of a longer trace these are the first."""


class Mapping(NamedTuple):
    """The device addresses of one request: from step `map` on, unmapped at `unmap`, dead from `dead` on.

    `times` are those three in ns of the machine, -1 for what never comes.
    """

    rq: int
    dma: Ranges
    phys: Ranges
    how: str
    ioptes: int
    bounced: int
    map: int
    unmap: int = NEVER
    dead: int = NEVER
    times: tuple[int, int, int] = (0, -1, -1)

    @property
    def nbytes(self) -> int:
        """How many bytes the device can reach by it."""
        return sum(nbytes for _, nbytes in self.dma)

    @property
    def identity(self) -> bool:
        """Whether device addresses are the physical ones."""
        return tuple(self.dma) == tuple(self.phys)

    @property
    def leaf(self) -> int:
        """Bytes that one IOMMU page table entry maps, 0 where there are none, or they are not alike."""
        size = self.nbytes // self.ioptes if self.ioptes else 0
        return size if size and not size & (size - 1) else 0

    @property
    def window(self) -> int:
        """Nanoseconds in which the device still reaches what is unmapped; -1 if that has no end in the trace.

        0 for what is flushed at once, and for what is not unmapped.
        """
        if self.unmap in {NEVER, self.dead}:
            return 0
        return self.times[2] - self.times[1] if self.times[2] >= 0 else -1

    def leads(self) -> Iterator[tuple[int, int, int]]:
        """Yield (device address, physical address, bytes), cut wherever either is not contiguous."""
        whole, done = list(self.phys), 0
        for addr, nbytes in self.dma:
            at = addr
            for phys, size in cut(whole, done, nbytes):
                yield at, phys, size
                at += size
            done += nbytes


class Entry(NamedTuple):
    """A device range that the IOTLB knows, from step `begin` until step `end`; `why` it goes."""

    addr: int
    nbytes: int
    begin: int
    end: int = NEVER
    why: str = ""


class Slot(NamedTuple):
    """A bounce buffer: `nbytes` at `slot` stand for what lies at `phys`."""

    phys: int
    slot: int
    nbytes: int
    begin: int
    end: int = NEVER


@dataclass(frozen=True, slots=True)
class Mappings:
    """What a trace tells of device addresses. `told`: for each step the index of its record; `left_out`: how many are.

    `meters` have a value for each step.
    """

    told: tuple[int, ...]
    left_out: int
    maps: tuple[Mapping, ...]
    entries: tuple[Entry, ...]
    slots: tuple[Slot, ...]
    faults: tuple[tuple[int, int], ...]
    """(step, address) of each access that nothing answered."""
    meters: dict[str, list[int]]


def mappings(trace: Trace) -> Mappings:
    """Return what `trace` tells of device addresses, in its first MOST_STEPS steps."""
    steps = [at for at, rec in enumerate(trace.records) if isinstance(rec, TOLD)]
    reader = _Reader()
    for step, at in enumerate(islice(steps, MOST_STEPS)):
        reader.read(step, trace.records[at])
        reader.measure()
    told = tuple(steps[:MOST_STEPS])
    found = (tuple(reader.maps), tuple(reader.entries), tuple(reader.slots), tuple(reader.faults))
    return Mappings(told, len(steps) - len(told), *found, reader.meters)


@dataclass(slots=True)
class _Reader:
    """The same, while records are read; what lives is looked up by its index."""

    maps: list[Mapping] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    faults: list[tuple[int, int]] = field(default_factory=list)
    live: dict[int, int] = field(default_factory=dict)
    """By request: the index of its mapping."""
    stale: list[int] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    """Entries that are known now."""
    hits: int = 0
    misses: int = 0
    bounced: int = 0
    meters: dict[str, list[int]] = field(default_factory=dict)

    def read(self, step: int, rec: Record) -> None:
        match rec:
            case DmaMap():
                self.live[rec.rq] = len(self.maps)
                about = (rec.rq, rec.dma, rec.phys, rec.how, rec.ioptes, rec.bounced, step)
                self.maps.append(Mapping(*about, times=(rec.t, -1, -1)))
                self.bounced += rec.bounced
            case DmaUnmap():
                self._unmap(step, rec)
            case IotlbFlush():
                for i in self.stale:
                    old = self.maps[i]
                    self.maps[i] = old._replace(dead=step, times=(*old.times[:2], rec.t))
                self.stale.clear()
                self._forget(step, [self.entries[i][:2] for i in self.cached], "flushed")
            case IotlbFill():
                self._fill(step, rec)
            case IoPageFault():
                self.faults.append((step, rec.addr))
            case SwiotlbBounced():
                self.slots.append(Slot(rec.phys, rec.slot, rec.len, step))

    def _unmap(self, step: int, rec: DmaUnmap) -> None:
        self.bounced += rec.bounced
        at = self.live.pop(rec.rq, None)
        if at is None:
            return
        old = self.maps[at]
        dead, end = (NEVER, -1) if rec.stale else (step, rec.t)
        self.maps[at] = old._replace(unmap=step, dead=dead, times=(old.times[0], rec.t, end))
        self.stale += [at] * rec.stale
        if not rec.stale:
            self._forget(step, old.dma, "invalidated")
        for i, slot in enumerate(self.slots):
            if slot.end == NEVER and any(addr <= slot.slot < addr + n for addr, n in old.dma):
                self.slots[i] = slot._replace(end=step)

    def _fill(self, step: int, rec: IotlbFill) -> None:
        self.hits += rec.hits
        self.misses += rec.misses
        self._forget(step, rec.evicted, "evicted")
        self._forget(step, rec.filled, "filled anew")
        for addr, nbytes in rec.filled:
            self._learn(Entry(addr, nbytes, step))

    def _learn(self, entry: Entry) -> None:
        self.cached.append(len(self.entries))
        self.entries.append(entry)

    def _forget(self, step: int, ranges: Iterable[Range], why: str) -> None:
        """End what the IOTLB knows of `ranges`; of an entry that reaches beyond them the rest goes on as others."""
        for addr, nbytes in ranges:
            for at in [i for i in self.cached if _meet(self.entries[i], addr, nbytes)]:
                old = self.entries[at]
                self.cached.remove(at)
                self.entries[at] = old._replace(end=step, why=why)
                ends = ((old.addr, addr - old.addr), (addr + nbytes, old.addr + old.nbytes - addr - nbytes))
                for start, left in ends:
                    if left > 0:
                        self._learn(Entry(start, left, step))

    def measure(self) -> None:
        """Note each meter as it stands after a step."""
        now = {
            "live": sum(self.maps[i].nbytes for i in self.live.values()),
            "stale": sum(self.maps[i].nbytes for i in self.stale),
            "cached": sum(self.entries[i].nbytes for i in self.cached),
            "hits": self.hits,
            "misses": self.misses,
            "bounced": self.bounced,
        }
        for name, value in now.items():
            self.meters.setdefault(name, []).append(value)


def _meet(entry: Entry, addr: int, nbytes: int) -> bool:
    """Return whether an entry of the IOTLB translates any of [addr, addr + nbytes)."""
    return entry.addr < addr + nbytes and addr < entry.addr + entry.nbytes
