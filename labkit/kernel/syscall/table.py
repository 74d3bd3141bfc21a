"""What one task has open, and pread, pwrite, preadv and pwritev on it."""

import errno
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.currency.iov_iter import IovIter
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.dio import DirectIO, File
from labkit.kernel.fs.ops import Iocb
from labkit.kernel.fs.resize import Resizer
from labkit.kernel.mm.fault.memory import FaultRetry
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.syscall.flags import can_be_atomic, iocb_flags, may_be_atomic, open_flags
from labkit.scatter.payload import Range, cut
from labkit.trace.tracer import Emit

MAX_RW_COUNT = 0x7FFF_F000
"""No call moves more (ITER-3)."""
UIO_MAXIOV = 1024
"""No call has more pieces (ITER-3)."""
_FALLOC: tuple[set[str], ...] = (set(), {"KEEP_SIZE"}, {"PUNCH_HOLE", "KEEP_SIZE"})
_CALLS = {(False, False): "pread64", (True, False): "pwrite64", (False, True): "preadv", (True, True): "pwritev"}


class Buffered(Protocol):
    """The page cache of a file, as a read or a write that is not direct sees it."""

    def read(self, io: int, pos: int, nbytes: int, user: IovIter, *, nowait: bool = ...) -> Generator[Wait, Any, int]:
        """Read through the cache; return the bytes that came."""

    def write(
        self, io: int, pos: int | None, user: IovIter, nbytes: int, *, nowait: bool = ...
    ) -> Generator[Wait, Any, int]:
        """Write into the cache, at the end of the file without `pos`; return the bytes that went."""

    def opened(self) -> Self:
        """Return the cache for one more open file, with readahead of its own."""

    def write_and_wait_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Let what is dirty in the range reach the device."""

    def invalidate_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Drop the folios of the range."""

    def fsync(self, io: int) -> Steps:
        """Let all that is dirty reach the medium."""


class Opened(NamedTuple):
    """An open file: what it is, its page cache if it has one, and how it was opened."""

    file: File
    cache: Buffered | None
    direct: bool
    flags: Iocb
    resizer: Resizer | None = None
    """Who changes its length, or its blocks: of a file of a filesystem."""


class Syscalls:
    """What one task may ask of the kernel."""

    def __init__(self, env: Clock, cpu: Cpu, dio: DirectIO, mm: Mm, emit: Emit) -> None:
        """Serve the task of `mm`."""
        self.env, self.cpu, self.dio, self.mm, self.emit = env, cpu, dio, mm, emit
        self.files: dict[int, Opened] = {}
        self._may: set[tuple[int, bool]] = set()
        """(descriptor, write) for everything that an open descriptor is good for."""

    def open(self, file: File, flags: str, cache: Buffered | None = None, resizer: Resizer | None = None) -> int:
        """Open `file` with `flags` such as 'O_RDWR|O_DIRECT'; return its descriptor. Raises SyscallError EINVAL."""
        modes, direct, sync = open_flags(flags)
        if not direct and cache is None:
            raise SyscallError("open", f"flags={flags!r}", "has no O_DIRECT, and there is no cache", errno.EINVAL)
        fd = 3 + len(self.files)
        self.files[fd] = Opened(file, None if cache is None else cache.opened(), direct, sync, resizer)
        self._may |= {(fd, write) for write, other in ((False, "O_WRONLY"), (True, "O_RDONLY")) if other not in modes}
        return fd

    def rw(self, fd: int, buf: int, nbytes: int, pos: int, *, write: bool, rwf: str = "") -> Generator[Wait, Any, int]:
        """Do pread64 or pwrite64: move `nbytes` bytes between user address `buf` and byte `pos` of `fd`.

        Returns the bytes moved. Raises SyscallError: EBADF, EINVAL, ENOSPC, EFAULT, ENOMEM or what the device says.
        """
        return self._call(_CALLS[write, False], fd, ((buf, nbytes),), pos, write=write, rwf=rwf)

    def rwv(self, fd: int, iov: Sequence[Range], pos: int, *, write: bool, rwf: str = "") -> Generator[Wait, Any, int]:
        """Do preadv or pwritev; preadv2 or pwritev2 where `rwf` has flags ('RWF_NOWAIT|RWF_DSYNC').

        `iov`: (user address, bytes) of each piece. Errors: those of rw.
        """
        name = _CALLS[write, True] + ("2" if rwf else "")
        return self._call(name, fd, tuple(iov), pos, write=write, rwf=rwf)

    def fsync(self, fd: int) -> Generator[Wait, Any, int]:
        """Let all that was written reach the medium. Raises SyscallError EBADF, EIO."""
        cache = self._opened("fsync", fd).cache
        return (yield from self._told("fsync", fd, 0, cache.fsync if cache is not None else _nothing))

    def ftruncate(self, fd: int, nbytes: int) -> Generator[Wait, Any, int]:
        """Make a file `nbytes` long. Raises SyscallError EBADF, EINVAL for what cannot be, EFBIG, ENOSPC, EIO."""
        opened = self._opened("ftruncate", fd)
        if (fd, True) not in self._may or opened.resizer is None:
            raise SyscallError("ftruncate", f"fd={fd}", "is no file that is open to write", errno.EINVAL)
        work = partial(opened.resizer.truncate, nbytes=nbytes)
        return (yield from self._told("ftruncate", fd, nbytes, work))

    def fallocate(self, fd: int, pos: int, nbytes: int, mode: str = "") -> Generator[Wait, Any, int]:
        """Allocate a part of a file, or make it a hole; `mode`: 'KEEP_SIZE', 'PUNCH_HOLE|KEEP_SIZE'.

        Raises SyscallError EBADF, EINVAL, EFBIG, ENOSPC, EIO, EOPNOTSUPP for another mode, ENODEV for no file.
        """
        resizer, modes = self._opened("fallocate", fd).resizer, {*mode.replace(" ", "").split("|")} - {""}
        if (fd, True) not in self._may:
            raise SyscallError("fallocate", f"fd={fd}", "is not open to write", errno.EBADF)
        if modes not in _FALLOC:
            rule = "is none of '', 'KEEP_SIZE', 'PUNCH_HOLE|KEEP_SIZE'"
            raise SyscallError("fallocate", f"mode={mode[:60]!r}", rule, errno.EOPNOTSUPP)
        if resizer is None:
            raise SyscallError("fallocate", f"fd={fd}", "is no file of a filesystem", errno.ENODEV)
        work = partial(resizer.fallocate, pos=pos, nbytes=nbytes, keep_size=bool(modes))
        if "PUNCH_HOLE" in modes:
            work = partial(resizer.punch_hole, pos=pos, nbytes=nbytes)
        return (yield from self._told("fallocate", fd, pos, work))

    def _opened(self, call: str, fd: int) -> Opened:
        if fd not in self.files:
            raise SyscallError(call, f"fd={fd}", "is not open", errno.EBADF)
        return self.files[fd]

    def _told(self, call: str, fd: int, pos: int, work: Callable[[int], Iterable[Any]]) -> Generator[Wait, Any, int]:
        """Do `work` of a call that moves no bytes of the user, and return 0. Raises what it meets."""
        io, ret = self.dio.next_io(), -errno.EIO
        self.emit(("SysEnter", self.env.now, io, call, fd, 0, 0, pos))
        try:
            yield self.cpu.syscall
            yield from work(io)
            ret = 0
        except SyscallError as bad:
            ret = -bad.errno
            raise
        finally:
            self.emit(("SysExit", self.env.now, io, call, ret))
        return ret

    def kiocb(
        self, call: str, io: int, fd: int, pieces: Sequence[Range], pos: int, *, write: bool, rwf: str = ""
    ) -> tuple[Kiocb, Opened]:
        """Check one IO in the kernel's order, and return it, and the file that it is for.

        Raises SyscallError EINVAL, EBADF, EOPNOTSUPP, ENOSPC. An IO of no bytes is one that is at the end.
        """
        if pos < 0:  # the kernel looks at the position before it looks at the descriptor
            raise SyscallError(call, f"pos={pos}", "is negative", errno.EINVAL)
        if (fd, write) not in self._may:
            raise SyscallError(call, f"fd={fd}", "is not open for this", errno.EBADF)
        opened = _as_can_be(self.files[fd])
        iov = _import_iovec(call, pieces)
        flags, limits = iocb_flags(call, rwf, opened.flags, direct=opened.direct), opened.file.queue.limits
        nbytes = iov[0][1] if len(iov) == 1 else sum(n for _, n in iov)
        if flags & Iocb.APPEND and write:
            pos = opened.file.i_size
        if flags & Iocb.ATOMIC and nbytes:
            can_be_atomic(call, limits, direct=opened.direct and write)
        whole, nbytes = nbytes, opened.file.check(call, pos, nbytes, write=write, flags=flags, direct=opened.direct)
        if flags & Iocb.ATOMIC and nbytes:
            may_be_atomic(call, pos, whole, limits, direct=opened.direct)
        if nbytes < whole:
            iov = tuple(cut(iov, 0, nbytes))
        buf = iov[0][0] if iov else 0
        return Kiocb(io, self.mm, call, buf, nbytes, pos, write, limits, iov if len(iov) > 1 else (), flags), opened

    def transfer(self, iocb: Kiocb, opened: Opened) -> Generator[Wait, Any, int]:
        """Do one IO to its end, direct or through the page cache; return the bytes moved. Raises what it meets."""
        if not iocb.nbytes:
            return 0
        if not opened.direct:
            return (yield from self.buffered(iocb, opened, 0))
        try:
            started = yield from self.dio.submit(iocb, opened.file)
            done = yield from self.dio.complete(*started)
        except SyscallError as bad:
            if bad.errno != errno.ENOTBLK or opened.cache is None:
                raise
            done = 0
        return done if done == iocb.nbytes else (yield from self.rest(iocb, opened, done))

    def rest(self, iocb: Kiocb, opened: Opened, done: int) -> Generator[Wait, Any, int]:
        """Do what direct IO left over through the page cache (DIO-1, DIO-2); return all bytes that were moved."""
        size = opened.file.i_size
        left = iocb.nbytes - done if iocb.write else min(iocb.nbytes, max(0, size - iocb.pos)) - done
        if left <= 0 or opened.cache is None or (done and iocb.flags & Iocb.NOWAIT):
            return done
        try:
            more = yield from self.buffered(iocb, opened, done)
            if iocb.write and more:  # what went through the cache must be where direct IO will look for it
                yield from opened.cache.write_and_wait_range(iocb.io, iocb.pos + done, more)
        except SyscallError:
            if not done:
                raise
            return done
        if iocb.write and more:
            with suppress(SyscallError):  # pages in use stay: nobody is told (invalidate_mapping_pages)
                yield from opened.cache.invalidate_range(iocb.io, iocb.pos + done, more)
        return done + more

    def _call(
        self, call: str, fd: int, pieces: tuple[Range, ...], pos: int, *, write: bool, rwf: str
    ) -> Generator[Wait, Any, int]:
        io, ret = self.dio.next_io(), -errno.EIO
        buf, nbytes = pieces[0] if len(pieces) == 1 else ((pieces[0][0] if pieces else 0), sum(n for _, n in pieces))
        told = pieces if len(pieces) > 1 else ()
        self.emit(("SysEnter", self.env.now, io, call, fd, buf, nbytes, pos, told))
        try:
            yield self.cpu.syscall
            ret = yield from self.transfer(*self.kiocb(call, io, fd, pieces, pos, write=write, rwf=rwf))
        except SyscallError as bad:
            ret = -bad.errno
            raise
        finally:
            self.emit(("SysExit", self.env.now, io, call, ret))
        return ret

    def buffered(self, iocb: Kiocb, opened: Opened, done: int) -> Generator[Wait, Any, int]:
        """Move what is left after `done` bytes through the page cache; return how many bytes of that went.

        Where the user's memory is on its way from a device, it is waited for (MM-11). Raises SyscallError where not one
        went.
        """
        user, moved = IovIter(iocb.mm, cut(iocb.pieces, done, iocb.nbytes - done)), 0
        while moved < user.total:
            user.late = None
            try:
                moved += yield from self._copied(iocb, opened, user, done + moved)
            except SyscallError as bad:
                if not moved and (user.late is None or bad.errno != errno.EFAULT):
                    raise
            late: FaultRetry | None = user.late
            if late is None or iocb.flags & Iocb.NOWAIT:
                break
            yield from late.wait()
        if moved and iocb.write and iocb.flags & (Iocb.DSYNC | Iocb.SYNC) and opened.cache is not None:
            yield from opened.cache.fsync(iocb.io)
        return moved

    def _copied(self, iocb: Kiocb, opened: Opened, user: IovIter, done: int) -> Generator[Wait, Any, int]:
        """Copy once what is left after `done` bytes; what is appended learns where it went (O_APPEND)."""
        nowait, left, pos = bool(iocb.flags & Iocb.NOWAIT), iocb.nbytes - done, iocb.pos + done
        cache = opened.cache
        if cache is None:
            raise SyscallError(iocb.call, "this file", "has no page cache", errno.EINVAL)
        if not iocb.write:
            return (yield from cache.read(iocb.io, pos, left, user, nowait=nowait))
        append = bool(iocb.flags & Iocb.APPEND) and not done
        moved = yield from cache.write(iocb.io, None if append else pos, user, left, nowait=nowait)
        if append:
            iocb.pos = opened.file.i_size - moved
        return moved


def _as_can_be(opened: Opened) -> Opened:
    """Return `opened` without O_DIRECT where the file has no direct IO: that is silent (DIO-17)."""
    return opened if opened.file.dio or opened.cache is None else opened._replace(direct=False)


def _import_iovec(call: str, pieces: Sequence[Range]) -> tuple[Range, ...]:
    """Return the pieces that are not empty, no more bytes than a call may move. Raises SyscallError EINVAL (ITER-3)."""
    if len(pieces) > UIO_MAXIOV:
        raise SyscallError(call, f"{len(pieces)} pieces", f"are more than {UIO_MAXIOV} (ITER-3)", errno.EINVAL)
    if len(pieces) == 1 and 0 < pieces[0][1] <= MAX_RW_COUNT:
        return tuple(pieces)
    for _, nbytes in pieces:
        if nbytes < 0:
            raise SyscallError(call, f"count={nbytes}", "is negative", errno.EINVAL)
    kept = tuple((addr, nbytes) for addr, nbytes in pieces if nbytes)
    if sum(n for _, n in kept) <= MAX_RW_COUNT:
        return kept
    return tuple(cut(kept, 0, MAX_RW_COUNT))


def _nothing(_io: int) -> tuple[()]:
    """Do nothing: what was written is there already."""
    return ()
