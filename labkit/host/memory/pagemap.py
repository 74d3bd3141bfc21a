"""Virtual pages of this process become frames: /proc/self/pagemap, read once and looked up many times.

True for as long as the frames stay: hold them by registering the buffer with a ring, or read it again after the IO.
"""

import errno
import os

import numpy as np
from numpy.typing import NDArray

from labkit.errors import NotAllowed, SyscallError
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_PFN = (1 << 55) - 1
_PRESENT = 1 << 63


class Pagemap:
    """The frames behind one buffer of this process, as they were when it was read."""

    def __init__(self, buffer: memoryview) -> None:
        """Read the frames of `buffer`, touched before. Raises NotAllowed without CAP_SYS_ADMIN, SyscallError EFAULT."""
        self.address = int(np.frombuffer(buffer, np.uint8).ctypes.data)
        self._first = self.address >> PAGE_SHIFT
        pages = ((self.address + buffer.nbytes - 1) >> PAGE_SHIFT) - self._first + 1
        entries = _entries(self._first, pages)
        if len(entries) < pages or not (entries & np.uint64(_PRESENT)).all():
            raise SyscallError("pagemap", f"{buffer.nbytes} B of buffer", "are not all in memory", errno.EFAULT)
        self.frames: NDArray[np.int64] = (entries & np.uint64(_PFN)).astype(np.int64)
        if not self.frames.all():
            raise _hidden()
        self._starts = self.frames << PAGE_SHIFT
        breaks = np.flatnonzero(np.diff(self.frames) != 1) + 1
        self._runs = np.concatenate(([0], breaks))

    def phys(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the physical address of each byte `at` of the buffer."""
        pos = at + (self.address - (self._first << PAGE_SHIFT))
        starts: NDArray[np.int64] = self._starts[pos >> PAGE_SHIFT]
        return starts + (pos & (PAGE_SIZE - 1))

    def ranges(self, at: int, nbytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return physical addresses and bytes of the longest runs that make up `nbytes` from byte `at` on."""
        pos = at + self.address - (self._first << PAGE_SHIFT)
        first, end = pos >> PAGE_SHIFT, pos + nbytes
        low, high = self._runs.searchsorted((first + 1, (end - 1 >> PAGE_SHIFT) + 1))
        cuts = np.empty(high - low + 2, np.int64)
        cuts[0], cuts[-1], cuts[1:-1] = pos, end, self._runs[low:high] << PAGE_SHIFT
        begins = cuts[:-1]
        return self._starts[begins >> PAGE_SHIFT] + (begins & (PAGE_SIZE - 1)), np.diff(cuts)


def rows(address: int, nbytes: int) -> list[tuple[int, int, int]]:
    """Return (page address, first PFN or -1, pages) of the pages that hold `nbytes` from `address` on, in their order.

    A row is as long as both addresses go on; -1 are pages that are not in memory. Errors: those of `runs`.
    """
    return list(zip(*(column.tolist() for column in runs(address, nbytes)), strict=True))


def runs(address: int, nbytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return what `rows` does as its three columns, which is faster where there are very many.

    Raises NotAllowed without CAP_SYS_ADMIN: each frame reads 0 then.
    """
    first = address >> PAGE_SHIFT
    pages = ((address + nbytes - 1) >> PAGE_SHIFT) - first + 1 if nbytes > 0 else 0
    entries = _entries(first, pages)
    if len(entries) < pages:  # what lies beyond the user's half of the addresses is not told
        entries = np.pad(entries, (0, pages - len(entries)))
    frames = (entries & np.uint64(_PFN)).view(np.int64)
    there = entries.view(np.int64) < 0  # _PRESENT is the sign
    if (there & (frames == 0)).any():
        raise _hidden()
    frames[~there] = -1
    step = np.diff(frames)
    breaks = np.flatnonzero((step != 1) & ((step != 0) | there[1:])) + 1
    starts = np.concatenate((np.arange(min(pages, 1)), breaks))
    return (starts + first) << PAGE_SHIFT, frames[starts], np.diff(starts, append=pages)


def _entries(first: int, pages: int) -> NDArray[np.uint64]:
    """Return the pagemap's words of `pages` from page `first` on. Raises NotAllowed where there is none."""
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as bad:
        rule = f"cannot be read: {os.strerror(bad.errno or errno.EIO)}"
        raise NotAllowed("pagemap", "/proc/self/pagemap", rule, bad.errno or errno.EIO) from bad
    try:
        return np.frombuffer(os.pread(fd, pages * 8, first * 8), np.uint64)
    finally:
        os.close(fd)


def _hidden() -> NotAllowed:
    """Return the error of an ordinary user, to whom each frame reads 0."""
    rule = "hides the frames without CAP_SYS_ADMIN: run as root"
    return NotAllowed("pagemap", "/proc/self/pagemap", rule, errno.EPERM)
