"""Transfers become completions: one io_uring of this process, its rings read and written as numpy arrays.

Whatever happens, nothing is on its way when a method returns or raises: the memory is the caller's again.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadInput, SyscallError
from labkit.host import signals
from labkit.host.calls import uring_abi as abi
from labkit.host.refusal import speaking
from labkit.units import PAGE_SIZE

_MOST, _U32 = 4096, 0xFFFF_FFFF
_AGAIN = {errno.EINTR, errno.EAGAIN, errno.EBUSY}


class Transfer(NamedTuple):
    """One readv or writev: `views` of memory, and byte `pos` of the file."""

    views: Sequence[memoryview]
    pos: int
    write: bool = False


class Entry(NamedTuple):
    """One read or write by addresses: `nbytes` at user address `addr`, byte `pos` of the file.

    `buf_index`: in which registered buffer the memory lies, None for memory that is not registered.
    """

    write: bool
    addr: int
    nbytes: int
    pos: int
    buf_index: int | None = None


class Ring:
    """A ring of `entries`. It serves one thread at a time; close it, or leave its `with`."""

    def __init__(self, entries: int = 32) -> None:
        """Set it up. Raises BadInput for no power of two to 4096, NotAllowed without io_uring, SyscallError ENOMEM."""
        if not 0 < entries <= _MOST or entries & (entries - 1):
            raise BadInput("io_uring", f"entries={entries}", f"is no power of two from 1 to {_MOST}", errno.EINVAL)
        self.entries = entries
        self._fd, params = abi.setup(entries)
        self._sent = self._reaped = self._size = 0
        self._registered: Sequence[memoryview] = ()
        self._index = np.arange(entries)
        try:
            with speaking("io_uring", f"a ring of {entries}"):
                self._map(params.tolist())
        except BaseException:
            self.close()
            raise

    def _map(self, params: list[int]) -> None:
        """Map both rings, which share one mapping (IORING_FEAT_SINGLE_MMAP, Linux 5.4), and the entries."""
        (head, tail, _, _, _, _, array), (reaped, ended, _, _, _, cqes) = params[10:17], params[20:26]
        end = cqes + params[1] * abi.CQE.itemsize
        size = -(-max(array + self.entries * 4, end) // PAGE_SIZE) * PAGE_SIZE
        rings = np.frombuffer(mmap.mmap(self._fd, size), np.uint8)
        self._sq_head, self._sq_tail, self._cq_head, self._cq_tail = (
            rings[at : at + 4].view("<u4") for at in (head, tail, reaped, ended)
        )
        self._array, self._cqes = rings[array : array + self.entries * 4].view("<u4"), rings[cqes:end].view(abi.CQE)
        self._array[:] = self._index
        self._sqes = np.frombuffer(mmap.mmap(self._fd, self.entries * abi.SQE.itemsize, offset=abi.SQES), abi.SQE)
        self._off = self._sqes["off"]

    def close(self) -> None:
        """Give the ring back, and what was registered; a second call does nothing.

        The mappings keep the ring's file, and so a file that is registered, open: it is taken out first.
        """
        if self._fd < 0:
            return
        self.unregister_memory()
        self._call(abi.REGISTER, abi.UNREGISTER_FILES)
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
        files = np.array([fd], np.int32)
        self.register_memory([(_address(view), view.nbytes) for view in buffers])
        if self._call(abi.REGISTER, abi.REGISTER_FILES, files.ctypes.data, 1) < 0:
            raise _failed(f"registered fd={fd}", ctypes.get_errno())
        self._registered = buffers

    def register_memory(self, regions: Sequence[tuple[int, int]]) -> None:
        """Register (user address, bytes) of each of `regions`, for `enter`. Errors: those of `register`."""
        iov = np.array(regions, np.uint64).reshape(-1, 2)
        if self._call(abi.REGISTER, abi.REGISTER_BUFFERS, iov.ctypes.data, len(iov)) < 0:
            raise _failed(f"{len(iov)} registered buffers", ctypes.get_errno())

    def unregister_memory(self) -> None:
        """Let go of what `register_memory` registered, if it did."""
        self._call(abi.REGISTER, abi.UNREGISTER_BUFFERS)

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
        sqes["opcode"] = abi.OPCODES[fixed][write]
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
                (abi.WRITEV if each.write else abi.READV, 0, 0, fd, each.pos, iov.ctypes.data, len(iov), 0, i, 0, b"")
                for i, (each, iov) in enumerate(zip(some, iovs, strict=True))
            ]
            self._sqes[: len(rows)] = np.array(rows, abi.SQE)
            moved += self._entered(len(rows))
        return moved

    def enter(self, fd: int, entries: Sequence[Entry]) -> Callable[[], list[int]]:
        """Return what does `entries` with file `fd` in one call that submits all and waits for all, when it is called.

        It returns the bytes of each, or its negative errno. Raises BadInput for more than fit into the ring.
        """
        if len(entries) > self.entries:
            raise BadInput("io_uring", f"{len(entries)} entries", f"do not fit into {self.entries}", errno.EINVAL)
        self._sqes[: len(entries)] = np.array(
            [
                (abi.OPCODES[each.buf_index is not None][each.write], 0, 0, fd, each.pos, each.addr, each.nbytes, 0, i,
                 each.buf_index or 0, b"")
                for i, each in enumerate(entries)
            ],
            abi.SQE,
        )  # fmt: skip
        self._size = 0
        return partial(self._entered, len(entries))

    def _entered(self, count: int) -> list[int]:
        with self._settled():
            self._send(self._index[:count])
            ended = self._take(count)
        moved: list[int] = ended["res"][np.argsort(ended["user_data"])].tolist()
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
            if self._call(abi.ENTER, submit, max(left, 0), abi.GETEVENTS) < 0 and ctypes.get_errno() not in _AGAIN:
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
        return abi.syscall(number, self._fd, *args)


def _iovec(views: Sequence[memoryview]) -> NDArray[np.uint64]:
    """Return `views` as an array of struct iovec."""
    return np.array([(_address(view), view.nbytes) for view in views], np.uint64).reshape(-1, 2)


def _address(view: memoryview) -> int:
    """Return where the bytes of `view` begin in this process."""
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def _failed(what: str, number: int) -> SyscallError:
    return SyscallError("io_uring", what, f"fails: {os.strerror(number)}", number)
