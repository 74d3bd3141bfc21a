"""Pages of a process become frames, as /proc/PID/pagemap tells them: to everybody which are its own, to root where."""

import errno
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import NotAllowed, SyscallError
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_PFN, _EXCLUSIVE, _PRESENT = (1 << 55) - 1, 1 << 56, 1 << 63


class Frames(NamedTuple):
    """What maps each page: its frame, -1 where none does; and whether nobody else maps that, too.

    `pfns` is None where the kernel hides them: a PFN of zero is no frame.
    """

    pfns: NDArray[np.int64] | None
    exclusive: NDArray[np.bool_]

    @property
    def hexes(self) -> list[str]:
        """The frames for a reader: "0x1a2b", "none" where a page has no frame; "hidden" where the kernel hides them."""
        if self.pfns is None:
            return ["hidden"] * len(self.exclusive)
        return ["none" if pfn < 0 else f"{pfn:#x}" for pfn in self.pfns.tolist()]


def frames(address: int, pages: int, pid: int | str = "self") -> Frames:
    """Return what `pages` pages from user address `address` on are mapped to in process `pid`.

    Raises NotAllowed where that process may not be looked at.
    """
    words = _words(f"/proc/{pid}/pagemap", address >> PAGE_SHIFT, pages)
    present = words & np.uint64(_PRESENT) != 0
    pfns = (words & np.uint64(_PFN)).astype(np.int64)
    hidden = bool(present.any()) and not pfns[present].any()
    return Frames(None if hidden else np.where(present, pfns, -1), words & np.uint64(_EXCLUSIVE) != 0)


def mapcounts(pfns: NDArray[np.int64]) -> list[int]:
    """Return how many page tables map each of `pfns`. Raises NotAllowed without root."""
    return [int(_words("/proc/kpagecount", pfn, 1)[0]) for pfn in pfns.tolist()]


def moved(before: Frames, after: Frames) -> NDArray[np.bool_]:
    """Return which pages have another frame than before. Raises NotAllowed where frames are hidden."""
    if before.pfns is None or after.pfns is None:
        rule = "hides the frames without CAP_SYS_ADMIN: run as root"
        raise NotAllowed("pagemap", "/proc/self/pagemap", rule, errno.EPERM)
    changed: NDArray[np.bool_] = before.pfns != after.pfns
    return changed


def runs(found: Frames) -> int:
    """Return how many runs of neighbours the frames are; 0 where they are hidden."""
    return 0 if found.pfns is None else 1 + int((np.diff(found.pfns) != 1).sum())


def _words(path: str, first: int, count: int) -> NDArray[np.uint64]:
    """Return `count` words of 8 bytes of `path`, from word `first` on. Raises NotAllowed, SyscallError EIO."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as no:
        rule = f"cannot be read, {no.strerror}: run as root"
        raise NotAllowed("pagemap", path, rule, no.errno or errno.EIO) from no
    try:
        words = np.frombuffer(os.pread(fd, count * 8, first * 8), np.uint64)
    finally:
        os.close(fd)
    if len(words) < count:
        raise SyscallError("pagemap", path, f"tells {len(words)} of {count} pages of {PAGE_SIZE} bytes", errno.EIO)
    return words
