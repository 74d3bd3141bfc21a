"""Addresses become kinds of memory, for everybody: PAGEMAP_SCAN tells what is there and what is huge, and no frames."""

import ctypes
import errno
import fcntl
import os
import struct
from typing import NamedTuple

from labkit.errors import NotAllowed, SyscallError
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_SCAN = 0xC060_6610
"""PAGEMAP_SCAN of Linux 6.7; struct pm_scan_arg has twelve words, struct page_region three (uapi/linux/fs.h)."""
_ARG, _REGION, _MOST = struct.Struct("=12Q"), struct.Struct("=3Q"), 1024
_NAMES = {2: "FILE", 3: "PRESENT", 4: "SWAPPED", 5: "PFNZERO", 6: "HUGE"}
"""The PAGE_IS_ bits that say what a page is, and not what became of it."""
_MASK = sum(1 << bit for bit in _NAMES)
_WALK_END = 4
"""The word in which the kernel says how far it came."""


class Region(NamedTuple):
    """`pages` from `address` on that are alike: each of FILE, PRESENT, SWAPPED, PFNZERO, HUGE that they are."""

    address: int
    pages: int
    what: frozenset[str]


def scan(address: int, nbytes: int) -> list[Region]:
    """Return the regions of the `nbytes` from `address` on, in their order; what was never touched is in none.

    HUGE is memory that one entry of the page table maps 2 MiB of at a time, or hugetlb. Needs no root. Raises
    NotAllowed before Linux 6.7, SyscallError.
    """
    at, end = address & -PAGE_SIZE, -(-(address + nbytes) // PAGE_SIZE) * PAGE_SIZE
    found: list[Region] = []
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while at < end:
            at = _scan(fd, at, end, found)
    except OSError as bad:
        raise _refusal(bad.errno or errno.EIO) from bad
    finally:
        os.close(fd)
    return found


def _scan(fd: int, start: int, end: int, found: list[Region]) -> int:
    """Add to `found` what lies from `start` to `end`, as far as one call goes; return how far. Raises OSError."""
    room = ctypes.create_string_buffer(_MOST * _REGION.size)
    asked = (_ARG.size, 0, start, end, 0, ctypes.addressof(room), _MOST, 0, 0, 0, _MASK, _MASK)
    arg = bytearray(_ARG.pack(*asked))
    count = fcntl.ioctl(fd, _SCAN, arg)
    for first, last, bits in _REGION.iter_unpack(room.raw[: count * _REGION.size]):
        what = frozenset(name for bit, name in _NAMES.items() if bits >> bit & 1)
        found.append(Region(first, (last - first) >> PAGE_SHIFT, what))
    return int(_ARG.unpack(arg)[_WALK_END])


def _refusal(number: int) -> NotAllowed | SyscallError:
    """Return the error of a scan that ended with `number`."""
    if number in {errno.ENOTTY, errno.EINVAL}:
        return NotAllowed("pagemap", "PAGEMAP_SCAN", "came with Linux 6.7: run a newer kernel", number)
    return SyscallError("pagemap", "PAGEMAP_SCAN", f"fails: {os.strerror(number)}", number)
