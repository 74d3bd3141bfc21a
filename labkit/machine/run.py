"""What a scenario asks of a task: fill, move, and compare every byte."""

from collections.abc import Iterator

import numpy as np

from labkit.hardware.device import Device
from labkit.scenario import Scenario
from labkit.task import Task
from labkit.units import UserAddr

_UNMAPPED = UserAddr(0x7E00_0000_0000)
_CHUNK = 1 << 20
"""Bytes that are filled in and compared at a time."""


def perform(sc: Scenario, task: Task, device: Device, path: str, *, compare: bool = True) -> bool:
    """Do the IOs of `sc` on the device at `path`; return whether every byte arrived. Raises what an IO meets.

    Before each IO the side that it is to change is filled with what the other side does not hold. Without
    `compare` the bytes are somebody else's to compare: the buffer may be gone by then.
    """
    buf = buffer(sc, task)
    fd, good = task.open(path), True
    try:
        for i in range(sc.count):
            for at, chunk in pattern(sc, i):
                if fills(sc, task, buf):
                    task.store(buf + at, chunk)
                elif sc.op == "read" or sc.folio == "zero":
                    device.poke(sc.offset + at, chunk)
            task.settle(buf)
            moved = (task.pread if sc.op == "read" else task.pwrite)(fd, buf, sc.size, sc.offset)
            good = good and moved > 0 and (not compare or _same(sc, task, device, buf, moved))
    finally:
        task.release(buf)
    return good


def buffer(sc: Scenario, task: Task) -> int:
    """Map what the scenario's IO is to find at its address; return the address."""
    if sc.buffer == "unmapped":
        return _UNMAPPED + sc.skew
    prot = "r--" if sc.buffer == "readonly" else "rw-"
    return task.mmap(sc.size + sc.skew, sc.folio, prot) + sc.skew


def fills(sc: Scenario, task: Task, buf: int) -> bool:
    """Return whether the task fills its buffer at `buf` before the IO: else a write finds the zeros of fresh memory."""
    return sc.op == "write" and sc.folio != "zero" and sc.buffer == "mapped" and task.writable(buf)


def pattern(sc: Scenario, turn: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte of the IO, random bytes) until the size of the scenario is reached; the seed and `turn` decide."""
    rng = np.random.default_rng([sc.seed, turn])
    for at in range(0, sc.size, _CHUNK):
        yield at, rng.bytes(min(_CHUNK, sc.size - at))


def _same(sc: Scenario, task: Task, device: Device, buf: int, nbytes: int) -> bool:
    """Return whether the first `nbytes` of the buffer and of the medium are equal."""
    spans = ((at, min(_CHUNK, nbytes - at)) for at in range(0, nbytes, _CHUNK))
    return all(task.load(buf + at, n) == device.peek(sc.offset + at, n) for at, n in spans)
