"""A child that does nothing: what fork made of an address space can be looked at, as long as it is there."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from labkit.errors import SyscallError
from labkit.host import signals


@contextmanager
def child() -> Iterator[int]:
    """Fork, and yield the pid of a child that waits; it is gone when this is left, and when this process dies.

    It waits for the end of a pipe of which this process has the only other end. Raises SyscallError EAGAIN, ENOMEM.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with signals.held():
            pid = _fork(reader, writer)
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    try:
        yield pid
    finally:
        with signals.held():
            os.close(writer)
            os.waitpid(pid, 0)


def _fork(reader: int, writer: int) -> int:
    """Fork; return the child's pid here, and never there: no line of the caller runs twice."""
    try:
        pid = os.fork()
    except OSError as no:
        raise SyscallError("fork", "this process", f"is not copied: {no.strerror}", no.errno or errno.EAGAIN) from no
    if pid:
        return pid
    try:
        os.close(writer)
        os.read(reader, 1)
    finally:
        os._exit(0)
