"""Blocks of a device become blocks of files: what is free, what is promised, and what more than one file has."""

import errno
import random
from typing import NamedTuple, Self

from labkit.errors import BadInput, SyscallError
from labkit.kernel.fs.runs import RunMap

_MEAN_GAP = 2
"""Blocks between two pieces of a fragmented file, on average. Ours."""


class Free(NamedTuple):
    """Bytes [start, start + length) of the device are free."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.length

    def part(self, start: int, stop: int) -> Self:
        """Return what of it lies in [start, stop)."""
        first = max(start, self.start)
        return self._replace(start=first, length=min(stop, self.end) - first)

    def joined(self, other: Self) -> Self | None:
        """Return this run and `other`, which begins at its end, as one."""
        return self._replace(length=self.length + other.length)


class Refs(NamedTuple):
    """Bytes [start, start + length) of the device belong to `files` files, two at least."""

    start: int
    length: int
    files: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.length

    def part(self, start: int, stop: int) -> Self:
        """Return what of it lies in [start, stop)."""
        first = max(start, self.start)
        return self._replace(start=first, length=min(stop, self.end) - first)

    def joined(self, other: Self) -> Self | None:
        """Return this run and `other`, which begins at its end, as one, if as many files have both."""
        return self._replace(length=self.length + other.length) if self.files == other.files else None


class Space:
    """All blocks of a device but the first `taken` bytes, which are the filesystem's own."""

    def __init__(self, name: str, nbytes: int, block_size: int, taken: int, *, fragmentation: float, seed: int) -> None:
        """Hold `nbytes` bytes, whole blocks, all free from byte `taken` on.

        `fragmentation` says in what pieces they are given: as long as can be at 0.0, of 1/`fragmentation` blocks on
        average, at 1.0 one by one, never two that touch while there is room. A `seed` makes the same pieces each time.
        Raises BadInput EINVAL for one outside [0, 1].
        """
        if not 0 <= fragmentation <= 1:
            raise BadInput(name, f"fragmentation={fragmentation}", "is not between 0 and 1", errno.EINVAL)
        self.name, self.nbytes, self.block_size, self.taken = name, nbytes, block_size, taken
        self.free: RunMap[Free] = RunMap([Free(taken, nbytes - taken)] if nbytes > taken else [])
        self.refs: RunMap[Refs] = RunMap()
        self.nr_free = nbytes - taken
        """Bytes that are free."""
        self.reserved = 0
        """Bytes of `nr_free` that are promised to delayed allocation."""
        self._fragmentation, self._rng = fragmentation, random.Random(seed)  # noqa: S311 - a layout, not a secret

    def alloc(self, goal: int, nbytes: int, *, reserved: bool = False) -> tuple[int, int]:
        """Return (first byte, bytes) of up to `nbytes`, whole blocks: at byte `goal` or behind it, where there is room.

        Less comes where the free run ends, or by fragmentation. `reserved`: they were promised. Raises ENOSPC.
        """
        self._room(self.block_size, reserved=reserved)
        nbytes = min(nbytes, self.nr_free if reserved else self.nr_free - self.reserved)
        if self._fragmentation:
            goal, nbytes = self._scatter(goal, nbytes)
        run = self.free.at(goal) or self.free.at(0)
        assert run, "a free byte lies in a run"  # noqa: S101 - nr_free counts the runs
        first = goal if run.start < goal < run.end else run.start
        size = min(nbytes, run.end - first)
        self.claim(first, size)
        self.reserved -= size if reserved else 0
        return first, size

    def claim(self, start: int, nbytes: int) -> None:
        """Take just these bytes. Raises BadInput EINVAL where they are not whole blocks, and free."""
        run = self.free.at(start)
        if nbytes < 1 or start % self.block_size or nbytes % self.block_size:
            rule = f"is not a range of whole blocks of {self.block_size} bytes"
        elif not run or run.start > start or run.end < start + nbytes:
            rule = "is not free"
        else:
            self.free.splice(start, start + nbytes)
            self.nr_free -= nbytes
            return
        raise BadInput(self.name, f"[{start}, {start + nbytes}) of the device", rule, errno.EINVAL)

    def reserve(self, nbytes: int) -> None:
        """Promise `nbytes` bytes to delayed allocation. Raises SyscallError ENOSPC."""
        self._room(nbytes)
        self.reserved += nbytes

    def share(self, start: int, nbytes: int) -> None:
        """Let one file more have these bytes, which some file has."""
        more = [run._replace(files=run.files + 1) for run in self.refs.parts(start, start + nbytes)]
        first = [Refs(lo, hi - lo, 2) for lo, hi in self.refs.gaps(start, start + nbytes)]
        self.refs.splice(start, start + nbytes, sorted(more + first))

    def release(self, start: int, nbytes: int) -> None:
        """Let one file less have these bytes; free are those that none has any more."""
        alone = list(self.refs.gaps(start, start + nbytes))
        fewer = [run._replace(files=run.files - 1) for run in self.refs.parts(start, start + nbytes)]
        self.refs.splice(start, start + nbytes, [run for run in fewer if run.files > 1])
        for lo, hi in alone:
            self.free.splice(lo, hi, [Free(lo, hi - lo)])
            self.nr_free += hi - lo

    def shared(self, start: int, nbytes: int) -> tuple[bool, int]:
        """Return whether more than one file has byte `start`, and for how many of `nbytes` that stays so."""
        run = self.refs.at(start)
        if run is None or run.start >= start + nbytes:
            return False, nbytes
        return (True, min(nbytes, run.end - start)) if run.start <= start else (False, run.start - start)

    def _room(self, nbytes: int, *, reserved: bool = False) -> None:
        left = self.nr_free if reserved else self.nr_free - self.reserved
        if nbytes > left:
            raise SyscallError(self.name, f"{nbytes} bytes", f"do not fit: {left} are free", errno.ENOSPC)

    def _scatter(self, goal: int, nbytes: int) -> tuple[int, int]:
        """Return a goal some blocks on, and a length of some blocks, both of chance."""
        blocks = gap = 1
        while blocks * self.block_size < nbytes and self._rng.random() > self._fragmentation:
            blocks += 1
        while self._rng.random() > 1 / _MEAN_GAP:
            gap += 1
        return goal + gap * self.block_size, min(nbytes, blocks * self.block_size)
