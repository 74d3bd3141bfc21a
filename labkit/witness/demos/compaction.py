"""Compaction moves pages that nobody holds, and none that is pinned (MM-21)."""

import errno
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from labkit.errors import NotAllowed
from labkit.host.calls.ring import Ring
from labkit.host.memory.frames import frames, moved
from labkit.host.memory.own_pages import MADV_DONTNEED, OwnPages, compact_memory, madvise
from labkit.kernel.mm.fault.migrate import migrate_pages
from labkit.machine import Machine
from labkit.units import PAGE_SIZE
from labkit.witness.demos.demo import Answers, Demo, Seen, Value

_PAGES, _PINNED = 16384, 1024
"""64 MiB, every second page of which is freed; 1024 of those that stay are registered, as many as one call takes."""
_TRIES, _MANY = 4, 8
"""Compaction ends where its two scanners meet, which may be below most of the buffer: it is tried again until an eighth
has moved, and the most that was seen is told, most of all a registered page that moves."""


class Moved(NamedTuple):
    """How many pages moved, and how many there were: of the registered ones, and of the others."""

    pinned: int
    of_pinned: int
    free: int
    of_free: int


def kernel() -> Seen:
    """Compact all memory while holes and pinned pages alternate. Raises NotAllowed, SyscallError."""
    found = _most_moved()
    if found.free:
        pinned: list[Value] = ["registered", found.of_pinned, found.pinned]
        others: list[Value] = ["not registered", found.of_free, found.free]
        return Seen(_answers(found), ("pages", "there are", "moved"), [pinned, others])
    rule = "are moved by compaction, though nobody holds them: they lie where it does not reach; try again later"
    raise NotAllowed("compaction", f"none of {found.of_free} pages", rule, errno.EAGAIN)


def model() -> Answers:
    """Return the same of the simulated machine, which is asked to move all of a buffer."""
    machine = Machine(ram="64 MiB", system="page")
    task = machine.task()
    buf = task.mmap(64 * PAGE_SIZE, populate=True)
    task.io_uring().register_buffers([(buf + page * PAGE_SIZE, PAGE_SIZE) for page in range(0, 64, 2)])
    before = list(task.frames(buf, 64 * PAGE_SIZE))
    migrate_pages(machine.frames, machine.mms, before)
    changed = [old != new for old, new in zip(before, task.frames(buf, 64 * PAGE_SIZE), strict=True)]
    return _answers(Moved(sum(changed[::2]), 32, sum(changed[1::2]), 32))


def _most_moved() -> Moved:
    """Return what most moved of: a buffer that lay too high is kept, so that the next one lies elsewhere."""
    found = Moved(0, 0, 0, 0)
    with ExitStack() as kept:
        for _ in range(_TRIES):
            memory = kept.enter_context(OwnPages(_PAGES))
            found = max(found, _compact(memory), key=lambda each: (each.pinned, each.free, each.of_free))
            if found.pinned or found.free > found.of_free // _MANY:
                break
            memory.touch(range(_PAGES))
    return found


def _compact(memory: OwnPages) -> Moved:
    """Free every second page of `memory`, register some of the others, and compact. Raises NotAllowed, SyscallError."""
    step = _PAGES // _PINNED
    pinned = np.arange(0, _PAGES, step)
    others = np.setdiff1d(np.arange(0, _PAGES, 2), pinned)
    with Ring(1) as ring:
        ring.register_memory(memory.regions(pinned.tolist()))
        for address, nbytes in memory.regions(range(1, _PAGES, 2)):
            madvise(address, nbytes, MADV_DONTNEED)
        before = frames(memory.address, _PAGES)
        compact_memory()
        changed = moved(before, frames(memory.address, _PAGES))
    return Moved(int(changed[pinned].sum()), len(pinned), int(changed[others].sum()), len(others))


def _answers(found: Moved) -> Answers:
    return {
        "registered pages that move": found.pinned,
        "others move": "yes" if found.free else "no",
    }


DEMO = Demo(
    "compaction",
    "Compaction moves what nobody holds",
    "64 MiB with a hole at every second page, 1024 pages of it registered: which of them does compaction move?",
    "Maps 64 MiB of its own, 256 MiB at most, and writes 1 to vm.compact_memory: the kernel moves pages of all "
    "programs, whose bytes and addresses stay. Nothing is set, so nothing has to be set back.",
    "Compaction reaches as far as its two scanners do; there a pin makes memory unmovable, page by page. What is held "
    "as a range for long should be placed well before.",
    kernel,
    model,
)
