"""System calls on what a task has open: each is waited for."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from labkit.hardware.clock import Wait
from labkit.kernel.syscall.table import Syscalls
from labkit.scatter.payload import Range
from labkit.scenario import parse_bytes

Pieces = Sequence[tuple[int, int | str]]


class Calls:
    """The calls of one task. They return what the kernel would, or raise SyscallError with the kernel's errno."""

    syscalls: Syscalls
    _wait: Callable[[Generator[Wait, Any, int]], int]

    def pread(self, fd: int, buf: int, count: int | str, offset: int | str = 0, flags: str = "") -> int:
        """Read `count` bytes at `offset` into user address `buf`; return how many came. `flags`: RWF_* of this call."""
        nbytes, pos = parse_bytes("pread64", "count", count), parse_bytes("pread64", "offset", offset)
        return self._wait(self.syscalls.rw(fd, buf, nbytes, pos, write=False, rwf=flags))

    def pwrite(self, fd: int, buf: int, count: int | str, offset: int | str = 0, flags: str = "") -> int:
        """Write `count` bytes from user address `buf` at `offset`; return how many went."""
        nbytes, pos = parse_bytes("pwrite64", "count", count), parse_bytes("pwrite64", "offset", offset)
        return self._wait(self.syscalls.rw(fd, buf, nbytes, pos, write=True, rwf=flags))

    def preadv(self, fd: int, iov: Pieces, offset: int | str = 0, flags: str = "") -> int:
        """Read at `offset` into the pieces `iov` of (user address, bytes), one after the other; return the bytes."""
        pos = parse_bytes("preadv", "offset", offset)
        return self._wait(self.syscalls.rwv(fd, _iov(iov), pos, write=False, rwf=flags))

    def pwritev(self, fd: int, iov: Pieces, offset: int | str = 0, flags: str = "") -> int:
        """Write the pieces `iov` of (user address, bytes) at `offset`; return how many bytes went."""
        pos = parse_bytes("pwritev", "offset", offset)
        return self._wait(self.syscalls.rwv(fd, _iov(iov), pos, write=True, rwf=flags))

    def fsync(self, fd: int) -> int:
        """Let all that was written to `fd` reach the medium. Raises SyscallError EBADF, EIO."""
        return self._wait(self.syscalls.fsync(fd))

    def ftruncate(self, fd: int, length: int | str) -> int:
        """Make the file `fd` `length` bytes long. Errors: Syscalls.ftruncate."""
        return self._wait(self.syscalls.ftruncate(fd, parse_bytes("ftruncate", "length", length)))

    def fallocate(self, fd: int, offset: int | str, length: int | str, mode: str = "") -> int:
        """Allocate a part of the file `fd`, or make it a hole: 'PUNCH_HOLE|KEEP_SIZE'. Errors: Syscalls.fallocate."""
        pos, nbytes = parse_bytes("fallocate", "offset", offset), parse_bytes("fallocate", "length", length)
        return self._wait(self.syscalls.fallocate(fd, pos, nbytes, mode))


def _iov(iov: Pieces) -> tuple[Range, ...]:
    return tuple((addr, parse_bytes("preadv", "count", nbytes)) for addr, nbytes in iov)
