"""io_uring: several IOs in one call, first without waiting, then by a worker that may wait (REG-4, R17..R19)."""

import errno
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from simpy import Event

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.plug import Plug
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.dio import File as DioFile
from labkit.kernel.dio import Source
from labkit.kernel.fs.ops import Iocb
from labkit.kernel.fs.submission import Submission
from labkit.kernel.syscall.table import Opened, Syscalls
from labkit.scatter.payload import Range

PLUG_THRESHOLD = 2
"""More entries than this share one plug (IO_PLUG_THRESHOLD, R19)."""
Started = tuple[Submission, Source, DioFile]
Moved = Generator[Wait, Any, int]
"""Work that returns how many bytes were moved."""


class Sqe(NamedTuple):
    """An entry of the submission queue: READ, WRITE, READV, WRITEV, READ_FIXED or WRITE_FIXED."""

    opcode: str
    fd: int
    iov: tuple[Range, ...]
    pos: int
    user_data: int = 0
    buf_index: int | None = None
    rwf: str = ""

    @property
    def write(self) -> bool:
        """Whether it is the file that changes."""
        return self.opcode.startswith("WRITE")


class Cqe(NamedTuple):
    """An entry of the completion queue: bytes moved, or a negative errno."""

    user_data: int
    res: int


class Uring:
    """One ring of one task. Completions are in the order in which the IOs ended."""

    def __init__(self, calls: Syscalls, *, nowait: bool = True) -> None:
        """Begin empty. Without `nowait` it is AIO: io_submit sends what it can, and waits where it must."""
        self.calls = calls
        self._first = Iocb.ASYNC | (Iocb.NOWAIT if nowait else Iocb(0))
        self._never = Iocb(0) if nowait else Iocb.HIPRI  # nobody polls for AIO (aio_prep_rw)
        self.done: deque[Cqe] = deque()
        self.errors: dict[int, SyscallError] = {}
        """The whole sentence behind a negative result, by user_data."""
        self.fixed: Sequence[Range] | None = None
        """Registered buffers (user address, bytes), by index; None where nobody judges a *_FIXED entry."""
        self._waiting: list[tuple[int, Event]] = []
        self.in_flight = 0

    def enter(self, sqes: Sequence[Sqe], wait: int = 0) -> Generator[Wait, Any, int]:
        """io_uring_enter: submit `sqes`, then wait until `wait` completions are there; return how many were submitted.

        An entry that cannot be begun completes at once, with its errno.
        """
        calls = self.calls
        yield calls.cpu.syscall
        plug = Plug() if len(sqes) > PLUG_THRESHOLD else None
        try:
            for sqe in sqes:
                yield from self._submit(sqe, plug)
        except BaseException:
            if plug is not None and plug.held:
                calls.env.job(plug.flush())  # whoever waits for those that are in it still can
            raise
        if plug is not None and plug.held:
            yield from plug.flush()
        while len(self.done) < wait and self.in_flight:
            turn = Event(calls.env)
            self._waiting.append((wait, turn))
            yield turn
        return len(sqes)

    def reap(self) -> list[Cqe]:
        """Take all completions that are there."""
        done = list(self.done)
        self.done.clear()
        return done

    def _submit(self, sqe: Sqe, plug: Plug | None) -> Steps:
        """Begin one IO without waiting; what would have to wait is left to a worker (R18)."""
        calls, io = self.calls, self.calls.dio.next_io()
        index = -1 if sqe.buf_index is None else sqe.buf_index
        buf, nbytes = (sqe.iov[0][0] if sqe.iov else 0), sum(n for _, n in sqe.iov)
        told = sqe.iov if len(sqe.iov) > 1 else ()
        calls.emit((
            "IoUringSubmitReq", calls.env.now, io, sqe.opcode, sqe.user_data, index, buf, nbytes, sqe.pos, told,
        ))  # fmt: skip
        self.in_flight += 1
        name = "io_uring_" + sqe.opcode.lower()
        try:
            self._import_fixed(name, sqe)
            iocb, opened = calls.kiocb(name, io, sqe.fd, sqe.iov, sqe.pos, write=sqe.write, rwf=sqe.rwf)
        except SyscallError as bad:
            self._complete(io, sqe, -bad.errno, bad)
            return
        iocb.buf_index = sqe.buf_index
        iocb.flags = iocb.flags & ~self._never | self._first
        work = self._goes_on(iocb, opened, sqe)
        if iocb.nbytes and opened.direct:
            try:
                work = self._rest(iocb, opened, sqe, (yield from calls.dio.submit(iocb, opened.file, plug)))
            except BaseException as bad:
                self._failed(iocb, opened, sqe, bad)
                if not isinstance(bad, SyscallError):
                    raise
                return
        calls.env.job(self._finish(iocb, opened, sqe, work))

    def _import_fixed(self, name: str, sqe: Sqe) -> None:
        """Raise SyscallError EFAULT for memory that is not inside the registered buffer it names (REG-4)."""
        if sqe.buf_index is None or self.fixed is None:
            return
        if not 0 <= sqe.buf_index < len(self.fixed):
            raise SyscallError(name, f"buf_index={sqe.buf_index}", "is not registered (REG-4)", errno.EFAULT)
        start, size = self.fixed[sqe.buf_index]
        for addr, nbytes in sqe.iov:
            if addr < start or addr + nbytes > start + size:
                what = f"{addr:#x}+{nbytes}"
                rule = f"is not inside registered buffer {sqe.buf_index} (REG-4)"
                raise SyscallError(name, what, rule, errno.EFAULT)

    def _rest(self, iocb: Kiocb, opened: Opened, sqe: Sqe, started: Started) -> Moved:
        """Wait for an IO that is on its way, and do what it left over; return the bytes moved."""
        done = yield from self.calls.dio.complete(*started)
        if "RWF_NOWAIT" not in sqe.rwf:
            iocb.flags &= ~Iocb.NOWAIT
        return (yield from self.calls.rest(iocb, opened, done))

    def _goes_on(self, iocb: Kiocb, opened: Opened, sqe: Sqe) -> Moved:
        """Do one IO; what a first try through the page cache left over, a worker does, who may wait (R18)."""
        calls, done = self.calls, (yield from self.calls.transfer(iocb, opened))
        left = min(iocb.nbytes, iocb.nbytes if iocb.write else opened.file.i_size - iocb.pos) - done
        if done and left > 0 and iocb.flags & Iocb.NOWAIT and "RWF_NOWAIT" not in sqe.rwf:
            calls.emit(("IoUringQueueAsyncWork", calls.env.now, iocb.io, sqe.user_data))
            iocb.flags &= ~Iocb.NOWAIT
            with suppress(SyscallError):
                done += yield from calls.buffered(iocb, opened, done)
        return done

    def _finish(self, iocb: Kiocb, opened: Opened, sqe: Sqe, work: Moved) -> Steps:
        """Do `work`, and complete the IO, whatever comes of it."""
        try:
            done = yield from work
        except SyscallError as bad:
            self._failed(iocb, opened, sqe, bad)
        except BaseException as bad:
            self._failed(iocb, opened, sqe, bad)
            raise
        else:
            self._complete(iocb.io, sqe, done)

    def _failed(self, iocb: Kiocb, opened: Opened, sqe: Sqe, bad: BaseException) -> None:
        """Complete an IO with its error; what would have had to wait, a worker does again from the start (R18).

        ENOTBLK: what cannot be direct goes through the page cache.
        """
        calls, code = self.calls, bad.errno if isinstance(bad, SyscallError) else errno.EIO
        asleep = code == errno.EAGAIN or (code == errno.EOPNOTSUPP and not iocb.limits.nowait)
        again = asleep and iocb.flags & Iocb.NOWAIT and "RWF_NOWAIT" not in sqe.rwf
        if again or (code == errno.ENOTBLK and opened.cache is not None):
            calls.emit(("IoUringQueueAsyncWork", calls.env.now, iocb.io, sqe.user_data))
            iocb.flags &= ~Iocb.NOWAIT
            calls.env.job(self._finish(iocb, opened, sqe, calls.transfer(iocb, opened)))
        else:
            self._complete(iocb.io, sqe, -code, bad if isinstance(bad, SyscallError) else None)

    def _complete(self, io: int, sqe: Sqe, res: int, bad: SyscallError | None = None) -> None:
        calls = self.calls
        self.in_flight -= 1
        if bad is not None:
            self.errors[sqe.user_data] = bad
        self.done.append(Cqe(sqe.user_data, res))
        calls.emit(("IoUringComplete", calls.env.now, io, sqe.user_data, res))
        ready = [turn for want, turn in self._waiting if len(self.done) >= want or not self.in_flight]
        self._waiting = [(want, turn) for want, turn in self._waiting if turn not in ready]
        for turn in ready:
            turn.succeed()
