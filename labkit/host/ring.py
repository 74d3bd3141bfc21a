"""Transfers become completions: one io_uring of this process, its rings read and written as numpy arrays.

Whatever happens, nothing is on its way when a method returns or raises: the memory is the caller's again. The numbers
and the structs are those of uapi/linux/io_uring.h.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host import signals
from labkit.units import PAGE_SIZE

_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""The three calls, whose numbers are the same on every architecture (Linux 5.1)."""
_COOP_TASKRUN = 1 << 8
"""Completions wait for the next call, and do not interrupt this thread (Linux 5.19)."""
_GETEVENTS = 1
_REGISTER_BUFFERS, _UNREGISTER_BUFFERS, _REGISTER_FILES, _UNREGISTER_FILES = range(4)
_READV, _WRITEV, _READ_FIXED, _WRITE_FIXED, _READ, _WRITE = 1, 2, 4, 5, 22, 23
_SQES = 0x1000_0000
"""Where in the ring's file the entries begin (IORING_OFF_SQES)."""
_MOST, _U32 = 4096, 0xFFFF_FFFF
_AGAIN = {errno.EINTR, errno.EAGAIN, errno.EBUSY}
_SQE = np.dtype([
    ("opcode", "u1"), ("flags", "u1"), ("ioprio", "<u2"), ("fd", "<i4"), ("off", "<u8"), ("addr", "<u8"),
    ("len", "<u4"), ("rw_flags", "<u4"), ("user_data", "<i8"), ("buf_index", "<u2"), ("rest", "V22"),
])  # fmt: skip
"""struct io_uring_sqe, as far as reads and writes fill it in."""
_CQE = np.dtype([("user_data", "<i8"), ("res", "<i4"), ("flags", "<u4")])

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [ctypes.c_long] * 7


class Transfer(NamedTuple):
    """One readv or writev: `views` of memory, and byte `pos` of the file."""

    views: Sequence[memoryview]
    pos: int
    write: bool = False


class Ring:
    """A ring of `entries`. It serves one thread at a time; close it, or leave its `with`."""

    def __init__(self, entries: int = 32) -> None:
        """Set it up. Raises BadInput for no power of two to 4096, NotAllowed where there is no io_uring."""
        if not 0 < entries <= _MOST or entries & (entries - 1):
            raise BadInput("io_uring", f"entries={entries}", f"is no power of two from 1 to {_MOST}", errno.EINVAL)
        self.entries = entries
        self._fd, params = _setup(entries)
        self._sent = self._reaped = self._size = 0
        self._registered: Sequence[memoryview] = ()
        self._index = np.arange(entries)
        try:
            self._map(params.tolist())
        except BaseException:
            self.close()
            raise

    def _map(self, params: list[int]) -> None:
        """Map both rings, which share one mapping (IORING_FEAT_SINGLE_MMAP, Linux 5.4), and the entries."""
        (head, tail, _, _, _, _, array), (reaped, ended, _, _, _, cqes) = params[10:17], params[20:26]
        end = cqes + params[1] * _CQE.itemsize
        size = -(-max(array + self.entries * 4, end) // PAGE_SIZE) * PAGE_SIZE
        rings = np.frombuffer(mmap.mmap(self._fd, size), np.uint8)
        self._sq_head, self._sq_tail, self._cq_head, self._cq_tail = (
            rings[at : at + 4].view("<u4") for at in (head, tail, reaped, ended)
        )
        self._array, self._cqes = rings[array : array + self.entries * 4].view("<u4"), rings[cqes:end].view(_CQE)
        self._array[:] = self._index
        self._sqes = np.frombuffer(mmap.mmap(self._fd, self.entries * _SQE.itemsize, offset=_SQES), _SQE)
        self._off = self._sqes["off"]

    def close(self) -> None:
        """Give the ring back, and what was registered; a second call does nothing.

        The mappings keep the ring's file, and so a file that is registered, open: it is taken out first.
        """
        if self._fd < 0:
            return
        if self._registered:
            self._call(_REGISTER, _UNREGISTER_BUFFERS)
            self._call(_REGISTER, _UNREGISTER_FILES)
        fd, self._fd, self._registered = self._fd, -1, ()
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def register(self, fd: int, buffers: Sequence[memoryview]) -> None:
        """Register `buffers` and the file `fd`, once: the kernel pins and looks up nothing for each transfer then.

        Raises SyscallError ENOMEM beyond RLIMIT_MEMLOCK, EBUSY for a second time, EFAULT, EBADF.
        """
        iov, files = _iovec(buffers), np.array([fd], np.int32)
        for what, pointer, count in (
            (_REGISTER_BUFFERS, iov.ctypes.data, len(buffers)),
            (_REGISTER_FILES, files.ctypes.data, 1),
        ):
            if self._call(_REGISTER, what, pointer, count) < 0:
                raise _failed(f"{len(buffers)} registered buffers of fd={fd}", ctypes.get_errno())
        self._registered = buffers

    def prepare(self, fd: int, views: Sequence[memoryview], *, write: bool = False) -> None:
        """Fill in every entry once, for `submit`: a transfer of file `fd` from or into each of `views`.

        Where buffers are registered, `views` lie in them, number i in buffer i, and `fd` is the registered file.
        Raises BadInput unless there are as many views as entries, all of one size.
        """
        sizes = {view.nbytes for view in views}
        if len(views) != self.entries or len(sizes) != 1:
            what = f"{len(views)} views of {len(sizes)} sizes"
            raise BadInput("io_uring", what, f"are not {self.entries}, one an entry, all alike", errno.EINVAL)
        fixed, sqes = bool(self._registered), self._sqes
        (self._size,), self._views = sizes, views
        sqes["opcode"] = (_READ, _WRITE, _READ_FIXED, _WRITE_FIXED)[write + 2 * fixed]
        sqes["flags"], sqes["fd"], sqes["len"] = int(fixed), 0 if fixed else fd, self._size
        sqes["addr"] = [_address(view) for view in views]
        sqes["buf_index"], sqes["user_data"] = self._index * fixed, self._index

    def stream(self, more: Callable[[NDArray[np.int64]], NDArray[np.int64] | None], parts: int = 1) -> int:
        """Keep the prepared transfers on their way, and return how many were done.

        All of them are renewed at a time, or one of `parts`, which divide the entries: that takes more calls, while the
        others go on.

        `more(places)` returns at which bytes of the file the views number `places` go next; with None all that is on
        its way is waited for. Raises SyscallError: the errno of one that failed, EIO for a short one; BadInput where
        nothing is prepared.
        """
        if not self._size:
            raise BadInput("io_uring", "a stream", "has no transfers that were prepared", errno.EINVAL)
        size, done = self.entries // parts, 0
        places = self._index[:size]
        with self._settled():
            while (positions := more(places)) is not None:
                self._off[places] = positions
                self._send(places)
                if self._flying < self.entries:
                    places = self._index[self._flying : self._flying + size]
                else:
                    places, done = self._whole(size), done + size
            done += len(self._whole(self._flying))
        return done

    def run(self, fd: int, transfers: Sequence[Transfer]) -> list[int]:
        """Do `transfers` with file `fd`, up to `entries` at once; return the bytes of each, or its negative errno."""
        self._size, moved = 0, list[int]()
        for first in range(0, len(transfers), self.entries):
            some = transfers[first : first + self.entries]
            iovs = [_iovec(each.views) for each in some]
            rows = [
                (_WRITEV if each.write else _READV, 0, 0, fd, each.pos, iov.ctypes.data, len(iov), 0, i, 0, b"")
                for i, (each, iov) in enumerate(zip(some, iovs, strict=True))
            ]
            self._sqes[: len(rows)] = np.array(rows, _SQE)
            with self._settled():
                self._send(self._index[: len(rows)])
                ended = self._take(len(rows))
            moved += ended["res"][np.argsort(ended["user_data"])].tolist()
        return moved

    @property
    def _flying(self) -> int:
        """How many entries were sent, and their completions not seen."""
        return (self._sent - self._reaped) & _U32

    def _send(self, places: NDArray[np.int64]) -> None:
        """Put the entries `places` into the ring; they go with the next call."""
        if self._fd < 0:
            raise SyscallError("io_uring", "the ring", "is closed", errno.EBADF)
        at, count = self._sent & (self.entries - 1), len(places)
        room = min(count, self.entries - at)
        self._array[at : at + room], self._array[: count - room] = places[:room], places[room:]
        self._sent = (self._sent + count) & _U32
        self._sq_tail[0] = self._sent

    def _take(self, count: int) -> NDArray[Any]:
        """Wait for `count` completions, and return them in the order in which they came. Raises SyscallError."""
        self._wait(count)
        size = len(self._cqes)
        at = self._reaped & (size - 1)
        ended = self._cqes[at : at + count]
        if at + count > size:
            ended = np.concatenate((ended, self._cqes[: at + count - size]))
        self._reaped = (self._reaped + count) & _U32
        self._cq_head[0] = self._reaped
        return ended

    def _whole(self, count: int) -> NDArray[np.int64]:
        """Return the places of `count` prepared transfers that ended, all of them well. Raises SyscallError."""
        ended = self._take(count)
        if (ended["res"] != self._size).any():
            worst = int(ended["res"].min())
            raise _failed(f"a transfer of {self._size} B", -worst if worst < 0 else errno.EIO)
        places: NDArray[np.int64] = ended["user_data"]
        return places

    def _wait(self, count: int) -> None:
        """Submit what was sent, and wait until `count` completions are there. Raises SyscallError."""
        while True:
            submit = (self._sent - int(self._sq_head[0])) & _U32
            left = count - ((int(self._cq_tail[0]) - self._reaped) & _U32)
            if not submit and left <= 0:
                return
            if self._call(_ENTER, submit, max(left, 0), _GETEVENTS) < 0 and ctypes.get_errno() not in _AGAIN:
                raise _failed(f"{submit} transfers", ctypes.get_errno())

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Leave nothing on its way, whatever happens within (Ctrl-C): the memory is the caller's again after it.

        What the kernel has not taken is withdrawn, what it has is waited for.
        """
        try:
            yield
        except BaseException:
            with signals.held():
                self._sent = int(self._sq_head[0])
                self._sq_tail[0] = self._sent
                if self._fd >= 0:
                    self._take(self._flying)
            raise

    def _call(self, number: int, *args: int) -> int:
        return int(_libc.syscall(number, self._fd, *args, *(0,) * (5 - len(args))))


def _setup(entries: int) -> tuple[int, NDArray[np.uint32]]:
    """Return the fd of a new ring, and its struct io_uring_params. Raises NotAllowed."""
    for flags in (_COOP_TASKRUN, 0):
        params = np.zeros(30, np.uint32)
        params[2] = flags
        fd = int(_libc.syscall(_SETUP, entries, params.ctypes.data, 0, 0, 0, 0))
        if fd >= 0:
            return fd, params
    number = ctypes.get_errno()
    rule = f"is not to be had: {os.strerror(number)}; see kernel.io_uring_disabled, or use queue depth 1"
    raise NotAllowed("io_uring", f"a ring of {entries}", rule, number)


def _iovec(views: Sequence[memoryview]) -> NDArray[np.uint64]:
    """Return `views` as an array of struct iovec."""
    return np.array([(_address(view), view.nbytes) for view in views], np.uint64).reshape(-1, 2)


def _address(view: memoryview) -> int:
    """Return where the bytes of `view` begin in this process."""
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def _failed(what: str, number: int) -> SyscallError:
    return SyscallError("io_uring", what, f"fails: {os.strerror(number)}", number)
