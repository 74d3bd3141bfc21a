"""System calls: arguments are checked in the kernel's order, and a Kiocb goes down."""

import errno
from collections.abc import Generator
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.dio import DirectIO, File
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.trace.tracer import Emit

MAX_RW_COUNT = 0x7FFF_F000
"""No call moves more (ITER-3)."""
_CALLS = {False: "pread64", True: "pwrite64"}


class Syscalls:
    """What one task may ask of the kernel."""

    def __init__(self, env: Clock, cpu: Cpu, dio: DirectIO, mm: Mm, emit: Emit) -> None:
        """Serve the task of `mm`."""
        self.env, self.cpu, self.dio, self.mm, self._emit = env, cpu, dio, mm, emit
        self.files: dict[int, File] = {}
        self._may: set[tuple[int, bool]] = set()
        """(descriptor, write) for everything that an open descriptor is good for."""

    def open(self, file: File, flags: str) -> int:
        """Open `file` with `flags` such as 'O_RDWR|O_DIRECT'; return its descriptor. Raises SyscallError EINVAL."""
        words = set(flags.replace(" ", "").split("|"))
        modes = words & {"O_RDONLY", "O_WRONLY", "O_RDWR"}
        if words - modes != {"O_DIRECT"} or len(modes) != 1:
            rule = "is not one of O_RDONLY, O_WRONLY, O_RDWR with O_DIRECT"
            raise SyscallError("open", f"flags={flags!r}", rule, errno.EINVAL)
        fd = 3 + len(self.files)
        self.files[fd] = file
        self._may |= {(fd, write) for write, other in ((False, "O_WRONLY"), (True, "O_RDONLY")) if other not in modes}
        return fd

    def rw(self, fd: int, buf: int, nbytes: int, pos: int, *, write: bool) -> Generator[Wait, Any, int]:
        """pread64 and pwrite64: move `nbytes` bytes between user address `buf` and byte `pos` of `fd`.

        Returns the bytes moved. Raises SyscallError: EBADF, EINVAL, ENOSPC, EFAULT, ENOMEM or what the device says.
        """
        call, io = _CALLS[write], self.dio.next_io()
        self._emit(("SysEnter", self.env.now, io, call, fd, buf, nbytes, pos))
        ret = -errno.EIO
        try:
            yield self.cpu.syscall
            file = self._file(call, fd, pos, write=write)
            count = self._count(call, file, nbytes, pos, write=write)
            iocb = Kiocb(io, self.mm, call, buf, count, pos, write, file.queue.limits)
            ret = (yield from self.dio.direct_io(iocb, file)) if count else 0
        except SyscallError as bad:
            ret = -bad.errno
            raise
        finally:
            self._emit(("SysExit", self.env.now, io, call, ret))
        return ret

    def _file(self, call: str, fd: int, pos: int, *, write: bool) -> File:
        """Return what `fd` is open for; the kernel looks at the position before it looks at the descriptor."""
        if pos < 0:
            raise SyscallError(call, f"pos={pos}", "is negative", errno.EINVAL)
        if (fd, write) not in self._may:
            raise SyscallError(call, f"fd={fd}", "is not open for this", errno.EBADF)
        return self.files[fd]

    @staticmethod
    def _count(call: str, file: File, nbytes: int, pos: int, *, write: bool) -> int:
        """Return how many bytes the call is for: 0 at the end of the device, less across it."""
        if nbytes < 0:
            raise SyscallError(call, f"count={nbytes}", "is negative", errno.EINVAL)
        return file.bdev.check(call, pos, min(nbytes, MAX_RW_COUNT), write=write)
