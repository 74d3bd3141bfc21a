"""The same O_DIRECT call to the model and to the kernel under our feet, on the same real loop device."""

import errno
from typing import NamedTuple

from labkit.errors import LabkitError, errno_name
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.arena import arena
from labkit.machine import Machine
from labkit.task import Task
from labkit.units import PAGE_SIZE


class Call(NamedTuple):
    """One pread or pwrite: `skew` bytes into a page of the buffer, `nbytes` bytes, at `pos`."""

    op: str
    skew: int
    nbytes: int
    pos: int


class Answer(NamedTuple):
    """What both said: bytes, or an errno name."""

    call: Call
    model: int | str
    kernel: int | str

    @property
    def agree(self) -> bool:
        """Whether the model is right about this call."""
        return self.model == self.kernel


CALLS = tuple(
    Call(op, *args)
    for op in ("read", "write")
    for args in (
        (0, 4096, 0),
        (512, 8192, 4096),
        (0, 4096, 100),  # DIO-3: the position
        (0, 513, 0),  # DIO-3: the length
        (256, 8192, 0),  # SPLIT-3: the memory, found when the bio is split
        (0, 8192, -4096),  # R1: 4 KiB before the end of the device
        (0, 4096, 1 << 40),  # DIO-1: beyond the end
    )
)
"""Positions below 0 count from the end of the device."""


def ask(calls: tuple[Call, ...] = CALLS) -> list[Answer]:
    """Return what the model (system page, Linux 6.18) and this kernel say to each of `calls`.

    Raises NotAllowed where there is no loop device to ask.
    """
    with Machine(device="loop", system="page") as machine:
        task = machine.task()
        buf = task.mmap("64 KiB")
        fd = task.open(f"/dev/{machine.disk}")
        real = arena(16 * PAGE_SIZE)
        return [Answer(call, _model(task, fd, buf, call, machine), _kernel(machine, real, call)) for call in calls]


def _model(task: Task, fd: int, buf: int, call: Call, machine: Machine) -> int | str:
    pos = call.pos if call.pos >= 0 else machine.device.nbytes + call.pos
    try:
        return (task.pread if call.op == "read" else task.pwrite)(fd, buf + call.skew, call.nbytes, pos)
    except LabkitError as bad:
        return bad.errno_name


def _kernel(machine: Machine, real: memoryview, call: Call) -> int | str:
    device = machine.real
    assert isinstance(device, LoopDevice)  # noqa: S101 - ask() made it so
    pos = call.pos if call.pos >= 0 else device.nbytes + call.pos
    view = real[call.skew : call.skew + call.nbytes]
    try:
        return device.preadv([view], pos) if call.op == "read" else device.pwritev([view], pos)
    except OSError as bad:
        return errno_name(bad.errno or errno.EIO)
