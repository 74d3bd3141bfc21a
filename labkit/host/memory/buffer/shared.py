"""Files become memory: without a name and without a disk (memfd), in huge pages too, or with blocks on a real one."""

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from labkit.errors import NotAllowed
from labkit.host.memory.buffer import switches
from labkit.host.memory.buffer.space import HUGEPAGE, NOHUGEPAGE, Space
from labkit.host.undo import Undo

_CHUNK = 4 << 20
"""Bytes of a write: ext4 and xfs have folios as large as it allows."""


def memfd(space: Space) -> None:
    """Put a file of shared memory over it, in pages of 4 KiB. Raises SyscallError."""
    with _memfd(space.nbytes) as fd:
        space.place(fd, mmap.MAP_SHARED)
    space.advise(NOHUGEPAGE)
    space.populate()


@contextmanager
def huge_memfd(space: Space, undo: Undo) -> Iterator[int]:
    """Put a file of shared memory over it, in huge pages as far as there are such, and yield its fd.

    Raises NotAllowed, SyscallError.
    """
    with _memfd(space.nbytes) as fd:
        space.place(fd, mmap.MAP_SHARED)
        with switches.switched(undo, switches.shared):
            space.advise(HUGEPAGE)
            space.populate()
            space.advise(NOHUGEPAGE)
        yield fd


def file(space: Space) -> None:
    """Put a file of the temporary directory over it, whose blocks are written, and which has no name.

    A ring cannot register it: on a filesystem that tracks what is written, memory is not pinned for long (Linux 6.5).
    Raises NotAllowed where that directory takes no such file, SyscallError.
    """
    with ExitStack() as stack:
        try:
            blocks = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            _write(blocks, space.nbytes)
        except OSError as bad:
            number = bad.errno or errno.EIO
            rule = f"cannot be written, {os.strerror(number)}: set TMPDIR to a directory with room"
            raise NotAllowed("buffer", "a temporary file", rule, number) from bad
        space.place(blocks.fileno(), mmap.MAP_SHARED)
    space.advise(NOHUGEPAGE)
    space.populate()


def _write(blocks: IO[bytes], left: int) -> None:
    """Write `left` bytes, and bring them to their disk. Raises OSError."""
    chunk = memoryview(b"\0" * _CHUNK)  # touched, else the copy out of it stops at each page, and so do the folios
    while left:
        left -= blocks.write(chunk[:left])
    os.fdatasync(blocks)


@contextmanager
def _memfd(nbytes: int) -> Iterator[int]:
    """Yield the fd of a new file of `nbytes` of shared memory; what is mapped of it stays."""
    fd = os.memfd_create("labkit", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, nbytes)
        yield fd
    finally:
        os.close(fd)
