"""What a kernel makes of an IO, from its buffer, limits and extents alone: the machine's own code, without its clock.

Nothing is pinned, nothing takes time, and every request is over when all of them were sent.
"""

import errno
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, cast

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Clock
from labkit.kernel.dio import DirectIO, File
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.kernel.fs.iomap import IomapFile
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.syscall.table import Syscalls
from labkit.kernel.syscall.uring import Sqe, Uring
from labkit.units import PAGE_SIZE, PhysAddr
from labkit.witness.capture import Capture, CapturedIo
from labkit.witness.commands import NvmeCommand
from labkit.witness.files import NO_CACHE, SOMEWHERE, RecordedExtents, UnseenCache
from labkit.witness.recorded import RecordedCurrency
from labkit.witness.still import FREE, Instant, KeptQueue

EVENTS = {
    "BlockBioQueue": "block_bio_queue", "BlockSplit": "block_split", "BlockGetrq": "block_getrq",
    "BlockBioBackmerge": "block_bio_backmerge", "BlockBioFrontmerge": "block_bio_frontmerge",
    "BlockPlug": "block_plug", "BlockUnplug": "block_unplug", "BlockRqIssue": "block_rq_issue",
    "BlockRqInsert": "block_rq_insert", "BlockBioComplete": "block_bio_complete",
}  # fmt: skip
"""Records of the model, and the kernel's tracepoints: the sequence that is predicted."""
_FIGURES = {
    "BlockBioQueue": slice(4, 6), "BlockSplit": slice(4, 6), "BlockGetrq": slice(6, 8),
    "BlockBioBackmerge": slice(5, 7), "BlockBioFrontmerge": slice(5, 7), "BlockPlug": slice(0, 0),
    "BlockUnplug": slice(3, 4), "BlockRqIssue": slice(5, 7), "BlockRqInsert": slice(5, 7),
    "BlockBioComplete": slice(4, 7),
}  # fmt: skip
"""Where a record has its sector and sectors, the two sectors of a split, the number of an unplug."""


class Prediction(NamedTuple):
    """What is predicted. `bios`: [sector, [[physical address or None, bytes], ...]]; sectors are 512 bytes.

    `events`: what the submitter's own thread is seen to do, [tracepoint, figures, ...]. `ordered`: whether the order of
    requests and events is certain; where tags run out, or a scheduler sorts, only the set of requests is (R15, R16);
    where several workers of a ring send bios, only the set of those. `merges`: whether it is certain which requests
    become one: not where a ring works on a file, whose workers take what a lock or the inode's times hold up (R18), for
    a plug is its thread's. `proven`: whether the rules of `kernel` were measured on the kernel of the capture. `whys`:
    the rule behind each split, and its figures. `nvme`: what each command says, in order; None where none was seen.
    """

    result: list[int]
    bios: list[list[Any]]
    splits: list[list[int]]
    requests: list[list[int]]
    events: list[list[Any]]
    ordered: bool
    merges: bool
    kernel: str
    proven: bool
    whys: list[tuple[str, str]]
    nvme: list[NvmeCommand] | None


def predict(capture: Capture) -> Prediction:
    """Return what the kernel of `capture` makes of its IO. Raises BadInput for a capture that cannot be."""
    return Predictor(capture).predict(capture.io)


class Predictor:
    """As much of a machine as a prediction needs: one queue, one file, one buffer, any number of IOs."""

    def __init__(self, capture: Capture) -> None:
        """Take all of `capture` but its IO. Raises BadInput for one that cannot be."""
        self.capture = capture
        self.rules, self.proven = capture.rules
        self._kept: dict[str, list[Any]] = {}
        self._events: list[Any] = []
        self._instant, self._other, self._workers = Instant(), False, 0
        self._env = cast("Clock", self._instant)
        self._queue = KeptQueue(capture, self._instant, self._emit)
        currency = RecordedCurrency(capture.buffer, self.rules, capture.regions, capture.provider)
        self._dio = DirectIO(self._env, FREE, currency, self._emit, self.rules)
        self._calls = Syscalls(self._env, FREE, self._dio, cast("Mm", capture.buffer), self._emit)
        file = self._file()
        self._fd = self._calls.open(file, "O_RDWR|O_DIRECT", UnseenCache(file, self._dio.by))

    def predict(self, ios: Sequence[CapturedIo]) -> Prediction:
        """Return what becomes of `ios`: entries of one submission of a ring, or calls one after the other."""
        self._kept = {"BlockSplit": [], "BlockRqIssue": []}
        self._events.clear()
        self._queue.kept.take()  # a refused IO leaves some
        for left in (self._queue.bios, self._instant.jobs):
            left.clear()
        if (commands := self._queue.kept.commands) is not None:
            commands.begin()
        self._workers = 0
        result = self._batch(ios) if ios and ios[0].uring else [self._one(io) for io in ios]
        self._others()
        return self._told(result)

    def _emit(self, rec: Any) -> None:
        """Keep `rec` if it is a split or a request, and if the submitter did it."""
        name = rec[0]
        if name in EVENTS:
            if not self._other:
                self._events.append(rec)
            if name in self._kept:
                self._kept[name].append(rec)
        elif name == "IoUringQueueAsyncWork":
            self._workers += 1

    def _file(self) -> File:
        capture, by = self.capture, self._dio.by
        if capture.device.path == "blkdev":
            return BlockDeviceFile(capture.device.name, capture.device.size_bytes, self._queue, by)
        rows = capture.extents or []
        told = capture.device.file_bytes
        isize = max((row[0] + row[2] for row in rows), default=0) if told is None else told
        block = max(PAGE_SIZE, self._queue.limits.logical_block_size)
        extents = RecordedExtents(rows, block, isize)
        return IomapFile(capture.device.name, extents, NO_CACHE, self._queue, by, PhysAddr(SOMEWHERE - (1 << 20)))

    def _one(self, io: CapturedIo) -> int:
        """Do one call; return the bytes it moves, or a negative errno."""
        rwf = io.rwf or ("RWF_NOWAIT" if io.api.endswith("_nowait") else "")
        try:
            done: int = self._drive(self._calls.rwv(self._fd, io.iov, io.pos, write=io.op == "w", rwf=rwf))
        except SyscallError as bad:
            return -bad.errno
        return done

    def _batch(self, ios: Sequence[CapturedIo]) -> list[int]:
        """Submit all of `ios` in one call of io_uring; return what each of them completes with."""
        ring = Uring(self._calls)
        ring.fixed = self.capture.regions or None
        sqes = [
            Sqe(("WRITE" if io.op == "w" else "READ") + ("_FIXED" if io.buf_index is not None else ""), self._fd,
                tuple(io.iov), io.pos, at, io.buf_index, io.rwf or "")
            for at, io in enumerate(ios)
        ]  # fmt: skip
        self._drive(ring.enter(sqes, wait=len(sqes)))
        done = dict(ring.reap())
        return [done[at] for at in range(len(sqes))]

    def _drive(self, work: Generator[Any, Any, Any]) -> Any:
        """Run `work` to its end; where it waits, everybody else does what is left to do."""
        send = work.send
        try:
            while True:
                if not isinstance(send(None), int) and not self._others():
                    what = "waits for something that no record tells of"
                    raise BadInput("capture", self.capture.id, what, errno.EINVAL)
        except StopIteration as end:
            return end.value

    def _others(self) -> bool:
        """Let other threads work, and requests end, until nothing is left; return whether there was anything."""
        jobs, kept, before, did = self._instant.jobs, self._queue.kept, self._other, False
        self._other = True
        while jobs or kept.rqs:
            did = True
            while jobs:
                self._drive(jobs.pop(0))
            for rq in kept.take():
                rq.end_io(rq, kept.status(rq))
        self._other = before
        return did

    def _told(self, result: list[int]) -> Prediction:
        """Return what the records tell."""
        bios = [
            [bio.sector, [[None if addr >= SOMEWHERE else addr, n] for addr, n in bio.payload.vecs]]
            for bio in self._queue.bios
        ]
        splits = self._kept["BlockSplit"]
        commands = self._queue.kept.commands
        requests = [list(rec[5:7]) for rec in self._kept["BlockRqIssue"]]
        sorts = self.capture.scheduler != "none" or len(requests) > self._queue.limits.nr_requests
        merges = self.capture.device.path == "blkdev" or not self.capture.io[0].uring
        return Prediction(
            result, bios, [list(rec[4:6]) for rec in splits], requests,
            [[EVENTS[rec[0]], *rec[_FIGURES[rec[0]]]] for rec in self._events],
            merges and not sorts and self._workers <= 1, merges, self.rules.name, self.proven,
            [rec[6:8] for rec in splits], commands.rows if commands else None,
        )  # fmt: skip
