"""Frames become folios: 2**order frames with one refcount, one mapcount and one pincount (MM-13, MM-14)."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labkit.scatter.page import STRUCT_PAGE_BYTES
from labkit.scatter.payload import Ranges, ranges_of
from labkit.trace.page_flags import ANON, PG_dirty, PG_locked, PG_writeback
from labkit.trace.snapshot import GUP_PIN_COUNTING_BIAS, FolioState
from labkit.units import PAGE_SHIFT, PMD_ORDER, PUD_ORDER


def memmap_bytes(frames: int) -> int:
    """Return what the struct pages of `frames` frames cost, in bytes: 1.5625 % of them (MM-1)."""
    return frames * STRUCT_PAGE_BYTES


class Private(Protocol):
    """What the owner of a folio keeps of it (folio_get_private)."""

    def dirty_folio(self) -> None:
        """All of the folio may have been written to (aops->dirty_folio)."""


class Folio:
    """Memory that is allocated and counted as one: first frame, order, and who counts on it."""

    __slots__ = ("flags", "index", "mapcount", "mapping", "order", "pfn", "pincount", "private", "refcount")
    count = 1

    def __init__(self, pfn: int, order: int, refcount: int = 0, flags: int = ANON, mapping: Any = None) -> None:
        """Begin unmapped; `mapping` is the file whose page `index` it is, or None for anonymous memory."""
        self.pfn, self.order, self.refcount, self.flags = pfn, order, refcount, flags
        self.mapcount = self.pincount = self.index = 0
        self.mapping = mapping
        self.private: Private | None = None

    def pin(self, pages: int) -> None:
        """Count `pages` pins: by 1024 on a small folio (MM-13), one by one on a large one (MM-14)."""
        if self.order:
            self.refcount += pages
            self.pincount += pages
        else:
            self.refcount += pages * GUP_PIN_COUNTING_BIAS

    def unpin(self, pages: int) -> None:
        """Take `pages` pins off again."""
        self.pin(-pages)

    @property
    def maybe_dma_pinned(self) -> bool:
        """Whether it looks pinned: exact for a large folio, a guess for a small one (MM-16)."""
        return self.pincount > 0 if self.order else self.refcount >= GUP_PIN_COUNTING_BIAS

    @property
    def under_io(self) -> bool:
        """Whether a device may be at it, and no pin says so: a page of a file needs none (BUF-4)."""
        return bool(self.flags & (PG_locked | PG_writeback))

    @property
    def heads(self) -> tuple[int, ...]:
        """The first frame, as a group of one."""
        return (self.pfn,)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 1 << self.order + PAGE_SHIFT

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """(physical address, bytes), as a group of one."""
        return ((self.pfn << PAGE_SHIFT, self.nbytes),)

    def states(self) -> Iterator[FolioState]:
        """Yield what a snapshot tells of it."""
        yield FolioState(self.pfn, self.order, self.refcount, self.pincount, self.mapcount, self.flags)


class FolioBatch:
    """Folios that came together and are alike: one order, one state, and their first frames as sorted numbers.

    A folio that is treated otherwise than the rest leaves for a life of its own (`take`, `part`); pins and dirty marks
    alone are kept one by one here, since an IO takes folios in pieces.
    """

    __slots__ = ("dirty", "flags", "heads", "mapcount", "mapping", "order", "pins", "refcount")

    def __init__(self, heads: NDArray[np.int64], order: int, refcount: int, flags: int, mapping: Any = None) -> None:
        """Take sorted first frames `heads`."""
        self.heads, self.order, self.refcount, self.flags = heads, order, refcount, flags
        self.mapcount = 0
        self.mapping = mapping
        self.pins: NDArray[np.int32] | None = None
        self.dirty: NDArray[np.bool_] | None = None
        """Which are dirty, while some are and some are not."""

    @property
    def count(self) -> int:
        """How many folios."""
        return len(self.heads)

    @property
    def nbytes(self) -> int:
        """Bytes of one of them."""
        return 1 << self.order + PAGE_SHIFT

    @property
    def runs(self) -> Ranges:
        """(physical address, bytes) of runs of neighbours, by address."""
        breaks = np.flatnonzero(np.diff(self.heads) != 1 << self.order) + 1
        first = self.heads[np.concatenate(([0], breaks))] << PAGE_SHIFT
        count = np.diff(np.concatenate(([0], breaks, [len(self.heads)])))
        return ranges_of(first, count * self.nbytes)

    @property
    def maybe_dma_pinned(self) -> bool:
        """Whether any looks pinned (MM-16)."""
        return self.all_look_pinned or (self.pins is not None and bool(self.pins.any()))

    @property
    def all_look_pinned(self) -> bool:
        """Whether each looks pinned by its references alone, as small folios with very many do (MM-16)."""
        return not self.order and self.refcount >= GUP_PIN_COUNTING_BIAS

    def find(self, pfn: int) -> int:
        """Return the place of the folio that holds frame `pfn`, or -1."""
        head = pfn >> self.order << self.order
        at = int(self.heads.searchsorted(head))
        return at if at < len(self.heads) and self.heads[at] == head else -1

    def add_pins(self, at: NDArray[np.int64], sign: int) -> None:
        """Count a pin, or take one off, for each folio place in `at`; a place may come twice."""
        if self.pins is None:
            self.pins = np.zeros(len(self.heads), np.int32)
        np.add.at(self.pins, at, np.int32(sign))  # the scalar's type is the fast path

    def set_dirty(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Mark the folios at places `at` dirty; return the places of those that were clean."""
        if self.flags & PG_dirty:
            return at[:0]
        dirty = np.zeros(len(self.heads), np.bool_) if self.dirty is None else self.dirty
        clean = np.unique(at[~dirty[at]])
        dirty[clean] = True
        self.dirty = dirty
        if dirty.all():
            self.flags, self.dirty = self.flags | PG_dirty, None
        return clean

    def take(self, at: int) -> Folio:
        """Let the folio at place `at` leave, and return it."""
        folio = self._folio(at)
        self._keep(np.arange(len(self.heads)) != at)
        return folio

    def part(self, mask: NDArray[np.bool_]) -> "FolioBatch":
        """Let the folios under `mask` leave together, and return them."""
        other = FolioBatch(self.heads[mask], self.order, self.refcount, self.flags, self.mapping)
        other.mapcount = self.mapcount
        other.pins = None if self.pins is None else self.pins[mask]
        other.dirty = None if self.dirty is None else self.dirty[mask]
        self._keep(~mask)
        return other

    def states(self) -> Iterator[FolioState]:
        """Yield what a snapshot tells of each, by address."""
        for at in range(len(self.heads)):
            yield from self._folio(at).states()

    def _folio(self, at: int) -> Folio:
        folio = Folio(int(self.heads[at]), self.order, self.refcount, self.flags, self.mapping)
        folio.mapcount = self.mapcount
        folio.flags |= PG_dirty if self.dirty is not None and self.dirty[at] else 0
        folio.pin(int(self.pins[at]) if self.pins is not None else 0)
        return folio

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        self.heads = self.heads[mask]
        self.pins = None if self.pins is None else self.pins[mask]
        self.dirty = None if self.dirty is None else self.dirty[mask]


def joined(batches: Sequence[FolioBatch]) -> FolioBatch:
    """Return one batch of all the folios of `batches`, which are alike."""
    heads = np.concatenate([batch.heads for batch in batches])
    order, first = np.argsort(heads), batches[0]
    out = FolioBatch(heads[order], first.order, first.refcount, first.flags, first.mapping)
    out.mapcount = first.mapcount
    if any(batch.pins is not None for batch in batches):
        none = [np.zeros(batch.count, np.int32) if batch.pins is None else batch.pins for batch in batches]
        out.pins = np.concatenate(none)[order]
    if any(batch.dirty is not None for batch in batches):
        clean = [np.zeros(batch.count, np.bool_) if batch.dirty is None else batch.dirty for batch in batches]
        out.dirty = np.concatenate(clean)[order]
    return out


Group = Folio | FolioBatch
"""Folios that are alike, one or many: what is done to one is done to all."""


def kept(group: Group) -> int:
    """Return the references that the file, or the device, holds which has it: one a page; none for anonymous memory."""
    return 1 << group.order if group.mapping is not None else 0


def map_refs(order: int) -> int:
    """Return how many references the mapping of a whole folio holds: one an entry, and a PMD leaf is one entry."""
    return 1 if order == PUD_ORDER else 1 << max(0, order - PMD_ORDER) if order >= PMD_ORDER else 1 << order
