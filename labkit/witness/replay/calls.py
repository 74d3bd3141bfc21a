"""Which IO a thread is busy with: calls, entries of a ring, workers, and what a file says of each."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from labkit.scatter.payload import Range
from labkit.trace.events import (
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    Record,
    SysEnter,
    SysExit,
)
from labkit.units import SECTOR_SHIFT
from labkit.witness.capture import Capture, CapturedIo
from labkit.witness.replay.seen import Seen
from labkit.witness.replay.tale import Tale

_TYPES = ("hole", "delalloc", "mapped", "unwritten", "inline")
"""IOMAP_HOLE and what follows it, by number."""
_FLAGS = ("new", "dirty", "shared", "merged")
"""IOMAP_F_NEW and what follows it, by bit."""
_SYSCALLS = {"pread": "pread64", "pwrite": "pwrite64"}


@dataclass(slots=True)
class _Going:
    """An IO on its way: how many bytes it has, and where the file says that they are."""

    io: int
    asked: CapturedIo
    user_data: int = 0
    extents: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset, byte of the device, bytes), as they were looked up."""
    waits: bool = False
    """Whether a worker is to do it again."""
    over: bool = False

    @property
    def nbytes(self) -> int:
        return sum(n for _, n in self.asked.iov)

    def start(self, at: int) -> int:
        """Return which byte of the IO byte `at` of the device is; -1 for none."""
        for offset, addr, nbytes in reversed(self.extents):
            if addr <= at < addr + nbytes:
                at = offset + at - addr - self.asked.pos
                return at if 0 <= at < self.nbytes else -1
        return -1


class Calls:
    """The IOs of a capture, and the thread that each is in the hands of."""

    def __init__(self, tale: Tale) -> None:
        """Know the IOs that the capture asked for, and where a file's extents are."""
        capture = tale.capture
        self._tale = tale
        self.ios = [_Going(at, io, at - 1) for at, io in enumerate(capture.io, 1)]
        for going in self.ios:
            going.extents = _extents(capture, going.asked.pos)
        self._of: dict[int, _Going] = {}
        self._entered = 0
        self.opened = self.closed = False
        """Whether the begin and the end of a call were seen."""

    def take(self, row: Seen) -> bool:
        """Tell of `row` if it is a call, an entry of a ring, or a file's; return whether it is."""
        what = _TELL.get(row.name)
        syscall = row.name.startswith(("sys_enter_", "sys_exit_"))
        if what is None and not syscall:
            return False
        if syscall:
            self._syscall(row)
        elif not (what(self, row) if what else False):
            self._tale.skip(row)
        return True

    def of(self, row: Seen) -> int:
        """Return the IO that the thread of `row` is busy with at `row`'s sector, 0 for nobody's of this capture."""
        if not row.ours:
            return 0
        if row.worker and "sector" in row.fields:
            self._worker(row.pid, row.number("sector") << SECTOR_SHIFT)
        going = self._of.get(row.pid) or (None if row.worker else self._by_place(row))
        return going.io if going else 0

    def start(self, io: int, sector: int) -> int:
        """Return which byte of IO `io` the byte at `sector` of the device is; -1 for none of it."""
        return self.ios[io - 1].start(sector << SECTOR_SHIFT) if io else -1

    def _by_place(self, row: Seen) -> _Going:
        """Return the IO that the sector of `row` is of; the first, where it has none."""
        at = row.number("sector") << SECTOR_SHIFT if "sector" in row.fields else -1
        return next((going for going in self.ios if going.start(at) >= 0), self.ios[0])

    def _worker(self, pid: int, at: int) -> None:
        """Find the IO that worker `pid` does again, by the byte of the device that it goes to."""
        now = self._of.get(pid)
        if now is not None and not now.over and now.start(at) >= 0:
            return
        self._give(pid, [going for going in self.ios if going.start(at) >= 0])

    def _give(self, pid: int, fit: Sequence[_Going]) -> None:
        """Give worker `pid` the first of `fit` that waits for one, and that no other worker has.

        Any may wait where the ring's own tracepoints were off.
        """
        taken = {id(going) for other, going in self._of.items() if other != pid}
        waiting = [going for going in fit if (going.waits or not self._entered) and not going.over]
        found = next((going for going in waiting if id(going) not in taken), waiting[0] if waiting else None)
        if found is not None:
            self._of[pid] = found

    def _syscall(self, row: Seen) -> None:
        name = row.name.removeprefix("sys_enter_").removeprefix("sys_exit_")
        if self.ios[0].asked.uring or not row.ours:
            self._tale.skip(row)
        elif row.name.startswith("sys_enter_"):
            self.opened = True
            self._tale.tell(self._enter(row.t, name, row.number("fd")))
            self._of[row.pid] = self.ios[0]
        else:
            self.closed = True
            self._tale.tell(SysExit(row.t, 1, name, row.number("ret")))
            self.ios[0].over = True

    def untold(self, last: int) -> tuple[list[Record], list[Record]]:
        """Return the begin and the end, at `last` ns, of each IO whose own tracepoints were off. Raises ValueError."""
        begins, ends, name = list[Record](), list[Record](), self.ios[0].asked.api.removesuffix("_nowait")
        for going, ret in zip(self.ios, results(self._tale.capture), strict=False):
            if going.asked.uring:
                begins += (
                    [] if self._entered else [self._sqe(0, going, going.asked.api.removeprefix("io_uring_").upper())]
                )
                ends += [] if self._entered or ret is None else [IoUringComplete(last, going.io, going.user_data, ret)]
                continue
            name = _SYSCALLS.get(name, name)
            begins += [] if self.opened else [self._enter(0, name, -1)]
            ends += [] if self.closed or ret is None else [SysExit(last, 1, name, ret)]
        return begins, ends

    def _enter(self, t: int, name: str, fd: int) -> SysEnter:
        buf, nbytes, iov = _buffer(self.ios[0].asked)
        return SysEnter(t, 1, name, fd, buf, nbytes, self.ios[0].asked.pos, iov)

    def _sqe(self, t: int, going: _Going, opcode: str) -> IoUringSubmitReq:
        asked, (buf, nbytes, iov) = going.asked, _buffer(going.asked)
        index = -1 if asked.buf_index is None else asked.buf_index
        return IoUringSubmitReq(t, going.io, opcode, going.user_data, index, buf, nbytes, asked.pos, iov)

    def _submit(self, row: Seen) -> bool:
        if not row.ours or self._entered == len(self.ios):
            return False
        going = self.ios[self._entered]
        self._entered += 1
        going.user_data = row.number("user_data")
        self._of[row.pid] = going
        self._tale.tell(self._sqe(row.t, going, row.text("op_str") or "READ"))
        return True

    def _again(self, row: Seen) -> bool:
        going = self._ring(row)
        if going is None:
            return False
        going.waits = True
        self._tale.tell(IoUringQueueAsyncWork(row.t, going.io, going.user_data))
        return True

    def _complete(self, row: Seen) -> bool:
        going = self._ring(row)
        if going is None:
            return False
        going.over = True
        self._tale.tell(IoUringComplete(row.t, going.io, going.user_data, row.number("res")))
        return True

    def _ring(self, row: Seen) -> _Going | None:
        """Return the first IO of this user_data that is not over."""
        data = row.number("user_data")
        return next((going for going in self.ios[: self._entered] if going.user_data == data and not going.over), None)

    def _file(self, row: Seen) -> bool:
        """Begin an IO on a file: a worker's is known by its place."""
        if not row.ours:
            return False
        pos, nbytes = row.number("pos"), row.number("count")
        if row.worker:
            self._give(row.pid, [going for going in self.ios if (going.asked.pos, going.nbytes) == (pos, nbytes)])
        io = self.of(row)
        if io:
            self._tale.tell(IomapDioRwBegin(row.t, io, row.number("ino"), row.number("isize"), pos, nbytes))
        return io > 0

    def _extent(self, row: Seen) -> bool:
        io = self.of(row)
        if not io:
            return False
        addr, offset, length = row.number("addr"), row.number("offset"), row.number("length")
        kind, bits = row.number("type"), row.number("flags")
        if addr >= 0:
            self.ios[io - 1].extents.append((offset, addr, length))
        name = _TYPES[kind] if 0 <= kind < len(_TYPES) else f"type {kind}"
        words = " ".join(word for bit, word in enumerate(_FLAGS) if bits >> bit & 1)
        self._tale.tell(IomapIterDstmap(row.t, io, row.number("ino"), addr, offset, length, name, words))
        return True

    def _done(self, row: Seen) -> bool:
        """Tell that a file is done with an IO, in whatever thread the last request ended."""
        if row.foreign:
            return False
        io = self.of(row) or next((going.io for going in self.ios if going.asked.pos == row.number("pos")), 0)
        self._tale.tell(
            IomapDioComplete(row.t, io, row.number("ino"), row.number("pos"), row.number("error"), row.number("ret"))
        )
        return True


_TELL = {
    "io_uring_submit_req": Calls._submit,  # noqa: SLF001 - its own
    "io_uring_queue_async_work": Calls._again,  # noqa: SLF001
    "io_uring_complete": Calls._complete,  # noqa: SLF001
    "iomap_dio_rw_begin": Calls._file,  # noqa: SLF001
    "iomap_iter_dstmap": Calls._extent,  # noqa: SLF001
    "iomap_dio_complete": Calls._done,  # noqa: SLF001
}
"""What tells of each tracepoint."""


def results(capture: Capture) -> list[int | None]:
    """Return what each IO came to: bytes, or a negative errno; None where nobody told. Raises ValueError."""
    told = [one if isinstance(one, int) else _number(one) for one in capture.result or ()]
    return [*told, *[None] * (len(capture.io) - len(told))]


def _number(name: str) -> int:
    return -int(getattr(errno, name.removeprefix("-"), 0)) or int(name)


def pieces(asked: CapturedIo, start: int, nbytes: int) -> list[Range]:
    """Return the (user address, bytes) of bytes [start, start + nbytes) of an IO, piece by piece."""
    ends = accumulate(n for _, n in asked.iov)
    found = (
        (addr + max(0, start - (end - n)), min(end, start + nbytes) - max(end - n, start))
        for (addr, n), end in zip(asked.iov, ends, strict=True)
    )
    return [(addr, n) for addr, n in found if n > 0]


def _buffer(asked: CapturedIo) -> tuple[int, int, tuple[Range, ...]]:
    iov = tuple(asked.iov)
    return (iov[0][0] if iov else 0), sum(n for _, n in iov), iov if len(iov) > 1 else ()


def _extents(capture: Capture, pos: int) -> list[tuple[int, int, int]]:
    """Return where bytes of the file are: as FIEMAP told, or for a device everywhere."""
    if capture.device.path == "blkdev":
        return [(0, 0, max(capture.device.size_bytes, pos + 1))]
    return [(logical, physical, nbytes) for logical, physical, nbytes, _ in capture.extents or ()]
