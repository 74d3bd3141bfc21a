"""A command's data pointer, as a controller reads it: PRPs and SGLs become pieces of memory."""

import struct

from labkit.hardware.device import Bus, fetch
from labkit.hardware.nvme.spec import (
    SGL,
    SGL_BYTES,
    SGL_DATA,
    SGL_LAST_SEGMENT,
    SGL_LENGTH,
    SGL_SEGMENT,
    SGL_TYPE_SHIFT,
    Status,
)
from labkit.scatter.payload import Range
from labkit.units import PAGE_SIZE

_LOW = PAGE_SIZE - 1
_SEGMENTS = (SGL_SEGMENT, SGL_LAST_SEGMENT)
_MOST = 1 << 16
"""Descriptors that a controller reads of one command; ours: a chain of segments must end."""


class BadPointer(Exception):
    """A data pointer that the specification forbids; `status` is what a controller answers."""

    def __init__(self, status: Status) -> None:
        """`status`: of the generic command set."""
        super().__init__(status.name)
        self.status = status


def parse_prps(bus: Bus, prp1: int, prp2: int, nbytes: int) -> list[Range]:
    """Return (bus address, bytes) of each piece that the PRPs of `nbytes` name, reading lists from memory (NVME-5).

    Raises BadPointer PRP_INVALID_OFFSET for a PRP that begins where it may not, BusFault for a list that is nowhere.
    """
    take = min(nbytes, PAGE_SIZE - (prp1 & _LOW))
    pieces, nbytes = [(prp1, take)], nbytes - take
    if 0 < nbytes <= PAGE_SIZE:
        _want(prp2, _LOW)
        return [*pieces, (prp2, nbytes)]
    zeros = 7  # the first list may begin inside a page; those that it leads to do not, so that it comes to an end
    while nbytes:
        _want(prp2, zeros)
        room = (PAGE_SIZE - (prp2 & _LOW)) // 8
        need = -(-nbytes // PAGE_SIZE)
        slots = min(need, room)
        entries = list(struct.unpack(f"<{slots}Q", fetch(bus.views(prp2, 8 * slots))))
        if need > room:  # the last slot of a full list leads to the next one
            prp2, zeros = entries.pop(), _LOW
        for entry in entries:
            _want(entry, _LOW)
            pieces.append((entry, min(nbytes, PAGE_SIZE)))
            nbytes -= pieces[-1][1]
    return pieces


def _want(prp: int, zeros: int) -> None:
    """Raise BadPointer where any of the bits `zeros` of `prp` is not 0."""
    if prp & zeros:
        raise BadPointer(Status.NVME_SC_PRP_INVALID_OFFSET)


def parse_sgl(bus: Bus, addr: int, rest: int, nbytes: int) -> list[Range]:
    """Return (bus address, bytes) of each piece that the SGL of `nbytes` names (NVME-7); segments are read from memory.

    `addr`, `rest`: the descriptor in the command. Raises BadPointer for a list that the specification forbids, or that
    holds more or less than `nbytes`; BusFault for a segment that is nowhere.
    """
    pieces, kind, read = list[Range](), rest >> SGL_TYPE_SHIFT, 0
    if kind == SGL_DATA:
        pieces.append((addr, rest & SGL_LENGTH))
    elif kind not in _SEGMENTS:
        raise BadPointer(Status.NVME_SC_SGL_INVALID_TYPE)
    while kind in _SEGMENTS:
        rows = _segment(bus, addr, rest & SGL_LENGTH)
        read += len(rows)
        following = rows.pop() if rows[-1][1] >> SGL_TYPE_SHIFT in _SEGMENTS else (0, 0)
        if following[1] and kind == SGL_LAST_SEGMENT:
            raise BadPointer(Status.NVME_SC_SGL_INVALID_LAST)
        pieces += [_data(*row) for row in rows]
        (addr, rest), kind = following, following[1] >> SGL_TYPE_SHIFT
        if read > _MOST:
            raise BadPointer(Status.NVME_SC_SGL_INVALID_COUNT)
    if sum([length for _, length in pieces]) != nbytes:
        raise BadPointer(Status.NVME_SC_SGL_INVALID_DATA)
    return [piece for piece in pieces if piece[1]]


def _segment(bus: Bus, addr: int, length: int) -> list[tuple[int, int]]:
    """Return the descriptors of a segment of `length` bytes."""
    if not length or length % SGL_BYTES:
        raise BadPointer(Status.NVME_SC_SGL_INVALID_LAST)
    if length > _MOST * SGL_BYTES:
        raise BadPointer(Status.NVME_SC_SGL_INVALID_COUNT)
    return list(SGL.iter_unpack(fetch(bus.views(addr, length))))


def _data(addr: int, rest: int) -> Range:
    """Return the piece of a data descriptor."""
    kind = rest >> SGL_TYPE_SHIFT
    if kind in _SEGMENTS:  # anywhere but at the end of a segment
        raise BadPointer(Status.NVME_SC_SGL_INVALID_COUNT)
    if kind != SGL_DATA:
        raise BadPointer(Status.NVME_SC_SGL_INVALID_TYPE)
    return addr, rest & SGL_LENGTH
