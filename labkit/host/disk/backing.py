"""The file behind a loop device, as it really is: written and read beside the device, through no stale cache.

The device reads and writes the file by direct IO, beside the page cache of the file. So the cache is written back and
dropped at each turn, and the bytes come from the file's disk and go there.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from labkit.host.undo import leftovers, private

_PIECE = 1 << 20


class Backing:
    """A marked, sparse file of `nbytes` zeros; `path`, and an fd that holds its flock."""

    def __init__(self, directory: Path | None, nbytes: int) -> None:
        """Make it below `directory` (the temporary directory if None). Raises OSError, NotAllowed."""
        self.path, self._fd = leftovers.create(private.home(directory))
        self.nbytes = nbytes
        try:
            os.ftruncate(self._fd, nbytes)
        except BaseException:
            self.close(mine=True)
            raise

    def open_again(self) -> int:
        """Return an fd of a description of its own: of this very file, whatever bears its name now. Raises OSError."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)

    def read(self, pos: int, nbytes: int) -> bytes:
        """Return `nbytes` from byte `pos`. Raises OSError."""
        self._drop_cache()
        return b"".join(_pread(self._fd, pos, nbytes))

    def write(self, pos: int, data: bytes | memoryview) -> None:
        """Write `data` to byte `pos`. Raises OSError, ENOSPC where the disk is full."""
        _pwrite(self._fd, pos, memoryview(data))
        self._drop_cache()

    def fill(self, seed: int) -> None:
        """Write all of it, so that every block lies on the disk: a hole would be read from nowhere. Raises OSError."""
        piece = memoryview(random.Random(seed).randbytes(min(_PIECE, self.nbytes)))  # noqa: S311 - a pattern
        for pos in range(0, self.nbytes, _PIECE):
            _pwrite(self._fd, pos, piece[: self.nbytes - pos])
        self._drop_cache()

    def _drop_cache(self) -> None:
        """Write back and drop the page cache of the whole file: a range would spare the pages that it cuts."""
        os.fdatasync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self, *, mine: bool) -> None:
        """Unlink the file if it is `mine`, and close it, which drops the flock, once."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if mine:
            with contextlib.suppress(OSError):  # what cannot be unlinked now is left to the next sweep
                private.remove(self.path)
        os.close(fd)


def _pread(fd: int, pos: int, nbytes: int) -> Iterator[bytes]:
    """Yield `nbytes` of the file from byte `pos`, in as many reads as the kernel wants."""
    while nbytes and (piece := os.pread(fd, nbytes, pos)):
        yield piece
        pos, nbytes = pos + len(piece), nbytes - len(piece)


def _pwrite(fd: int, pos: int, rest: memoryview) -> None:
    """Write `rest` to byte `pos`, in as many writes as the kernel wants."""
    while rest:
        written = os.pwrite(fd, rest, pos)
        rest, pos = rest[written:], pos + written
