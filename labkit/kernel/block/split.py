"""Bios become pieces that fit the queue: bio_split_rw of block/blk-merge.c (SPLIT-1..5, R8..R13)."""

import errno
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.scatter.payload import Range, Ranges, cut
from labkit.scatter.range_array import RangeArray
from labkit.units import PAGE_SIZE, Sector

_LOW = PAGE_SIZE - 1


class Piece(NamedTuple):
    """A front that fits: its vectors, its bytes, and the segments that were counted for it.

    `rule`: which limit ended it, "" for the end of the bio; `why` tells that in figures.
    """

    vecs: Ranges
    nbytes: int
    segments: int
    rule: str = ""
    why: str = ""


class Taken(NamedTuple):
    """One step: `nbytes` bytes of vector `vec`, at `addr`, are taken into `piece`, from byte `start` of the bio on.

    `segments` and `total` are what the piece has then, `most` the bytes that it may have. A step of 0 bytes is a cut:
    `rule` and `why` say which limit made it.
    """

    piece: int
    vec: int
    start: int
    addr: int
    nbytes: int
    segments: int
    total: int
    most: int
    rule: str = ""
    why: str = ""


def get_max_io_size(limits: QueueLimits, sector: Sector, *, atomic: bool = False) -> int:
    """Return the most bytes for an IO at `sector`: the end falls on a physical block where it can (SPLIT-2, R10)."""
    lbs, pbs = limits.logical_block_size >> 9, limits.physical_block_size >> 9
    most = max_sectors_at(limits, sector, atomic=atomic)
    start = sector & (pbs - 1)
    end = (start + most) & ~(pbs - 1)
    return ((end - start) if end > start else most & ~(lbs - 1)) << 9


def max_sectors_at(limits: QueueLimits, sector: Sector, *, atomic: bool = False) -> int:
    """Return the most sectors at `sector`: max_sectors, and not across a multiple of chunk_sectors (SPLIT-2).

    An atomic write has its own maximum in place of max_sectors, and the device's atomic boundary, if there is one, in
    place of the chunk.
    """
    most, edge = limits.max_sectors, limits.chunk_sectors
    if atomic:
        most, edge = limits.atomic_write_unit_max >> 9, limits.atomic_write_boundary >> 9 or edge
    return min(most, edge - sector % edge) if edge else most


def fits_unseen(vecs: Ranges, limits: QueueLimits, *, checked: bool) -> bool:
    """Return whether `vecs` are one piece without a look at limits: one vector inside a page (SPLIT-1, R8).

    `checked`: alignment is a part of the test; in 6.18 alone it is not, and nobody else looks there.
    """
    if len(vecs) != 1 or limits.chunk_sectors:
        return False
    addr, length = vecs[0]
    return (addr & _LOW) + length <= PAGE_SIZE and not (checked and (addr | length) & limits.dma_alignment)


def split_to_limits(
    vecs: Ranges, sector: Sector, limits: QueueLimits, *, checked: bool = False, atomic: bool = False
) -> Iterator[Piece]:
    """Yield the pieces of a bio of `vecs` (physical address, bytes) at `sector`, front first; `atomic`: SPLIT-2.

    Raises SyscallError EINVAL, before the piece concerned, for a vector that the device cannot address (SPLIT-3a) and
    where no whole logical block fits (SPLIT-5). `checked` as in fits_unseen, which each rest is asked again (R13).
    """
    index = offset = 0
    columns = None if isinstance(vecs, tuple) else _Columns(vecs, limits)
    while index < len(vecs):
        if index + 1 == len(vecs):
            last = ((vecs[index][0] + offset, vecs[index][1] - offset),)
            if fits_unseen(last, limits, checked=checked):
                yield Piece(last, last[0][1], 1)
                return
        walk = _Walk(limits, get_max_io_size(limits, sector, atomic=atomic))
        stop = index
        while stop < len(vecs) and walk.take(vecs[stop], offset if stop == index else 0):
            stop = columns.leap(walk, stop + 1) if columns else stop + 1
        yield (piece := _piece(walk, vecs[index : stop + 1], offset, last=stop == len(vecs)))
        sector = Sector(sector + (piece.nbytes >> 9))
        index, offset = columns.advance(piece.nbytes) if columns else _advance(vecs, index, offset + piece.nbytes)


def _piece(walk: "_Walk", vecs: Ranges, offset: int, *, last: bool) -> Piece:
    """Return what `walk` took of `vecs`, whose first `offset` bytes went before; in whole logical blocks (R12)."""
    if last:
        return Piece(cut(vecs, offset, walk.nbytes), walk.nbytes, walk.segments)
    rule, why = walk.reason()
    nbytes = _whole_blocks(walk.nbytes, walk.limits)
    piece = cut(vecs, offset, nbytes)
    if nbytes == walk.nbytes:
        return Piece(piece, nbytes, walk.segments, rule, why)
    why += f"; {walk.nbytes} bytes are rounded down to whole blocks of {walk.limits.logical_block_size} (R12)"
    return Piece(piece, nbytes, _count(piece, walk.limits), rule, why)


def walked(vecs: Ranges, sector: Sector, limits: QueueLimits, *, checked: bool = False) -> Iterator[Taken]:
    """Yield every step of split_to_limits: each vector, or part of one, as it is taken; each cut. Errors: its own."""
    ends, start, vec = list(accumulate(nbytes for _, nbytes in vecs)), 0, 0
    for number, piece in enumerate(split_to_limits(vecs, sector, limits, checked=checked)):
        walk = _Walk(limits, get_max_io_size(limits, Sector(sector + (start >> 9))))
        most = walk.room[1]
        for addr, nbytes in piece.vecs:
            walk.take((addr, nbytes), 0)
            vec = bisect_right(ends, start)
            yield Taken(number, vec, start, addr, nbytes, walk.segments, walk.nbytes, most)
            start += nbytes
        if piece.rule:
            yield Taken(number, vec, start, 0, 0, piece.segments, piece.nbytes, most, piece.rule, piece.why)


class _Columns:
    """Where a walk over columns may leap: over all vectors that are aligned, inside one page, and without a gap."""

    def __init__(self, vecs: RangeArray, limits: QueueLimits) -> None:
        addr, length = vecs.addrs, vecs.lens
        odd = ((addr | length) & limits.dma_alignment != 0) | ((addr & _LOW) + length > PAGE_SIZE)
        odd[1:] |= ((addr[:-1] + length[:-1]) | addr[1:]) & limits.virt_boundary_mask != 0
        self._odd = np.append(np.flatnonzero(odd), len(vecs))
        self._vecs, self._at = vecs, 0

    def leap(self, walk: "_Walk", index: int) -> int:
        """Let `walk` take what it may from `index` on in one step, as take would one by one; return where it stands."""
        ends = self._vecs.ends
        before, (segments, nbytes) = int(ends[index - 1]), walk.room
        odd = int(self._odd[self._odd.searchsorted(index)])
        stop = min(odd, index + segments, int(ends.searchsorted(before + nbytes, "right")))
        if stop > index:
            walk.add(stop - index, int(ends[stop - 1]) - before, sum(self._vecs[stop - 1]))
        return stop

    def advance(self, nbytes: int) -> tuple[int, int]:
        """Go on by the `nbytes` bytes of a piece; return the vector, and the byte in it, that comes next."""
        self._at += nbytes
        return self._vecs.find(self._at)


class _Walk:
    """How far one piece reaches: vectors are taken until one is too much."""

    __slots__ = ("_gap", "_last_end", "_max_bytes", "_off", "limits", "nbytes", "segments")

    def __init__(self, limits: QueueLimits, max_bytes: int) -> None:
        self.limits, self._max_bytes = limits, max_bytes
        self.nbytes = self.segments = 0
        self._last_end = self._gap = self._off = -1

    @property
    def room(self) -> tuple[int, int]:
        """Segments and bytes that may still be taken."""
        return self.limits.max_segments - self.segments, self._max_bytes - self.nbytes

    def add(self, segments: int, nbytes: int, end: int) -> None:
        """Take vectors of one segment each, `nbytes` in all; the last one ends at address `end`."""
        self.segments, self.nbytes, self._last_end = self.segments + segments, self.nbytes + nbytes, end

    def take(self, vec: Range, skip: int) -> bool:
        """Take what fits of `vec` less its first `skip` bytes; return whether that was all of it."""
        lim = self.limits
        addr, length = vec[0] + skip, vec[1] - skip
        if (addr | length) & lim.dma_alignment:
            rule = f"is not a multiple of {lim.dma_alignment + 1} (SPLIT-3)"
            raise SyscallError("block", f"vector {addr:#x}+{length}", rule, errno.EINVAL)
        if self._last_end >= 0 and (self._last_end | addr) & lim.virt_boundary_mask:
            self._gap = addr
            return False
        self._last_end = addr + length
        room = self._max_bytes - self.nbytes
        if self.segments < lim.max_segments and length <= room and (addr & _LOW) + length <= PAGE_SIZE:
            self.segments += 1
            self.nbytes += length
            return True
        return self._slice(addr, length, room)

    def _slice(self, addr: int, length: int, room: int) -> bool:
        """Carve a long vector into segments, the last one that ends off the virt boundary (SPLIT-3d).

        Return whether all of it was taken.
        """
        lim = self.limits
        while length and room and self.segments < lim.max_segments:
            to_boundary = lim.seg_boundary_mask + 1 - (addr & lim.seg_boundary_mask)
            take = min(length, room, lim.max_segment_size, to_boundary)
            self.segments += 1
            self.nbytes += take
            addr, length, room = addr + take, length - take, room - take
            if addr & lim.virt_boundary_mask:
                self._off = addr
                break
        return length == 0

    def reason(self) -> tuple[str, str]:
        """Return the rule that ended the piece, and a sentence with its figures."""
        lim = self.limits
        if self._gap >= 0:
            joint = f"a joint of {self._last_end:#x} and {self._gap:#x}"
            return "SPLIT-3b", f"{joint} is not on a boundary of {lim.virt_boundary_mask + 1}"
        if self.segments >= lim.max_segments and self.nbytes < self._max_bytes:
            return "SPLIT-3d", f"{self.segments} segments are all that max_segments={lim.max_segments} allows"
        if self._off >= 0 and self.nbytes < self._max_bytes:
            end = f"a segment of max_segment_size={lim.max_segment_size} ends at {self._off:#x}"
            return "SPLIT-3d", f"{end}, not on a boundary of {lim.virt_boundary_mask + 1}"
        if self._max_bytes < lim.max_sectors << 9:
            return (
                "SPLIT-2",
                f"{self._max_bytes} bytes end on a block or chunk, max_sectors={lim.max_sectors} would not",
            )
        return "SPLIT-2", f"{self.nbytes} bytes are all that max_sectors={lim.max_sectors} allows"


def _whole_blocks(nbytes: int, limits: QueueLimits) -> int:
    """Round a split down to logical blocks (SPLIT-5, R12)."""
    whole = nbytes // limits.logical_block_size * limits.logical_block_size
    if whole == 0:
        raise SyscallError("block", f"a piece of {nbytes} bytes", "holds no logical block (SPLIT-5)", errno.EINVAL)
    return whole


def _count(vecs: Sequence[Range], limits: QueueLimits) -> int:
    """Count the segments of a piece that was rounded down."""
    walk = _Walk(limits, 1 << 62)
    for vec in vecs:
        walk.take(vec, 0)
    return walk.segments


def _advance(vecs: Sequence[Range], index: int, offset: int) -> tuple[int, int]:
    """Return the vector, and the byte in it, that lies `offset` bytes after the start of vector `index`."""
    while index < len(vecs) and offset >= vecs[index][1]:
        offset -= vecs[index][1]
        index += 1
    return index, offset
