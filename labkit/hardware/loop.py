"""The face of a real loop device: commands become O_DIRECT calls, and the time they took becomes service time."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from labkit.errors import NotAllowed, SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.device import Bus, BusFault, Command, Done, Health

_EIO = 5


class RealDevice(Protocol):
    """What is asked of host.loopdev.LoopDevice; a recording can stand in for it."""

    nbytes: int

    def preadv(self, views: Sequence[memoryview], pos: int) -> int:
        """Read at `pos` bytes into `views` with O_DIRECT; return the bytes read."""

    def pwritev(self, views: Sequence[memoryview], pos: int) -> int:
        """Write `views` at `pos` bytes with O_DIRECT; return the bytes written."""

    def batch(self, transfers: Sequence[tuple[Sequence[memoryview], int, bool]]) -> list[int]:
        """Do (views, byte, whether it writes) side by side, by io_uring; return the bytes of each, or a negative errno.

        Raises NotAllowed, SyscallError where there is no ring to be had.
        """

    def flush(self) -> None:
        """Bring what was written to the medium (fdatasync)."""

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the backing file holds."""

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the backing file holds."""


class Loop:
    """A loop device that serves commands from and into the frames of the simulated machine.

    The bytes move in the same instant, zero-copy from the arena: one command by preadv or pwritev, several together by
    one call of io_uring. They are done `measured ns` later on the machine's clock.
    """

    def __init__(self, env: Clock, bus: Bus, real: RealDevice) -> None:
        """Serve through `real`; `ranges` of a command are physical addresses, which `bus` takes: loop does no DMA."""
        self.env, self._bus, self._real = env, bus, real
        self.nbytes, self.health = real.nbytes, Health()
        self._life = 0
        self._asked: list[tuple[Command, Done]] = []
        """What came in this instant."""

    def submit(self, cmd: Command, done: Done) -> None:
        """Do `cmd` with all that comes now; the status is 0, or a positive errno. A write of nothing is a flush.

        What is wrong with the device (Health) is looked at before the real one is asked, which is always well.
        """
        health = self.health
        if health.wedged or health.gone:
            return
        if health.stuck:
            health.stuck -= 1
            return
        if not self._asked:
            self.env.later(0, self._serve)
        self._asked.append((cmd, done))

    def reset(self) -> bool:
        """Forget every command: what the real device has done is done, but nobody is told."""
        self._life += 1
        self._asked.clear()
        return not (self.health.wedged or self.health.gone)

    def _serve(self) -> None:
        """Move the bytes of all that came in this instant."""
        asked, self._asked = self._asked, []
        if not asked or self.health.gone or self.health.wedged:
            return
        begin = time.monotonic_ns()
        statuses = self._do([cmd for cmd, _ in asked])
        took = time.monotonic_ns() - begin
        for (_, done), status in zip(asked, statuses, strict=True):
            self.env.later(took, self._tell, self._life, done, status)

    def _do(self, cmds: Sequence[Command]) -> list[int]:
        """Return the status of each of `cmds`: 0, or an errno; EIO for memory that its owner has taken back (D-13)."""
        statuses, views = dict[int, int](), dict[int, list[memoryview]]()
        for at, cmd in enumerate(cmds):
            try:
                views[at] = [view for addr, nbytes in cmd.ranges for view in self._bus.views(addr, nbytes)]
            except BusFault:
                statuses[at] = _EIO
                continue
            if status := self._injected(cmd, views[at]):
                statuses[at] = status
        todo = [at for at in views if at not in statuses]
        moved = self._together([(cmds[at], views[at]) for at in todo])
        for at, come in zip(todo, moved, strict=True):
            statuses[at] = -come if come < 0 else self._transfer(cmds[at], views[at], come)
        return [statuses[at] for at in range(len(cmds))]

    def _together(self, todo: Sequence[tuple[Command, list[memoryview]]]) -> list[int]:
        """Return the bytes of each of `todo` that io_uring has moved, or a negative errno; 0 where it is one alone."""
        ring = [at for at, (cmd, _) in enumerate(todo) if cmd.nbytes]
        moved = [0] * len(todo)
        if len(ring) > 1:
            transfers = [(todo[at][1], todo[at][0].sector << 9, todo[at][0].write) for at in ring]
            with suppress(NotAllowed, SyscallError):  # then it goes one by one
                for at, come in zip(ring, self._real.batch(transfers), strict=True):
                    moved[at] = come
        return moved

    def _injected(self, cmd: Command, views: list[memoryview]) -> int:
        """Return EIO where something is wrong with the device; a transfer that stops halfway has done that half."""
        if self.health.unreadable(cmd.sector, cmd.nbytes >> 9):
            return _EIO
        if not self.health.short or not cmd.nbytes:
            return 0
        self.health.short -= 1
        half = cmd.nbytes >> 10 << 9
        kept = _first(views, half)
        return self._transfer(cmd._replace(nbytes=half), kept) or _EIO if half else _EIO

    def _tell(self, life: int, done: Done, status: int) -> None:
        if life != self._life or self.health.gone or self.health.wedged:
            return
        if self.health.losing:
            self.health.losing -= 1
        else:
            done(status)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return what the backing file holds."""
        return self._real.peek(pos, nbytes)

    def poke(self, pos: int, data: bytes) -> None:
        """Set what the backing file holds."""
        self._real.poke(pos, data)

    def _transfer(self, cmd: Command, views: list[memoryview], moved: int = 0) -> int:
        """Move what is left of `cmd` after `moved` bytes, one call after the other (LOOP-4); return 0, or an errno."""
        call = self._real.pwritev if cmd.write else self._real.preadv
        pos, left, views = (cmd.sector << 9) + moved, cmd.nbytes - moved, _rest(views, moved)
        try:
            if not cmd.nbytes:
                self._real.flush()
            while left:
                moved = call(views, pos)
                if moved == 0:
                    return _EIO  # the kernel's loop driver fails a transfer that makes no progress (LOOP-4)
                pos, left = pos + moved, left - moved
                views = _rest(views, moved)
        except SyscallError as bad:
            return bad.errno
        return 0


def _rest(views: list[memoryview], moved: int) -> list[memoryview]:
    """Return what is left of `views` after `moved` bytes."""
    for i, view in enumerate(views):
        if moved < view.nbytes:
            return [view[moved:], *views[i + 1 :]]
        moved -= view.nbytes
    return []


def _first(views: list[memoryview], nbytes: int) -> list[memoryview]:
    """Return the first `nbytes` of `views`."""
    kept: list[memoryview] = []
    for view in views:
        kept.append(view[:nbytes])
        nbytes -= kept[-1].nbytes
        if not nbytes:
            break
    return kept
