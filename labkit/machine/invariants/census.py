"""Every folio, and every entry that maps memory, in columns: what the invariants of memory are worked out from."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.kernel.mm.frames.folio import Folio, Group, kept
from labkit.kernel.mm.frames.folios import Folios
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK
from labkit.kernel.mm.space.vma import VMA
from labkit.trace.snapshot import GUP_PIN_COUNTING_BIAS
from labkit.units import PAGE_SHIFT

Ints = NDArray[np.int64]


class Broken(NamedTuple):
    """An invariant that does not hold: its name, one sentence, and where in memory (physical), 0 where nowhere."""

    name: str
    text: str
    addr: int = 0


class Census(NamedTuple):
    """The folios of a machine by first frame, a row each."""

    head: Ints
    order: Ints
    refcount: Ints
    pincount: Ints
    mapcount: Ints
    flags: Ints
    kept: Ints
    """References of the file, or the device, that has it; 0 for anonymous memory."""

    @property
    def frames(self) -> Ints:
        """Frames of each."""
        return np.left_shift(1, self.order)

    def find(self, pfns: Ints) -> Ints:
        """Return the row of the folio that holds each of `pfns`, -1 for a frame that is in none."""
        if not len(self.head):
            return np.full(len(pfns), -1, np.int64)
        at = self.head.searchsorted(pfns, "right") - 1
        inside = (at >= 0) & (pfns < self.head[at] + self.frames[at])
        return np.where(inside, at, -1)


class Entries(NamedTuple):
    """Page table entries of one mapping, a row each: the frame that each maps, its word, its order, its page."""

    vma: VMA
    mm: int
    pfn: Ints
    word: NDArray[np.uint64]
    order: int
    page: Ints


def take_census(folios: Folios) -> Census:
    """Return the folios as they are now."""
    groups: Sequence[Group] = (*folios.by_head.values(), *folios.batches)
    rows = np.concatenate([np.zeros((0, 7), np.int64), *map(_rows, groups)])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return Census(*rows.T)


def take_entries(mms: Iterable[Mm]) -> Iterator[Entries]:
    """Yield the entries that are present, stretch by stretch, as the hardware would find them."""
    for mm in mms:
        for vma in mm.space.vmas:
            for first, last, leaf in vma.table.present(0, vma.pages):
                order = leaf or 0
                page = np.arange(first, last, 1 << order, dtype=np.int64)
                if order:
                    word = np.array([vma.table.word(int(at)) for at in page], np.uint64)
                else:
                    word = np.frombuffer(vma.table.ptes, np.uint64)[first:last]
                pfn = ((word & np.uint64(ADDR_MASK)) >> np.uint64(PAGE_SHIFT)).astype(np.int64)
                yield Entries(vma, mm.task, pfn, word, order, page)


def frames_of(ranges: Iterable[tuple[int, int]]) -> Ints:
    """Return every frame that `ranges` touch, range by range."""
    pieces = [np.arange(addr >> PAGE_SHIFT, (addr + n - 1 >> PAGE_SHIFT) + 1) for addr, n in ranges if n]
    return np.concatenate([np.zeros(0, np.int64), *pieces])


def _rows(group: Group) -> Ints:
    """Return a row for each folio of `group`."""
    if isinstance(group, Folio):
        row = (group.pfn, group.order, group.refcount, group.pincount, group.mapcount, group.flags, kept(group))
        return np.array([row], np.int64)
    pins = np.zeros(group.count, np.int64) if group.pins is None else group.pins.astype(np.int64)
    rows = np.empty((group.count, 7), np.int64)
    rows[:, 0], rows[:, 1:] = group.heads, (group.order, 0, 0, group.mapcount, group.flags, kept(group))
    rows[:, 2] = group.refcount + pins * (1 if group.order else GUP_PIN_COUNTING_BIAS)
    rows[:, 3] = pins if group.order else 0
    return rows
