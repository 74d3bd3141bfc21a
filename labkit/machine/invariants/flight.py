"""Invariants of an IO on its way, from its records: its bytes, in order, at every layer, and held while it lasts."""

from collections.abc import Iterator, Sequence

import numpy as np

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup.follow import group_of
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine.invariants.census import Broken, Ints, frames_of, take_census
from labkit.machine.invariants.limits import check_prps, check_request, check_segments, check_split
from labkit.machine.invariants.memory import is_free
from labkit.machine.invariants.sent import Pinned, SentRequests
from labkit.scatter.payload import Range, Ranges, cut, join, run_length
from labkit.trace.events import (
    BlockRqComplete,
    BlockRqIssue,
    BlockSplit,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupPin,
    IotlbFlush,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    NvmeSetupCmd,
    Record,
    SysEnter,
)
from labkit.trace.page_flags import PG_locked, PG_writeback
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_MOST = 16
"""Uses of memory that nobody holds that are told; after these no more are looked for."""


class Flight:
    """Every IO that is on its way: what was pinned for it, and its requests; by its records alone."""

    def __init__(
        self, frames: Frames, mms: Sequence[Mm], limits: QueueLimits, *, translated: bool, strict: bool, minimal: bool
    ) -> None:
        """Look at `frames` and `mms`; requests are within `limits`.

        `translated`: device addresses are an IOMMU's; `strict`: and die at once; `minimal`: what was pinned is the
        shortest list there is.
        """
        self.frames, self.mms, self.limits = frames, mms, limits
        self.translated, self.strict, self.minimal = translated, strict, minimal
        self.pinned: dict[int, Pinned] = {}
        self.sent = SentRequests()
        self.maps: dict[int, DmaMap] = {}
        self.stale: dict[int, DmaMap] = {}
        self._loose = 0

    def see(self, rec: Record) -> Iterator[Broken]:
        """Learn from `rec`, and yield what it breaks; nothing is changed."""
        match rec:
            case SysEnter() | IoUringSubmitReq() | IoUringQueueAsyncWork():
                self._begin(rec)
            case GupPin() if rec.policy != "none" or rec.ptes:
                yield from self._check_pin(rec)
            case BlockSplit():
                yield from check_split(self.limits, rec)
            case NvmeSetupCmd() if rec.rq in self.maps and rec.encoding == "prp":
                yield from check_prps(rec, self.maps[rec.rq])
            case DmaMap():
                yield from self._check_map(rec)
                self.maps[rec.rq] = rec
            case DmaUnmap():
                yield from self._unmap(rec)
            case IotlbFlush():
                self.stale.clear()
            case DeviceStart() | DeviceDma():
                yield from self._check_held(rec)
            case BlockRqIssue() | BlockRqComplete():
                yield from self._check_live(rec)
            case _:
                yield from self._check_request(rec)

    def _begin(self, rec: SysEnter | IoUringSubmitReq | IoUringQueueAsyncWork) -> None:
        """Note where the user's bytes are: nothing of them is pinned yet, or any more, where a worker does it again."""
        if isinstance(rec, IoUringQueueAsyncWork):
            pieces = self.pinned[rec.io].pieces if rec.io in self.pinned else ()
        else:
            pieces = rec.iov or ((rec.buf, rec.nbytes),)
        self.pinned[rec.io] = Pinned(pieces)

    def _check_request(self, rec: Record) -> Iterator[Broken]:
        """Invariant 3: what a request has become fits the queue."""
        rq = self.sent.see(rec)
        if rq is not None:
            yield from check_request(self.limits, rq, self.sent.by_rq[rq])

    def _check_pin(self, rec: GupPin) -> Iterator[Broken]:
        """Invariants 1 and 7: what was pinned is what the page table says, in the fewest ranges."""
        pieces = self.pinned.setdefault(rec.io, Pinned(())).add(rec)
        parts = [translation(self.mms[rec.mm], *piece) for piece in pieces] if rec.mm < len(self.mms) else [()]
        expected = run_length(join(parts)) if all(parts) else ()
        if expected and run_length(rec.ranges) != expected:
            text = f"user address {rec.addr:#x} is pinned as {_few(rec.ranges)}, and maps {_few(expected)}"
            yield Broken("translation", text, rec.ranges[0][0])
        if self.minimal and len(run_length(rec.ranges)) != len(rec.ranges):
            yield Broken("phyrs", f"{len(rec.ranges)} ranges were pinned where fewer would do", rec.ranges[0][0])

    def _check_map(self, rec: DmaMap) -> Iterator[Broken]:
        """Invariants 1, 3, 5: a request maps its part of the IO, byte for byte, to addresses that nobody else has."""
        sent = self.sent.by_rq.get(rec.rq)
        sizes = [sum(length for _, length in ranges) for ranges in (rec.dma, rec.phys)]
        if sent is not None and set(sizes) != {sent.nbytes}:
            yield Broken("lengths", f"request {rec.rq} is of {sent.nbytes} bytes, and maps {sizes[1]} to {sizes[0]}")
        parts = [self.pinned[p.io].part(p) if p.io in self.pinned else None for p in sent.pieces] if sent else []
        part = _all(parts)
        if parts and part is not None and run_length(part) != run_length(rec.phys):
            text = f"request {rec.rq} maps {_few(rec.phys)}, and its bytes are at {_few(part)}"
            yield Broken("translation", text, rec.phys[0][0])
        if sent is not None:
            yield from check_segments(self.limits, sent, rec)
        own = self.translated and rec.how != "premapped"  # those share what is registered
        for other in (*self.maps.values(), *self.stale.values()) if own else ():
            if _overlap(rec.dma, other.dma):
                yield Broken("iova", f"requests {rec.rq} and {other.rq} share a device address")

    def _unmap(self, rec: DmaUnmap) -> Iterator[Broken]:
        mapping = self.maps.pop(rec.rq, None)
        if mapping is None:
            yield Broken("iova", f"request {rec.rq} is unmapped, and was not mapped")
        elif rec.stale:
            self.stale[rec.rq] = mapping
            if self.strict:
                yield Broken("iova", f"addresses of request {rec.rq} live on, under iommu=strict")

    def _check_live(self, rec: BlockRqIssue | BlockRqComplete) -> Iterator[Broken]:
        """Invariant 5: what is mapped is what is in flight."""
        if isinstance(rec, BlockRqComplete) and rec.rq in self.maps:
            yield Broken("iova", f"request {rec.rq} is complete, and its device addresses live")

    def _check_held(self, rec: DeviceStart | DeviceDma) -> Iterator[Broken]:
        """Yield a page that the device uses and nobody holds: not pinned, not leased; the kernel's own needs no pin."""
        mapping = self.maps.get(rec.rq)
        if mapping is None or self._loose >= _MOST:
            return
        held = [pin.ranges for pin in self.frames.ledger.held.values() if pin.policy != "none"]
        loose = np.setdiff1d(frames_of(mapping.phys), frames_of([piece for ranges in held for piece in ranges]))
        for pfn in self._judged(loose)[:1]:
            self._loose += 1
            text = f"request {rec.rq} uses frame {pfn:#x}, which nobody has pinned or leased"
            yield Broken("dma-to-unpinned", text, int(pfn) << PAGE_SHIFT)

    def _kept(self, pfn: int) -> bool:
        group = group_of(self.frames.folios, pfn)
        return group is not None and group.mapping is not None and bool(group.flags & (PG_locked | PG_writeback))

    def _judged(self, pfns: Ints) -> Ints:
        """Return those of `pfns` that are of a folio, or free: the others are the kernel's own, or a device's.

        A page of a file that is locked, or under writeback, needs no pin (BUF-4).
        """
        kept = [self._kept(int(pfn)) for pfn in pfns]
        pfns = pfns[~np.array(kept, bool)]
        if not len(pfns):
            return pfns
        used = take_census(self.frames.folios).find(pfns) >= 0
        judged: Ints = pfns[used | np.array([is_free(self.frames, int(pfn), 1) for pfn in pfns])]
        return judged


def translation(mm: Mm, addr: int, nbytes: int) -> Ranges:
    """Return what [addr, addr + nbytes) maps, in the fewest ranges; () where not all of it is mapped."""
    out: list[Range] = []
    end = addr + nbytes
    while addr < end:
        vma = mm.space.find_vma(addr)
        stop = min(end, vma.end) if vma else end
        first, last = (vma.page(addr), vma.page(stop - 1) + 1) if vma else (0, 0)
        if vma is None or vma.table.gaps(first, last):
            return ()
        runs = [run for lo, hi, _ in vma.table.present(first, last) for run in vma.table.ranges(lo, hi)]
        out += cut(tuple(runs), addr % PAGE_SIZE, stop - addr)
        addr = stop
    return run_length(out)


def _all(parts: Sequence[Ranges | None]) -> Ranges | None:
    """Return `parts` as one, or None where one of them is not known."""
    return None if any(part is None for part in parts) else join(part for part in parts if part is not None)


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(a < b + m and b < a + n for a, n in one for b, m in other)


def _few(ranges: Ranges) -> str:
    """Return the first of `ranges` as text."""
    text = ", ".join(f"{addr:#x}+{nbytes}" for addr, nbytes in ranges[:2])
    return text if len(ranges) <= 2 else f"{text} and {len(ranges) - 2} more"  # noqa: PLR2004 - two are shown
