"""The IO of a capture, asked for again: by a task of a simulated machine, of the same memory and the same file."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from labkit.errors import SyscallError
from labkit.kernel.fs.extents import extent_of
from labkit.kernel.fs.filesystem import TAKEN
from labkit.machine.pieces import joined
from labkit.machine.placed import Placed
from labkit.machine.volume import MOUNT, FileVolume
from labkit.scatter.payload import Range
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.task.ring import Ring
from labkit.units import PAGE_SIZE
from labkit.witness.capture import Capture, CapturedIo

_FILE = "file"


class Again:
    """What a machine is to do (machine.run.Work); `results` are bytes, or negative errnos, once it has."""

    def __init__(self, capture: Capture, placed: Placed) -> None:
        """Do the IO of `capture`, in memory that is `placed` as it was there."""
        self.capture, self._placed = capture, placed
        self.results: list[int] = []
        self.error: SyscallError | None = None
        """The whole sentence behind the first result that is an errno."""

    def __call__(self, sc: Scenario, task: Task, volume: FileVolume, *, compare: bool = True) -> bool:
        """Do it; return whether every byte arrived. Raises BadInput for a file that cannot be."""
        self._placed.map(task.mm)
        path = self._path(sc, volume)
        self._fill(sc, task, volume, path)
        fd, ios = task.open(path), self.capture.io
        ring = self._mapped_beforehand(task) if sc.system == "premapped" else None
        try:
            self.results = self._batch(task, fd) if ios[0].uring else [self._one(task, fd, io) for io in ios]
        finally:
            if ring is not None:
                ring.unregister_buffers()
            for vma in tuple(task.mm.space.vmas):
                task.release(vma.start)  # what the first IO had mapped for the device
        return not compare or all(self._same(task, volume, path))

    def _mapped_beforehand(self, task: Task) -> Ring:
        """Register what the IO goes to, as far as that may be, where memory is mapped for its device before any IO."""
        ring = task.io_uring()
        pieces = joined((addr, addr + n) for io in self.capture.io for addr, n in io.iov if n and io.buf_index is None)
        with suppress(SyscallError):  # then the IO is told why
            ring.register_buffers([(start, end - start) for start, end in pieces])
        return ring

    def _path(self, sc: Scenario, volume: FileVolume) -> str:
        """Return the path of the device, or of the file, which is made, with the extents that it had."""
        capture = self.capture
        if capture.device.path == "blkdev":
            return volume.disk.path
        rows, block = capture.extents or [], volume.disk.device.limits.logical_block_size
        volume.mkfs(sc.fs, taken=min([TAKEN, *(row[1] // block * block for row in rows if row[1])]))
        mine = (event for event in capture.events or () if event.get("by") == "submitter")
        seen = [event["isize"] for event in mine if isinstance(event.get("isize"), int)]
        told = seen[0] if seen else capture.device.file_bytes
        size = max((row[0] + row[2] for row in rows), default=0) if told is None else told
        inode = volume.create(_FILE, size, extents=rows)
        data, stop = inode.forks.data, -(-size // inode.block_size) * inode.block_size
        data.joins = False  # extents stay apart that a filesystem left apart
        data.splice(0, stop, [extent.part(0, stop) for extent in map(extent_of, rows) if extent.logical < stop])
        return MOUNT + _FILE

    def _fill(self, sc: Scenario, task: Task, volume: FileVolume, path: str) -> None:
        """Let each side hold what the other does not: what is written from, and what is read."""
        rng = np.random.default_rng(sc.seed)
        for io in self.capture.io:
            if io.op == "w":
                for addr, nbytes in (run for piece in io.iov for run in _present(task, *piece)):
                    task.store(addr, rng.bytes(nbytes))
            elif io.pos >= 0:
                size = volume.size(path)
                volume.poke(path, io.pos, rng.bytes(max(0, min(sum(n for _, n in io.iov), size - io.pos))))

    def _one(self, task: Task, fd: int, io: CapturedIo) -> int:
        """Do one call; return the bytes it moves, or a negative errno."""
        rwf = io.rwf or ("RWF_NOWAIT" if io.api.endswith("_nowait") else "")
        read = io.op == "r"
        try:
            if len(io.iov) == 1 and "v" not in io.api:
                return (task.pread if read else task.pwrite)(fd, *io.iov[0], io.pos, rwf)
            return (task.preadv if read else task.pwritev)(fd, io.iov, io.pos, rwf)
        except SyscallError as bad:
            self.error = self.error or bad
            return -bad.errno

    def _batch(self, task: Task, fd: int) -> list[int]:
        """Submit all in one call of io_uring; return what each of them completes with."""
        ring = task.io_uring()
        if self.capture.registered:
            ring.register_buffers(self.capture.regions)
        try:
            entries = [self._entry(ring, fd, at, io) for at, io in enumerate(self.capture.io)]
            done = dict(ring.submit())
        finally:
            ring.unregister_buffers()
        failed = next((at for at in entries if done[at] < 0), None)
        if failed is not None:
            self.error = ring.error(failed) or SyscallError("io_uring", f"entry {failed}", "failed", -done[failed])
        return [done[at] for at in entries]

    def _entry(self, ring: Ring, fd: int, at: int, io: CapturedIo) -> int:
        """Add entry number `at`; return its user_data."""
        flags = io.rwf or ""
        if len(io.iov) == 1:
            add = ring.read if io.op == "r" else ring.write
            return add(fd, *io.iov[0], io.pos, user_data=at, buf_index=io.buf_index, flags=flags)
        return (ring.readv if io.op == "r" else ring.writev)(fd, io.iov, io.pos, user_data=at, flags=flags)

    def _same(self, task: Task, volume: FileVolume, path: str) -> Iterator[bool]:
        """Yield whether memory and medium hold the same, IO by IO; of reads together, since they share pages.

        Of entries of a ring, those are left out that another has changed on the way: who came first is nowhere told.
        """
        moved = [(io, res) for io, res in zip(self.capture.io, self.results, strict=True) if res > 0]
        pages: dict[int, Filled] = {}
        filled = {page for io, res in moved if io.op == "r" for page in _pages(task, io.iov, res)}
        for at, (io, res) in enumerate(moved):
            there, sure = volume.peek(path, io.pos, res), not (io.uring and _contested(io, res, moved))
            if io.op == "r":
                _expect(task, io.iov, there, pages, 1 + at % 255 if io.uring else 1, sure=sure)
            elif not sure:
                continue
            elif not io.uring or filled.isdisjoint(_pages(task, io.iov, res)):
                yield b"".join(task.load(addr, n) for addr, n in _first(io.iov, res)) == there
        yield from (page.same(task.load(page.addr, PAGE_SIZE)) for page in pages.values())


class Filled:
    """What a page at user address `addr` is to hold: bytes that reads have brought, over what it held anyway."""

    __slots__ = ("_owner", "addr", "contested", "expected")

    def __init__(self, addr: int, held: bytes) -> None:
        """Begin with what it holds."""
        self.addr, self.expected, self._owner = addr, bytearray(held), bytes(len(held))
        self.contested: set[int] = set()
        """Bytes that several IOs have brought at once: who came last is nowhere told."""

    def put(self, skip: int, data: bytes, by: int) -> None:
        """Expect `data` from byte `skip` on, brought `by` an IO, 1 to 255; its own last piece wins."""
        stop = skip + len(data)
        if self._owner[skip:stop].translate(None, bytes((0, by))):
            self.contested |= {at for at in range(skip, stop) if self._owner[at] not in {0, by}}
        self._owner = self._owner[:skip] + bytes((by,)) * len(data) + self._owner[stop:]
        self.expected[skip:stop] = data

    def same(self, held: bytes) -> bool:
        """Return whether the page holds that, as far as anybody knows."""
        if held == self.expected:
            return True
        differ = {at for at, (a, b) in enumerate(zip(held, self.expected, strict=True)) if a != b}
        return differ <= self.contested


def _expect(
    task: Task, iov: Sequence[Range], there: bytes, pages: dict[int, Filled], by: int, *, sure: bool
) -> None:  # fmt: skip
    """Note in `pages`, by physical address, what each holds once `there` was read into `iov` `by` an IO, if `sure`."""
    at = 0
    for addr, nbytes in _first(iov, len(there)):
        user = addr
        for phys, n in task.frames(addr, nbytes):
            page = phys & -PAGE_SIZE
            if page not in pages:
                pages[page] = Filled(user & -PAGE_SIZE, task.load(user & -PAGE_SIZE, PAGE_SIZE))
            pages[page].put(phys % PAGE_SIZE, there[at : at + n], by)
            if not sure:
                pages[page].contested.update(range(phys % PAGE_SIZE, phys % PAGE_SIZE + n))
            user, at = user + n, at + n


def _pages(task: Task, iov: Sequence[Range], nbytes: int) -> set[int]:
    """Return the physical pages that hold the first `nbytes` bytes of `iov`."""
    return {phys & -PAGE_SIZE for addr, n in _first(iov, nbytes) for phys, _ in task.frames(addr, n)}


def _first(iov: Sequence[Range], nbytes: int) -> Iterator[Range]:
    """Yield the pieces that hold the first `nbytes` bytes."""
    for addr, n in iov:
        take = min(n, nbytes)
        if take:
            yield addr, take
        nbytes -= take


def _contested(io: CapturedIo, res: int, moved: Sequence[tuple[CapturedIo, int]]) -> bool:
    """Return whether another IO of the same submission moved the same part of the medium, and one of them wrote."""
    return any(
        other is not io and "w" in {io.op, other.op} and io.pos < other.pos + n and other.pos < io.pos + res
        for other, n in moved
    )


def _present(task: Task, addr: int, nbytes: int) -> Iterator[Range]:
    """Yield what of [addr, addr + nbytes) has a page now."""
    end = addr + nbytes
    for vma in tuple(task.mm.space.within(addr, end)):
        first, last = vma.page(max(addr, vma.start)), vma.page(min(end, vma.end) - 1) + 1
        for lo, hi, _ in vma.table.present(first, last):
            start, stop = max(addr, vma.start + lo * PAGE_SIZE), min(end, vma.start + hi * PAGE_SIZE)
            yield start, stop - start
