"""PRPs: a page for each entry, in lists that lead from one to the next (NVME-5)."""

import errno
from collections.abc import Sequence
from itertools import pairwise

from labkit.errors import SyscallError
from labkit.scatter.payload import Range, Ranges
from labkit.units import PAGE_SIZE

_LOW = PAGE_SIZE - 1
_ROOM = PAGE_SIZE // 8
"""Entries of a list of a page."""


def prp_entries(ranges: Ranges) -> list[int]:
    """Return every PRP of `ranges` (bus addresses): the first may begin inside a page, the others are page starts.

    Raises SyscallError EIO for a joint inside a page, of which PRPs cannot tell (NVME-6).
    """
    if not ranges:
        return []
    if len(ranges) == 1 and (ranges[0][0] & _LOW) + ranges[0][1] <= PAGE_SIZE:
        return [ranges[0][0]]
    for (addr, nbytes), (after, _) in pairwise(ranges):
        if (addr + nbytes | after) & _LOW:
            what = f"{addr:#x}+{nbytes} before {after:#x}"
            raise SyscallError("nvme", what, "is a gap inside a page: incorrectly formed request (NVME-6)", errno.EIO)
    entries: list[int] = []
    for addr, nbytes in ranges:
        entries.append(addr)
        entries.extend(range((addr // PAGE_SIZE + 1) * PAGE_SIZE, addr + nbytes, PAGE_SIZE))
    return entries


def prp_pieces(entries: Sequence[int], nbytes: int) -> list[Range]:
    """Return (bus address, bytes) of each of `entries`, which stand for `nbytes` bytes."""
    first = min(nbytes, PAGE_SIZE - (entries[0] & _LOW))
    left = [min(PAGE_SIZE, nbytes - at) for at in range(first, nbytes, PAGE_SIZE)]
    return list(zip(entries, [first, *left], strict=True))


def prp_lists(entries: int) -> list[int]:
    """Return the slots of each list for `entries` PRPs after PRP1: 512 to a page, the last one chains (NVME-5)."""
    chunks: list[int] = []
    while entries > _ROOM:
        chunks.append(_ROOM)
        entries -= _ROOM - 1
    return [*chunks, entries]
