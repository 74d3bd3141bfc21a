"""A file of the lab's own, for IO that anybody may do: it has no name where the filesystem can do that (O_TMPFILE)."""

import errno
import os
import tempfile
from types import TracebackType
from typing import IO, Self

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import direct
from labkit.host.memory.own_pages import OwnPages
from labkit.units import SECTOR_SIZE

REMEDY = "set TMPDIR to a directory on ext4 or xfs"


def temporary() -> IO[bytes]:
    """Open a file that nobody else finds. Raises NotAllowed where none can be made."""
    try:
        return tempfile.TemporaryFile()
    except OSError as no:
        raise NotAllowed(
            "scratch", "a temporary file", f"cannot be made, {no.strerror}: {REMEDY}", no.errno or errno.EIO
        ) from no


class Scratch:
    """A file of `nbytes`, a multiple of 4 KiB, that lie on the medium; open with O_DIRECT as `fd`.

    A context manager; the file goes at the end.
    """

    def __init__(self, nbytes: int) -> None:
        """Write it. Raises NotAllowed where no file can be made, or none that does O_DIRECT; SyscallError ENOSPC."""
        self.nbytes, self.fd, self._file = nbytes, -1, temporary()
        try:
            self.fill(bytes(range(256)) * (nbytes // 256))
            self.fd = self._direct()
            self._check()
        except BaseException:
            self.close()
            raise

    def fill(self, data: bytes) -> None:
        """Bring `data` to the medium: a hole, or blocks that wait for their place, would be no direct IO."""
        try:
            os.pwrite(self._file.fileno(), data, 0)
            os.fsync(self._file.fileno())
        except OSError as bad:
            rule = f"cannot be written, {bad.strerror}: {REMEDY}"
            what, number = f"{self.nbytes} B in {tempfile.gettempdir()}", bad.errno or errno.EIO
            raise SyscallError("scratch", what, rule, number) from bad

    def peek(self, nbytes: int) -> bytes:
        """Return the first bytes of the file as a reader without O_DIRECT sees them."""
        return os.pread(self._file.fileno(), nbytes, 0)

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _direct(self) -> int:
        """Open it once more, with O_DIRECT. Raises NotAllowed where the filesystem has none."""
        try:
            return os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as no:
            rule = f"does no O_DIRECT: {REMEDY}"
            raise NotAllowed("scratch", tempfile.gettempdir(), rule, no.errno or errno.EINVAL) from no

    def _check(self) -> None:
        """Raise NotAllowed where O_DIRECT is buffered in secret: a read at byte 1 must be EINVAL."""
        with OwnPages(1) as memory:
            said = direct.call("pread", self.fd, [(memory.address, SECTOR_SIZE)], 1)()
        if said != -errno.EINVAL:
            rule = f"answers {said} to an O_DIRECT read at byte 1: {REMEDY}"
            raise NotAllowed("scratch", tempfile.gettempdir(), rule, errno.EOPNOTSUPP)
