"""io_uring as a program uses it: fill entries, submit them together, take completions."""

import errno
from collections.abc import Callable, Generator, Sequence
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Wait
from labkit.kernel.syscall.uring import Cqe, Sqe, Uring
from labkit.scatter.payload import Range
from labkit.scenario import parse_bytes


class Ring:
    """One ring. Nothing happens before submit; completions come in the order in which the IOs end."""

    def __init__(
        self, task: object, uring: Uring, wait: Callable[[Generator[Wait, Any, int]], int],
        register: Callable[[int, int], None], release: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Serve `task`: `wait` ends a call, `register(addr, bytes)` pins a buffer, `release(addr)` unpins."""
        self.task, self._uring, self._wait, self._register, self._release = task, uring, wait, register, release
        self._sqes: list[Sqe] = []
        self.buffers: list[Range] = []
        """The registered buffers (user address, bytes), by index."""
        uring.fixed = self.buffers

    def register_buffers(self, iov: Sequence[tuple[int, int | str]]) -> None:
        """Pin the buffers `iov` for the long term, once for all IOs (REG-1). Raises SyscallError; none is kept then.

        EBUSY: there are some already; else what pinning says.
        """
        if self.buffers:
            raise SyscallError("io_uring", "buffers", "are registered already", errno.EBUSY)
        try:
            for addr, length in iov:
                nbytes = parse_bytes("io_uring", "length", length)
                self._register(addr, nbytes)
                self.buffers.append((addr, nbytes))
        except BaseException:
            self.unregister_buffers()
            raise

    def unregister_buffers(self) -> None:
        """Let go of the registered buffers, if there are any, mapped still or not. No entry can name them then."""
        while self.buffers:
            self._release(self.buffers[-1][0])
            self.buffers.pop()

    def read(self, fd: int, buf: int, count: int | str, offset: int | str = 0, **how: Any) -> int:
        """Add a READ, or READ_FIXED with `buf_index`; return its user_data. `flags`: RWF_*."""
        return self._add("READ", fd, ((buf, parse_bytes("io_uring", "count", count)),), offset, **how)

    def write(self, fd: int, buf: int, count: int | str, offset: int | str = 0, **how: Any) -> int:
        """Add a WRITE, or WRITE_FIXED with `buf_index`; return its user_data. `flags`: RWF_*."""
        return self._add("WRITE", fd, ((buf, parse_bytes("io_uring", "count", count)),), offset, **how)

    def readv(self, fd: int, iov: Sequence[Range], offset: int | str = 0, **how: Any) -> int:
        """Add a READV into the pieces `iov` of (user address, bytes); return its user_data."""
        return self._add("READV", fd, tuple(iov), offset, **how)

    def writev(self, fd: int, iov: Sequence[Range], offset: int | str = 0, **how: Any) -> int:
        """Add a WRITEV of the pieces `iov` of (user address, bytes); return its user_data."""
        return self._add("WRITEV", fd, tuple(iov), offset, **how)

    def submit(self, wait: int | None = None) -> list[Cqe]:
        """Submit all entries in one call, wait for `wait` completions (None: all), and return what is there."""
        sqes, self._sqes = self._sqes, []
        self._wait(self._uring.enter(sqes, len(sqes) if wait is None else wait))
        return self._uring.reap()

    def error(self, user_data: int) -> SyscallError | None:
        """Return the whole sentence behind a negative result."""
        return self._uring.errors.get(user_data)

    def _add(
        self, opcode: str, fd: int, iov: tuple[Range, ...], offset: int | str, *, user_data: int | None = None,
        buf_index: int | None = None, flags: str = "",
    ) -> int:  # fmt: skip
        data = len(self._sqes) if user_data is None else user_data
        opcode += "_FIXED" if buf_index is not None else ""
        self._sqes.append(Sqe(opcode, fd, iov, parse_bytes("io_uring", "offset", offset), data, buf_index, flags))
        return data
