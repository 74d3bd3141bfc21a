"""What an actor finds: the machine, and the IO that it gets in the way of."""

import errno
from collections.abc import Callable, Sequence
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.ram import RAM
from labkit.kernel.dio import DirectIO
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.vma import VMA
from labkit.machine.invariants.census import frames_of
from labkit.machine.plug import Slots
from labkit.scatter.payload import Range
from labkit.task import Task
from labkit.trace.events import GupPin, IoUringComplete, IoUringSubmitReq, Record, SysEnter, SysExit
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class Stage(NamedTuple):
    """The parts of a machine that an actor gets hold of.

    `spawn` starts a task without any memory; `medium(pos, bytes)` is what the medium holds of what the IO is done on.
    """

    clock: Clock
    frames: Frames
    ram: RAM
    mms: Sequence[Mm]
    slots: Slots
    dio: DirectIO
    spawn: Callable[[], Task]
    medium: Callable[[int, int], bytes]

    def emit(self, name: str, *fields: object, io: int = 0) -> None:
        """Tell the trace."""
        self.frames.emit((name, self.clock.now, io, *fields))


class Io:
    """The first IO of a task, as its records tell of it: where its buffer is, and what it holds."""

    def __init__(self, task: Task, asked: int, look: Callable[[], None]) -> None:
        """Know that `asked` bytes are asked for, and nothing else yet.

        `look` compares the bytes of the buffer, for an actor that is about to take it away.
        """
        self.task, self.look, self._asked = task, look, asked
        self.number = self.buf = self.nbytes = 0
        self.moved: int | None = None
        """Bytes that it moved, or a negative errno; None while it is on its way."""
        self.pins: list[GupPin] = []
        self.acted: set[int] = set()
        """Tokens that the act tells of: these pins are not the IO's own."""

    def see(self, rec: Record) -> None:
        """Learn from `rec`."""
        if isinstance(rec, SysEnter) and not self.number:
            self.number, self.buf, self.nbytes = rec.io, rec.buf, rec.nbytes
        elif isinstance(rec, IoUringSubmitReq) and not self.number:
            self.number, self.nbytes = rec.io, self._asked  # where its buffer is, its first pin tells
        elif isinstance(rec, GupPin) and rec.io == self.number != 0 and rec.token not in self.acted:
            self.pins.append(rec)
            self.buf = self.buf or rec.addr
        elif isinstance(rec, (SysExit, IoUringComplete)) and rec.io == self.number:
            self.moved = rec.ret if isinstance(rec, SysExit) else rec.res

    @property
    def mm(self) -> Mm:
        """Whose buffer it is."""
        return self.task.mm

    @property
    def ranges(self) -> list[Range]:
        """What was pinned, physical: where the device puts the bytes, or takes them from."""
        return [piece for pin in self.pins for piece in pin.ranges]

    @property
    def frames(self) -> list[int]:
        """Frames that were pinned, each once."""
        return sorted(set(frames_of(self.ranges).tolist()))

    @property
    def vma(self) -> VMA:
        """The mapping of the buffer. Raises SyscallError EFAULT without one."""
        vma = self.mm.space.find_vma(self.buf)
        if vma is None:
            raise SyscallError("hazard", f"addr={self.buf:#x}", "is not mapped", errno.EFAULT)
        return vma

    @property
    def pages(self) -> Range:
        """The buffer as whole pages: (user address, bytes)."""
        start = self.buf & -PAGE_SIZE
        return start, -(-(self.buf + self.nbytes - start) // PAGE_SIZE) * PAGE_SIZE

    @property
    def mapped(self) -> list[Range]:
        """What the buffer maps now: (physical address, bytes)."""
        vma, (start, nbytes) = self.vma, self.pages
        first = vma.page(start)
        stretches = vma.table.present(first, first + (nbytes >> PAGE_SHIFT))
        return [run for lo, hi, _ in stretches for run in vma.table.ranges(lo, hi)]
