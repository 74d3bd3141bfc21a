"""Frames in use: taken from the buddy allocator as folios, counted, and given back when nobody counts on them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from labkit.kernel.mm.frames.folio import Folio, Group
from labkit.kernel.mm.frames.folios import Folios
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.scatter.payload import Ranges, join, ranges_of, run_length
from labkit.trace.page_flags import ANON, PG_hugetlb
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PFN_PHYS, Nsec, PhysAddr


class Frames:
    """The memory of a machine that is in use, and what everybody who uses it shares."""

    def __init__(
        self, buddy: Buddy, emit: Emit, now: Callable[[], Nsec],
        wipe: Callable[[int, int], None] = lambda _addr, _nbytes: None,
        copy: Callable[[int, int, int], None] = lambda _to, _from, _nbytes: None,
    ) -> None:  # fmt: skip
        """Join the parts. `emit` takes records, `now` tells the time that they carry.

        `wipe(addr, nbytes)` clears memory that goes back to the allocator, as init_on_free=1 does, so that a fresh
        page is zeros; `copy(to, from, nbytes)` copies between physical addresses.
        """
        self.buddy, self.emit, self.now, self.wipe, self.copy = buddy, emit, now, wipe, copy
        self.folios, self.ledger = Folios(), PinLedger()
        self.orphans: list[Group] = []
        """Unmapped while somebody counted on them still."""
        self.hugetlb_pools: dict[int, Callable[[Ranges], None]] = {}
        """Who takes huge pages back that were set aside, by their order."""

    def alloc(
        self, order: int, count: int, flags: int = ANON, mapping: Any = None
    ) -> tuple[Ranges, int, Sequence[Group]]:
        """Take up to `count` folios of 2**`order` frames that nobody counts on yet.

        Returns (address, bytes) of them in the order taken, how many folios they are, and the same as groups. Raises
        SyscallError ENOMEM where not one is left.
        """
        if count == 1:
            folio = self.folios.add(self.buddy.alloc_pages(order), order, 0, flags, mapping)
            return folio.runs, 1, (folio,)
        starts, frames = self.buddy.alloc_bulk(order, count)
        if not len(starts):
            self.buddy.alloc_pages(order)  # raises, in the allocator's own words
        runs = ranges_of(starts << PAGE_SHIFT, frames << PAGE_SHIFT)
        return runs, int(frames.sum()) >> order, self.folios.add_runs(runs, order, 0, flags, mapping)

    def zero_page(self) -> PhysAddr:
        """Return the address of the zero page, which nobody counts on (MM-15); made when it is first wanted."""
        if self.folios.zero is None:
            self.folios.zero = PFN_PHYS(self.buddy.alloc_pages(0))
        return self.folios.zero

    def map(self, groups: Iterable[tuple[Group, int]]) -> None:
        """Count `n` more entries on each folio of a group: a reference and a mapping each."""
        for group, n in groups:
            group.refcount += n
            group.mapcount += n

    def unmap(self, groups: Iterable[tuple[Group, int]]) -> None:
        """Count `n` entries less on each folio of a group, and free what nobody counts on any more."""
        found = list(groups)
        for group, n in found:
            group.refcount -= n
            group.mapcount -= n
        self.settle(group for group, _ in found)

    def forget(self, group: Group, refs: int) -> None:
        """Take `group` out of the file that it belongs to, and the references that the file held."""
        group.mapping = None
        group.refcount -= refs
        self.emit(("MmFilemapDeleteFromPageCache", self.now(), 0, refs, group.runs))
        self.settle((group,))

    def release_orphans(self) -> None:
        """Free what was unmapped while it was held, and is held no more."""
        if self.orphans:
            orphans, self.orphans = self.orphans, []
            self.settle(orphans)

    def settle(self, groups: Iterable[Group]) -> None:
        """Free those of `groups` that nothing maps, no file has and nobody holds; keep the held ones in mind."""
        freed: dict[tuple[int, bool], list[Ranges]] = {}
        for group in dict.fromkeys(groups):  # a folio that is mapped in pieces comes once for each
            if group.mapcount or group.mapping is not None or not group.count:
                continue
            for part, held in self.parts(group):
                if held:
                    self.orphans.append(part)
                else:
                    self.folios.remove(part)
                    freed.setdefault((part.order, bool(part.flags & PG_hugetlb)), []).append(part.runs)
        self._tell(freed)

    def parts(self, group: Group, *, pinned: bool = False) -> Iterable[tuple[Group, bool]]:
        """Yield `group` in parts: those that somebody holds who is no mapping of them, and those that nobody does.

        `pinned`: those that look pinned (MM-16, or held in the ledger), and those that do not.
        """
        if isinstance(group, Folio):
            counted = group.maybe_dma_pinned if pinned else group.refcount > group.mapcount or group.under_io
            yield group, counted or self.ledger.covers(group.pfn << PAGE_SHIFT, group.nbytes)
            return
        held = self.ledger.held_mask(group.heads, group.nbytes)
        if group.pins is not None:
            held |= group.pins > 0
        held |= pinned and group.all_look_pinned
        if held.any() and not held.all():
            part = group.part(held)
            self.folios.batches.append(part)
            yield part, True
            held = held[~held]
        yield group, bool(held.any())

    def _tell(self, freed: dict[tuple[int, bool], list[Ranges]]) -> None:
        """Give back runs of frames, by order and by whether they are a pool's, and tell the trace."""
        for (order, huge), parts in freed.items():
            runs = join(parts)
            if huge and order in self.hugetlb_pools:
                self.hugetlb_pools[order](runs)
            else:
                table = np.array(runs, np.int64) if isinstance(runs, tuple) else runs.rows
                self.buddy.free_bulk(table[:, 0] >> PAGE_SHIFT, table[:, 1] >> PAGE_SHIFT, order)
            for addr, nbytes in runs:
                self.wipe(addr, nbytes)
            self.emit(("MmPageFree", self.now(), 0, order, run_length(runs)))
