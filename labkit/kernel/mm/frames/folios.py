"""Every folio of the machine, by its frames: what a memmap tells, for the frames that are in use."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.kernel.mm.frames.folio import Folio, FolioBatch, Group, joined
from labkit.scatter.payload import Range, Ranges, ranges_of, run_length
from labkit.scatter.range_array import RangeArray
from labkit.trace.page_flags import ANON, PG_dirty
from labkit.trace.snapshot import FolioState
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PHYS_PFN, PUD_ORDER, PhysAddr

_BATCH = 64
"""Folios from which on those that come together are kept together."""
_MANY = 32
"""Batches from which on those that are alike are made one."""
_ORDERS = (*range(MAX_PAGE_ORDER + 1), PUD_ORDER)
_CHUNK = 1 << 20


class Folios:
    """Folios one by one in `by_head`, and those that came in large numbers in `batches`."""

    def __init__(self) -> None:
        """Begin with none."""
        self.by_head: dict[int, Folio] = {}
        self.batches: list[FolioBatch] = []
        self.zero: PhysAddr | None = None
        """The physical address of the zero page, which is no folio here: nobody counts on it (MM-15)."""

    def add(self, pfn: int, order: int, refcount: int = 0, flags: int = ANON, mapping: Any = None) -> Folio:
        """Make the 2**`order` frames from `pfn` a folio."""
        folio = self.by_head[pfn] = Folio(pfn, order, refcount, flags, mapping)
        return folio

    def add_runs(
        self, runs: Sequence[Range], order: int, refcount: int = 0, flags: int = ANON, mapping: Any = None
    ) -> Sequence[Group]:
        """Make folios of 2**`order` frames of `runs` (physical address, bytes); return them, as groups."""
        size = PAGE_SIZE << order
        if len(runs) < _BATCH and sum(nbytes for _, nbytes in runs) < _BATCH * size:
            heads = [pfn for a, n in runs for pfn in range(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT, 1 << order)]
            return [self.add(pfn, order, refcount, flags, mapping) for pfn in heads]
        if len(self.batches) >= _MANY:
            self._merge()
        addrs, lens = _columns(runs)
        batch = FolioBatch(np.sort(_expand(addrs, lens, size)) >> PAGE_SHIFT, order, refcount, flags, mapping)
        self.batches.append(batch)
        return [batch]

    def phys_to_folio(self, addr: PhysAddr) -> Folio | None:
        """Return the folio that holds the byte at `addr`, or None: not all memory has one (D-17)."""
        pfn = PHYS_PFN(addr)
        for order in _ORDERS:
            folio = self.by_head.get(pfn >> order << order)
            if folio is not None and folio.order >= order:
                return folio
        for batch in self.batches:
            if (at := batch.find(pfn)) >= 0:
                single: Folio = self._leave(batch, batch.take(at))
                return single
        return None

    def groups(self, runs: Sequence[Range]) -> Iterator[tuple[Group, int]]:
        """Yield (folios, pages that `runs` hold of each of them), so that together they are all of `runs`.

        `runs` are whole pages, physical. What has no folio is passed over. Folios of a batch that are only a part of
        it leave it, so that whoever is given a group may change it.
        """
        if not self.batches:
            yield from self._one_by_one(runs)
            return
        addrs, lens = _columns(runs)
        by_addr = np.argsort(addrs, kind="stable")
        addrs, ends = addrs[by_addr], (addrs + lens)[by_addr]
        if len(addrs) > 1 and (addrs[1:] < ends[:-1]).any():  # one frame under two addresses
            yield from self._one_by_one(runs)
            return
        yield from list(self._of_singles(addrs, ends, runs))  # first, since what leaves a batch is single from then on
        for batch in tuple(self.batches):
            yield from self._of_batch(batch, addrs, ends)

    def pin(self, runs: Sequence[Range], sign: int = 1, *, once: bool = False) -> int:
        """Count a pin on each page of `runs` (`once`: on each folio), or take it off.

        Returns how many times a folio was counted on: once for pages in a row that are of one folio (MM-26). `runs` are
        physical and may begin and end inside a page.
        """
        pages = _whole_pages(runs)
        if not self.batches:
            return self._pin_one_by_one(pages, sign, once)
        counted, rest = 0, list[Range]()
        for batch, places in self._places(pages, rest):
            at = np.unique(places) if once else places
            batch.add_pins(at, sign)
            counted += int((np.diff(at) != 0).sum()) + 1
        return counted + self._pin_one_by_one(rest, sign, once)

    def set_dirty(self, runs: Sequence[Range]) -> list[Ranges]:
        """Mark the folios that `runs` (physical, any bytes) touch dirty; return those that were clean."""
        clean, rest = list[Ranges](), list[Range]()
        pages = _whole_pages(runs)
        for batch, places in self._places(pages, rest) if self.batches else ():
            heads = batch.heads[batch.set_dirty(places)] << PAGE_SHIFT
            if len(heads):
                clean.append(run_length(ranges_of(heads, np.full(len(heads), batch.nbytes))))
        for folio, _ in self._one_by_one(rest if self.batches else pages):
            if folio.private is not None:
                folio.private.dirty_folio()
            if not folio.flags & PG_dirty:
                folio.flags |= PG_dirty
                clean.append(folio.runs)
        return clean

    def remove(self, group: Group) -> None:
        """Forget `group`."""
        if isinstance(group, Folio):
            del self.by_head[group.pfn]
        else:
            self.batches.remove(group)

    def states(self) -> Iterator[FolioState]:
        """Yield what a snapshot tells of every folio, by address."""
        groups: list[Group] = [*self.by_head.values(), *self.batches]
        every = [state for group in groups for state in group.states()]
        yield from sorted(every)

    def _merge(self) -> None:
        """Make batches that are alike one; those that nothing maps are left, since somebody keeps them in mind."""
        alike: dict[Any, list[FolioBatch]] = {}
        for batch in self.batches:
            key = (batch.order, batch.refcount, batch.mapcount, batch.flags, id(batch.mapping))
            alike.setdefault(key if batch.mapcount else id(batch), []).append(batch)
        self.batches = [same[0] if len(same) == 1 else joined(same) for same in alike.values()]

    def _leave(self, batch: FolioBatch, group: Group) -> Any:
        if isinstance(group, Folio):
            self.by_head[group.pfn] = group
        else:
            self.batches.append(group)
        if not batch.count:
            self.batches.remove(batch)
        return group

    def _one_by_one(self, runs: Sequence[Range]) -> Iterator[tuple[Folio, int]]:
        for addr, nbytes in runs:
            at, end = addr, addr + nbytes
            while at < end:
                folio = self.phys_to_folio(PhysAddr(at))
                stop = min(end, ((folio.pfn << PAGE_SHIFT) + folio.nbytes) if folio else at + PAGE_SIZE)
                if folio is not None:
                    yield folio, (stop - at) >> PAGE_SHIFT
                at = stop

    def _of_batch(
        self, batch: FolioBatch, addrs: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterator[tuple[Group, int]]:
        """Yield what `batch` has in [addrs, ends): wholes as a batch, halves one by one."""
        start = batch.heads << PAGE_SHIFT
        stop = start + batch.nbytes
        at = np.maximum(addrs.searchsorted(start, "right") - 1, 0)
        whole = (addrs[at] <= start) & (stop <= ends[at])
        after = addrs.searchsorted(stop, "left") - 1  # the last range that begins before the folio ends
        touched = (after >= 0) & (ends[np.maximum(after, 0)] > start)
        for pfn in batch.heads[touched & ~whole].tolist():
            folio = self._leave(batch, batch.take(batch.find(pfn)))
            inside = np.minimum(ends, (pfn << PAGE_SHIFT) + folio.nbytes) - np.maximum(addrs, pfn << PAGE_SHIFT)
            yield folio, int(inside[inside > 0].sum()) >> PAGE_SHIFT
        whole = whole[~(touched & ~whole)]
        if whole.all() and batch.count:
            yield batch, 1 << batch.order
        elif whole.any():
            yield self._leave(batch, batch.part(whole)), 1 << batch.order

    def _of_singles(
        self, addrs: NDArray[np.int64], ends: NDArray[np.int64], runs: Sequence[Range]
    ) -> Iterator[tuple[Folio, int]]:
        """Yield the folios of `by_head` in `runs`: by looking at each page, or at each folio, whichever are fewer."""
        if int((ends - addrs).sum()) >> PAGE_SHIFT <= len(self.by_head):
            yield from self._one_by_one_known(runs)
            return
        for folio in tuple(self.by_head.values()):
            start = folio.pfn << PAGE_SHIFT
            first = int(addrs.searchsorted(start, "right")) - 1
            last = int(addrs.searchsorted(start + folio.nbytes, "left"))
            inside = sum(
                max(0, min(int(ends[i]), start + folio.nbytes) - max(int(addrs[i]), start))
                for i in range(max(first, 0), last)
            )
            if inside:
                yield folio, inside >> PAGE_SHIFT

    def _one_by_one_known(self, runs: Sequence[Range]) -> Iterator[tuple[Folio, int]]:
        batches, self.batches = self.batches, []
        try:
            found = list(self._one_by_one(runs))
        finally:
            self.batches = batches
        yield from found

    def _pin_one_by_one(self, pages: Sequence[Range], sign: int, once: bool) -> int:
        counted, last, seen = 0, None, set[int]()
        for folio, n in self._one_by_one(pages):
            if not once:
                folio.pin(sign * n)
                counted += folio is not last
            elif folio.pfn not in seen:
                folio.pin(sign)
                counted += 1
                seen.add(folio.pfn)
            last = folio
        return counted

    def _places(self, pages: Sequence[Range], rest: list[Range]) -> Iterator[tuple[FolioBatch, NDArray[np.int64]]]:
        """Yield (batch, places in it of the folio of each page, in order); add to `rest` the pages that are in none."""
        for addr, nbytes in _chunks(pages):
            pfns = _expand(addr, nbytes, PAGE_SIZE) >> PAGE_SHIFT
            for batch in self.batches:
                heads = pfns >> batch.order << batch.order
                at = np.minimum(batch.heads.searchsorted(heads), batch.count - 1)
                mine = batch.heads[at] == heads
                if mine.any():
                    yield batch, at[mine]
                    pfns = pfns[~mine]
            rest += [(pfn << PAGE_SHIFT, PAGE_SIZE) for pfn in pfns.tolist()]


def _columns(runs: Sequence[Range]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return addresses and lengths of `runs` as numbers in columns."""
    addrs, lens = getattr(runs, "addrs", None), getattr(runs, "lens", None)
    if addrs is not None and lens is not None:
        return addrs, lens
    table = np.array(runs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _whole_pages(runs: Sequence[Range]) -> Ranges:
    """Return `runs`, each grown to whole pages."""
    if isinstance(runs, RangeArray):
        first, stop = runs.addrs & -PAGE_SIZE, (runs.addrs + runs.lens + PAGE_SIZE - 1) & -PAGE_SIZE
        return RangeArray(first, stop - first)
    return tuple((addr & -PAGE_SIZE, -(-(addr % PAGE_SIZE + n) // PAGE_SIZE) * PAGE_SIZE) for addr, n in runs)


def _expand(addrs: NDArray[np.int64], lens: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return every `step`-th address of each range, in order."""
    counts = lens // step
    first = np.repeat(addrs - np.concatenate(([0], np.cumsum(counts)[:-1])) * step, counts)
    return first + np.arange(len(first), dtype=np.int64) * step


def _chunks(pages: Sequence[Range]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield `pages` as columns, about a million pages at a time."""
    addrs, lens = _columns(pages)
    while len(addrs):
        n = max(1, int(np.cumsum(lens >> PAGE_SHIFT).searchsorted(_CHUNK, "right")))
        yield addrs[:n], lens[:n]
        addrs, lens = addrs[n:], lens[n:]
