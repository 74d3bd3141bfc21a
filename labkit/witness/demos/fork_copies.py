"""fork copies pinned pages at once, and shares the others: the parent keeps its frames (MM-19)."""

import errno
from collections.abc import Sequence

from labkit.errors import NotAllowed
from labkit.host.calls.child import child
from labkit.host.calls.ring import Ring
from labkit.host.memory.frames import frames, moved
from labkit.host.memory.own_pages import OwnPages
from labkit.machine import Machine
from labkit.units import PAGE_SIZE
from labkit.witness.demos.demo import Answers, Demo, Seen, Value

_PAGES, _PINNED, _TRIES = 16, 8, 8
_COLUMNS = ("page", "registered", "at fork")
_FRAMES = ("the parent's frame", "the child's frame")


def kernel() -> Seen:
    """Fork with half of a buffer registered, and look at both sides. Raises NotAllowed, SyscallError.

    Without root the parent's pagemap tells which pages it has for itself, and no frames.
    """
    with OwnPages(_PAGES) as memory, Ring(1) as ring:
        ring.register_memory([(memory.address, _PINNED * PAGE_SIZE)])
        with child() as pid:
            return _looked_at(memory, pid)


def _looked_at(memory: OwnPages, pid: int) -> Seen:
    """Compare the frames here with those of the child `pid`; again, where the kernel moves one meanwhile."""
    ours = frames(memory.address, _PAGES)
    for _ in range(_TRIES):
        if ours.pfns is None:
            return _seen(ours.exclusive.tolist())
        theirs, before, ours = frames(memory.address, _PAGES, pid), ours, frames(memory.address, _PAGES)
        if not moved(before, ours).any():
            return _seen(moved(ours, theirs).tolist(), (ours.hexes, theirs.hexes))
    rule = "do not stay: let compaction end, and try again"
    raise NotAllowed("pagemap", "the frames of a buffer", rule, errno.EAGAIN)


def model() -> Answers:
    """Return the same of the simulated machine."""
    task = Machine(ram="64 MiB", system="page").task()
    buf = task.mmap(_PAGES * PAGE_SIZE, populate=True)
    task.io_uring().register_buffers([(buf, _PINNED * PAGE_SIZE)])
    child = task.fork()
    sides = zip(*(each.frames(buf, _PAGES * PAGE_SIZE) for each in (task, child)), strict=True)
    return _answers([ours != theirs for ours, theirs in sides])


def _seen(copied: Sequence[bool], frames: Sequence[Sequence[str]] = ()) -> Seen:
    rows: list[list[Value]] = [
        [
            page,
            "yes" if page < _PINNED else "no",
            "copied" if copied[page] else "shared",
            *(side[page] for side in frames),
        ]
        for page in range(_PAGES)
    ]
    return Seen(_answers(copied), _COLUMNS + (_FRAMES if frames else ()), rows)


def _answers(copied: Sequence[bool]) -> Answers:
    return {
        "registered pages that fork copies": sum(copied[:_PINNED]),
        "other pages that it copies": sum(copied[_PINNED:]),
    }


DEMO = Demo(
    "fork-copies",
    "fork copies pinned pages",
    "A program registers 8 of its 16 pages, and forks: in which pages do parent and child share a frame?",
    "Forks once: the child touches nothing, waits for the end of a pipe, and goes before the demonstration is over, "
    "or when this process dies.",
    "A pin has to be visible to fork and to every fault after it. Today each page's count tells; a kernel of phyrs "
    "needs a way to ask whether a range is held.",
    kernel,
    model,
)
