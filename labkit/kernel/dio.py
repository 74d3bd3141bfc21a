"""Direct IO: pin, hand over, wait, unpin; whatever happens in between, nothing stays held."""

from collections.abc import Generator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.currency.ops import Currency, Hold, Kiocb
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.trace.tracer import Emit


class File(NamedTuple):
    """An open file: what it is, and the queue of the device below it."""

    bdev: BlockDeviceFile
    queue: RequestQueue


class _Dio:
    """One direct IO on its way (struct blkdev_dio): what it holds, and what it has sent."""

    __slots__ = ("bios", "file", "holds", "iocb", "owed", "short", "start", "token")

    def __init__(self, iocb: Kiocb, file: File) -> None:
        self.iocb, self.file = iocb, file
        self.holds: dict[int, Hold] = {}
        self.bios: list[Bio] = []
        self.start = self.owed = self.token = 0
        self.short: SyscallError | None = None


class DirectIO:
    """The direct IO of one machine, in one currency."""

    def __init__(self, env: Clock, cpu: Cpu, currency: Currency, emit: Emit) -> None:
        """Do IO in `currency`."""
        self.env, self.cpu, self.currency, self._emit = env, cpu, currency, emit
        self._ios = count(1)

    def next_io(self) -> int:
        """Return the number of the next IO."""
        return next(self._ios)

    def direct_io(self, iocb: Kiocb, file: File) -> Generator[Wait, Any, int]:
        """Move `iocb.nbytes` bytes; return how many were moved.

        Raises SyscallError: what pinning says where nothing could be pinned, else what the first failed bio says
        (DIO-14). A short pin is a short count up to 256 pages, and EFAULT above, though the first bios were done (R6).
        A currency that takes the IO in steps has each step's bios on their way before it takes the next.
        """
        dio = _Dio(iocb, file)
        try:
            while dio.start < iocb.nbytes:
                hold = self._pin(dio)
                if hold is None:
                    break
                yield self.cpu.walk * hold.ptes + self.cpu.pin * hold.atomics + self.cpu.vec * len(hold.ranges)
                for bio in self._bios(dio, hold):
                    yield self.cpu.bio_alloc
                    dio.bios.append(bio)
                    yield from file.queue.submit_bio(bio)
                dio.start += hold.nbytes
        except Exception:  # not GeneratorExit, not Ctrl-C: the clock stands still then, and nothing can be waited for
            yield from self._let_go(dio)
            raise
        yield from self._let_go(dio)
        return self._result(dio)

    def _let_go(self, dio: _Dio) -> Steps:
        """Wait for every bio, and unpin what is held still."""
        for bio in dio.bios:
            if not bio.done.processed:
                yield bio.done
        for token in tuple(dio.holds):
            self._unpin(dio, token)
        dio.iocb.mm.frames.release_orphans()
        yield dio.owed + (self.cpu.wakeup if dio.bios else 0)

    def _pin(self, dio: _Dio) -> Hold | None:
        """Pin what the currency takes in one step; None where a page cannot be had, and the IO ends here."""
        iocb = dio.iocb
        try:
            hold = self.currency.pin(iocb, dio.start)
        except SyscallError as bad:
            dio.short = bad
            return None
        dio.token = hold.token
        dio.holds[hold.token] = hold
        self._emit((
            "GupPin", self.env.now, iocb.io, hold.token, self.currency.policy, iocb.buf + dio.start, hold.ranges,
            hold.ptes, hold.atomics, hold.struct_pages, hold.descriptor_bytes, hold.cache_lines, iocb.mm.task,
            hold.faults,
        ))  # fmt: skip
        return hold

    def _bios(self, dio: _Dio, hold: Hold) -> list[Bio]:
        """Hand what was pinned to the file, and return its bios."""
        iocb, bdev, pos = dio.iocb, dio.file.bdev, dio.iocb.pos + dio.start
        self._emit(("BlkdevDirectIO", self.env.now, iocb.io, pos, hold.nbytes, bdev.path(iocb.buf, iocb.nbytes)))
        bios = bdev.bios(iocb.io, pos, hold.payload, write=iocb.write)
        for bio in bios:
            bio.start = (bio.sector << 9) - iocb.pos
            if self.currency.per_bio:
                bio.end_io = partial(self._bio_release_pages, dio, dio.token)
        return bios

    def _bio_release_pages(self, dio: _Dio, token: int, _bio: Bio) -> None:
        """Let go of one bio's pages while others are still on their way; only the last bio keeps the caller waiting."""
        dio.owed = 0
        self._unpin(dio, token)

    def _unpin(self, dio: _Dio, token: int) -> None:
        """Let go of one hold, and owe the time that it takes."""
        iocb, hold = dio.iocb, dio.holds.pop(token)
        released = self.currency.unpin(iocb, hold)
        cost = self.cpu.unpin * released.atomics
        self._emit(("GupUnpin", self.env.now, iocb.io, token, released.atomics, released.struct_pages, cost))
        dio.owed += cost

    @staticmethod
    def _result(dio: _Dio) -> int:
        iocb, bdev = dio.iocb, dio.file.bdev
        for bio in dio.bios:
            if bio.error:
                where = f"{bdev.name} sector {bio.sector}+{bio.nbytes >> 9}"
                raise bio.why or SyscallError(iocb.call, where, "failed in the device (BLK-1)", bio.error)
        if dio.short is not None and (dio.start == 0 or bdev.path(iocb.buf, iocb.nbytes) == "multi"):
            raise dio.short
        return dio.start
