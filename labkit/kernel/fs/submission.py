"""One direct IO on its way through a file: what it has sent, and what became of it (struct blkdev_dio, iomap_dio)."""

import errno
from collections.abc import Callable
from functools import partial
from itertools import count

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import NOT_OF_THE_IO, PLAIN, Bio, Op
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.plug import Plug
from labkit.kernel.fs.ops import Kiocb, Release, Taken
from labkit.kernel.version import KERNELS, NEWEST, Rules
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT, Sector


class Submitter:
    """What every file of a machine sends bios with: a clock, the cost of the work, a number for each bio."""

    def __init__(self, env: Clock, cpu: Cpu, emit: Emit, rules: Rules = KERNELS[NEWEST]) -> None:
        """Begin: the first bio is number 1."""
        self.env, self.cpu, self.emit, self.rules = env, cpu, emit, rules
        self.bios = count(1)


class Submission:
    """The bios of one IO. Whoever submits says so here; whoever waits finds them here."""

    __slots__ = (
        "at", "bad", "bios", "by", "ends", "error", "extend", "i_size", "iocb", "multi", "need_sync", "plug", "queue",
        "size",
        "unwritten",
    )  # fmt: skip

    def __init__(self, iocb: Kiocb, queue: BioConsumer, by: Submitter, plug: Plug | None = None) -> None:
        """Begin with nothing sent; `plug` is one that the caller has around several IOs already."""
        self.iocb, self.queue, self.by, self.plug = iocb, queue, by, plug
        self.bios: list[Bio] = []
        self.size = self.at = 0
        """Bytes that were sent, or zeroed; and how far into the IO that is."""
        self.bad: Bio | None = None
        """The first bio that failed."""
        self.error: SyscallError | None = None
        """What ended the IO early, if it was not a bio."""
        self.multi = self.need_sync = self.unwritten = self.extend = False
        self.i_size = 0
        """Bytes of a file when the IO began."""
        self.ends: list[Callable[[], None]] = []
        """What has to be done when all of it is over, whatever came of it; the last one first."""

    def close(self) -> None:
        """End the IO: let go of the locks of its file, once."""
        while self.ends:
            self.ends.pop()()

    def asleep(self) -> Steps:
        """Send on what the task keeps back: it is about to sleep, and may wait for just that (MQ-1)."""
        if self.plug is not None and self.plug.held:
            yield from self.plug.flush(from_schedule=True)

    def send(self, taken: Taken, pos: int, opf: Op = PLAIN) -> Steps:
        """Send one bio for byte `pos` of the device, with what was taken."""
        yield self.by.cpu.bio_alloc
        bio = self._bio(taken, pos, opf)
        bio.start = self.at
        self.at += bio.nbytes
        self.size += bio.nbytes
        yield from self._submit(bio)

    def zeros(self, taken: Taken, pos: int) -> Steps:
        """Send a bio of zeros beside the IO: the rest of a block that was never written (DIO-10)."""
        yield self.by.cpu.bio_alloc
        bio = self._bio(taken, pos, Op.SYNC | Op.IDLE)
        bio.start = NOT_OF_THE_IO
        yield from self._submit(bio)

    def wait(self) -> Steps:
        """Wait for every bio that was sent."""
        for bio in self.bios:
            if not bio.done.processed and bio.remaining:
                yield bio.done

    def failure(self, name: str) -> SyscallError | None:
        """Return what the bio that failed first says; `name`: the device (DIO-14)."""
        bio = self.bad
        if bio is None:
            return None
        where = f"{name} sector {bio.sector}+{bio.nbytes >> 9}"
        return bio.why or SyscallError(self.iocb.call, where, "failed in the device (BLK-1)", bio.error)

    def _submit(self, bio: Bio) -> Steps:
        """Hand `bio` to the block layer, which ends it whatever happens: from here on it is waited for."""
        self.bios.append(bio)
        return self.queue.submit_bio(bio, self.plug)

    def _bio(self, taken: Taken, pos: int, opf: Op) -> Bio:
        if not taken.payload.nbytes:
            raise SyscallError(self.iocb.call, "no memory", "cannot be a bio", errno.EFAULT)
        bio = Bio(
            self.by.env, next(self.by.bios), self.iocb.io, Sector(pos >> SECTOR_SHIFT), taken.payload,
            write=self.iocb.write, opf=opf,
        )  # fmt: skip
        bio.end_io = partial(self._end_io, taken.release)
        return bio

    def _end_io(self, release: Release | None, bio: Bio) -> None:
        """Remember the first error, then let go of the memory (DIO-12)."""
        if bio.error and self.bad is None:
            self.bad = bio
        if release is not None:
            release(bio)
