"""Bios become pieces that fit the queue: bio_split_rw of block/blk-merge.c (SPLIT-1..5, R8..R13 of Linux 6.18)."""

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.scatter.payload import Range, Ranges, cut
from labkit.scatter.range_array import RangeArray
from labkit.units import PAGE_SIZE, Sector

_LOW = PAGE_SIZE - 1


class Piece(NamedTuple):
    """A front that fits: its vectors, its bytes, and the segments that were counted for it."""

    vecs: Ranges
    nbytes: int
    segments: int


def get_max_io_size(limits: QueueLimits, sector: Sector) -> int:
    """Return the most bytes for an IO at `sector`: the end falls on a physical block where it can (SPLIT-2)."""
    lbs, pbs = limits.logical_block_size >> 9, limits.physical_block_size >> 9
    start = sector & (pbs - 1)
    end = (start + limits.max_sectors) & ~(pbs - 1)
    return ((end - start) if end > start else limits.max_sectors & ~(lbs - 1)) << 9


def split_to_limits(vecs: Ranges, sector: Sector, limits: QueueLimits) -> Iterator[Piece]:
    """Yield the pieces of a bio of `vecs` (physical address, bytes) at `sector`, front first.

    Raises SyscallError EINVAL, before the piece concerned, for a vector that the device cannot address (SPLIT-3a) and
    where no whole logical block fits (SPLIT-5).
    """
    index = offset = 0
    columns = None if isinstance(vecs, tuple) else _Columns(vecs, limits)
    while index < len(vecs):
        addr, length = vecs[index][0] + offset, vecs[index][1] - offset
        if index + 1 == len(vecs) and (addr & _LOW) + length <= PAGE_SIZE:
            yield Piece(((addr, length),), length, 1)  # SPLIT-1, R8, R13: never examined, not even for alignment
            return
        walk = _Walk(limits, get_max_io_size(limits, sector))
        stop = index
        while stop < len(vecs) and walk.take(vecs[stop], offset if stop == index else 0):
            stop = columns.leap(walk, stop + 1) if columns else stop + 1
        nbytes = _whole_blocks(walk.nbytes, limits, last=stop == len(vecs))
        piece = cut(vecs[index : stop + 1], offset, nbytes)
        segments = walk.segments if nbytes == walk.nbytes else _count(piece, limits)
        yield Piece(piece, nbytes, segments)
        sector = Sector(sector + (nbytes >> 9))
        index, offset = columns.advance(nbytes) if columns else _advance(vecs, index, offset + nbytes)


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

    __slots__ = ("_last_end", "_limits", "_max_bytes", "nbytes", "segments")

    def __init__(self, limits: QueueLimits, max_bytes: int) -> None:
        self._limits, self._max_bytes = limits, max_bytes
        self.nbytes = self.segments = 0
        self._last_end = -1

    @property
    def room(self) -> tuple[int, int]:
        """Segments and bytes that may still be taken."""
        return self._limits.max_segments - self.segments, self._max_bytes - self.nbytes

    def add(self, segments: int, nbytes: int, end: int) -> None:
        """Take vectors of one segment each, `nbytes` in all; the last one ends at address `end`."""
        self.segments, self.nbytes, self._last_end = self.segments + segments, self.nbytes + nbytes, end

    def take(self, vec: Range, skip: int) -> bool:
        """Take what fits of `vec` less its first `skip` bytes; return whether that was all of it."""
        lim = self._limits
        addr, length = vec[0] + skip, vec[1] - skip
        if (addr | length) & lim.dma_alignment:
            rule = f"is not a multiple of {lim.dma_alignment + 1} (SPLIT-3)"
            raise SyscallError("block", f"vector {addr:#x}+{length}", rule, errno.EINVAL)
        if self._last_end >= 0 and (self._last_end | addr) & lim.virt_boundary_mask:
            return False
        self._last_end = addr + length
        room = self._max_bytes - self.nbytes
        if self.segments < lim.max_segments and length <= room and (addr & _LOW) + length <= PAGE_SIZE:
            self.segments += 1
            self.nbytes += length
            return True
        return self._slice(addr, length, room)

    def _slice(self, addr: int, length: int, room: int) -> bool:
        """Carve a long vector into segments (SPLIT-3d); return whether all of it was taken."""
        lim, want = self._limits, length
        while length and room and self.segments < lim.max_segments:
            to_boundary = lim.seg_boundary_mask + 1 - (addr & lim.seg_boundary_mask)
            take = min(length, room, lim.max_segment_size, to_boundary)
            self.segments += 1
            self.nbytes += take
            addr, length, room, want = addr + take, length - take, room - take, want - take
        return want == 0


def _whole_blocks(nbytes: int, limits: QueueLimits, *, last: bool) -> int:
    """Round a split down to logical blocks (SPLIT-5, R12); the end of the bio is whole already."""
    if last:
        return nbytes
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
