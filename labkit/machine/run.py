"""What a scenario asks of a task: a file, a buffer, IO, and a look at every byte."""

import errno
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from labkit.errors import ScenarioError, SyscallError
from labkit.kernel.fs.inode import INLINE_BYTES
from labkit.machine.volume import MOUNT, FileVolume
from labkit.scatter.payload import Range
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.units import UserAddr

_UNMAPPED = UserAddr(0x7E00_0000_0000)
_FILE = "file"
_CHUNK = 1 << 20
"""Bytes that are filled in and compared at a time."""
_TURNS = 4096
"""Bytes of one part of a file that is mapped, a hole and unwritten in turns, at least; a file has 12 of them."""


class Work(Protocol):
    """What is done on a machine."""

    def __call__(self, sc: Scenario, task: Task, volume: FileVolume, *, compare: bool = True) -> bool:
        """Do it; return whether every byte arrived, as far as that is to `compare`. Raises what an IO meets."""


def perform(sc: Scenario, task: Task, volume: FileVolume, *, compare: bool = True) -> bool:
    """Do the IOs of `sc`; return whether every byte arrived. Raises what an IO meets.

    Before each IO the side that it is to change is filled with what the other side does not hold. Without
    `compare` the bytes are somebody else's to compare: the buffer may be gone by then.
    """
    path = make_file(sc, volume)
    buf = buffer(sc, task)
    fd, good = task.open(path, "O_RDWR|O_DIRECT" if sc.direct else "O_RDWR"), True
    appends = sc.op == "write" and "RWF_APPEND" in sc.flags
    try:
        for turn in range(sc.count):
            prepare(sc, task, volume, path, buf, turn)
            pos = volume.size(path) if appends else sc.offset
            moved = call(sc, task, fd, buf)
            if sc.op == "write" and _cached(sc):
                task.fsync(fd)
            good = (
                good
                and (moved > 0 or _at_end(sc, volume, path))
                and (not compare or _same(task, volume, path, pos, buf, moved))
            )
    finally:
        task.release(buf)
    return good


def prepare(sc: Scenario, task: Task, volume: FileVolume, path: str, buf: int, turn: int) -> None:
    """Fill what IO number `turn` is to move, in the buffer or on the medium; that of `buf` is settled then.

    What is in the page cache already is not changed behind its back: the buffer forgets it, and it is read again.
    """
    again = turn and sc.op == "read" and _cached(sc)
    for at, chunk in pattern(sc, turn):
        if again and task.writable(buf):
            task.store(buf + at, bytes(len(chunk)))
        elif fills(sc, task, buf):
            task.store(buf + at, chunk)
        elif sc.op == "read" or sc.folio == "zero":
            volume.poke(path, sc.offset + at, chunk[: max(0, volume.size(path) - sc.offset - at)])
    task.settle(buf)


def path_of(sc: Scenario, volume: FileVolume) -> str:
    """Return the path of what the IO is done on: the device, or the one file."""
    return volume.disk.path if sc.fs == "raw" else MOUNT + _FILE


def make_file(sc: Scenario, volume: FileVolume) -> str:
    """Make what the IO is done on; return its path. Raises ScenarioError for what cannot be."""
    if sc.fs == "raw":
        return path_of(sc, volume)
    fs = volume.mkfs(sc.fs, fragmentation=sc.scatter, seed=sc.seed)
    name, size = _FILE, sc.offset + sc.size
    if sc.extents == "inline":
        if size > INLINE_BYTES:
            rule = f"are more than the {INLINE_BYTES} that an inode holds"
            raise ScenarioError("scenario", f"extents=inline and {size} bytes", rule, errno.EINVAL)
        volume.create(name, size, inline=True)
    elif sc.extents in {"mapped", "shared"}:
        volume.create(name, size)
        if sc.extents == "shared":
            fs.reflink(name, "copy")
    else:
        inode = volume.create(name)
        for pos, nbytes, kind in _turns(size) if sc.extents == "mixed" else [(0, size, sc.extents)]:
            if kind != "hole":
                inode.fallocate(pos, nbytes)
            if kind == "mapped":
                inode.end_io(pos, nbytes, unwritten=True, extend=True)
        volume.truncate(path_of(sc, volume), size)
    return path_of(sc, volume)


def buffer(sc: Scenario, task: Task) -> int:
    """Map what the scenario's IO is to find at its address; return the address."""
    if sc.buffer == "unmapped":
        return _UNMAPPED + sc.skew
    prot = "r--" if sc.buffer == "readonly" else "rw-"
    return task.mmap(sc.size + sc.skew, sc.folio, prot) + sc.skew


def call(sc: Scenario, task: Task, fd: int, buf: int) -> int:
    """Ask for one IO in the way that the scenario says; return the bytes moved. Raises what it meets."""
    if sc.api == "pread":
        return (task.pread if sc.op == "read" else task.pwrite)(fd, buf, sc.size, sc.offset, sc.flags)
    if sc.api == "preadv":
        ask: Callable[..., int] = task.preadv if sc.op == "read" else task.pwritev
        return ask(fd, list(_pieces(sc, buf)), sc.offset, sc.flags)
    ring = task.aio() if sc.api == "aio" else task.io_uring()
    index = None
    if sc.api == "io_uring-fixed":
        ring.register_buffers([(buf, sc.size)])
        index = 0
    add = ring.read if sc.op == "read" else ring.write
    data = add(fd, buf, sc.size, sc.offset, buf_index=index, flags=sc.flags)
    try:
        (done,) = ring.submit()
    finally:
        ring.unregister_buffers()
    if done.res < 0:
        raise ring.error(data) or SyscallError(sc.api, f"entry {data}", "failed", -done.res)
    return done.res


def fills(sc: Scenario, task: Task, buf: int) -> bool:
    """Return whether the task fills its buffer at `buf` before the IO: else a write finds the zeros of fresh memory."""
    return sc.op == "write" and sc.folio != "zero" and sc.buffer == "mapped" and task.writable(buf)


def _cached(sc: Scenario) -> bool:
    """Return whether the IO goes through the page cache: as it is asked to, or since such a file has no direct IO."""
    return not sc.direct or sc.extents == "inline"


def _at_end(sc: Scenario, volume: FileVolume, path: str) -> bool:
    """Return whether there is nothing to read: at the end, or beyond it, 0 bytes are all that there are (DIO-1)."""
    return sc.op == "read" and sc.offset >= volume.size(path)


def pattern(sc: Scenario, turn: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte of the IO, random bytes) until the size of the scenario is reached; the seed and `turn` decide."""
    rng = np.random.default_rng([sc.seed, turn])
    for at in range(0, sc.size, _CHUNK):
        yield at, rng.bytes(min(_CHUNK, sc.size - at))


def _pieces(sc: Scenario, buf: int) -> Iterator[Range]:
    """Yield the buffer in pieces of about the same size, whole 512 bytes but for the last."""
    step = max(512, sc.size // sc.pieces // 512 * 512)
    for i, at in enumerate(range(0, sc.size, step)):
        if i == sc.pieces - 1:
            yield buf + at, sc.size - at
            return
        yield buf + at, min(step, sc.size - at)


def _turns(size: int) -> Iterator[tuple[int, int, str]]:
    """Yield (position, bytes, kind) of a file that is mapped, a hole and unwritten in turns."""
    step = max(_TURNS, -(-size // 12 // _TURNS) * _TURNS)
    for i, pos in enumerate(range(0, size, step)):
        yield pos, min(step, size - pos), ("mapped", "hole", "unwritten")[i % 3]


def _same(task: Task, volume: FileVolume, path: str, pos: int, buf: int, nbytes: int) -> bool:
    """Return whether `nbytes` of the buffer, and of the file on the medium from byte `pos` on, are equal."""
    spans = ((at, min(_CHUNK, nbytes - at)) for at in range(0, nbytes, _CHUNK))
    return all(task.load(buf + at, n) == volume.peek(path, pos + at, n) for at, n in spans)
