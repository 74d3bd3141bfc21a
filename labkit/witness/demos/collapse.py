"""MADV_COLLAPSE makes one folio of 512 pages, unless a single one of them is pinned (MM-21)."""

import errno
from random import Random

from labkit.errors import NotAllowed
from labkit.host.calls.ring import Ring
from labkit.host.memory.frames import frames, moved, runs
from labkit.host.memory.own_pages import MADV_COLLAPSE, MADV_HUGEPAGE, OwnPages, madvise
from labkit.units import PAGE_SIZE, PMD_ORDER
from labkit.witness.demos.demo import Demo, Seen, Value, said

_PAGES = 1 << PMD_ORDER
_PINNED, _TRIES = 7, 8
"""Which page of the 512 is registered: any would do; how often the others are asked of, should one be busy."""
_CASES = ("one of 512 pages registered", "no page registered")
_COLUMNS = ("buffer of 2 MiB", "MADV_COLLAPSE")
_FRAMES = ("pages that moved", "runs of frames before", "and after")


def kernel() -> Seen:
    """Ask for one folio of 2 MiB with a page registered, and again without. Raises NotAllowed, SyscallError.

    With root the frames are compared; without, the answer of the call is all.
    """
    disorder = Random(0).sample(range(_PAGES), _PAGES)  # noqa: S311 - it is for frames that lie apart
    with OwnPages(_PAGES, align=_PAGES * PAGE_SIZE, order=disorder) as memory:
        with Ring(1) as ring:
            ring.register_memory(memory.regions([_PINNED]))
            pinned = _collapse(memory)
        for _ in range(_TRIES):
            free = _collapse(memory)
            if free[0] == 0:
                break
    if free[0] != 0:
        rule = f"says {free[0]} where nobody holds a page: 2 MiB in one piece are not to be had; free some memory"
        raise NotAllowed("collapse", "MADV_COLLAPSE", rule, errno.ENOMEM)
    rows = [[case, *row] for case, row in zip(_CASES, (pinned, free), strict=True)]
    answers = {f"MADV_COLLAPSE, {case}": row[1] for case, row in zip(_CASES, rows, strict=True)}
    return Seen(answers, _COLUMNS + _FRAMES[: len(free) - 1], rows)


def _collapse(memory: OwnPages) -> list[Value]:
    """Return what the call says; with root also how many pages moved, and the runs of frames before and after."""
    before = frames(memory.address, memory.pages)
    madvise(memory.address, memory.nbytes, MADV_HUGEPAGE)
    answer = said(madvise(memory.address, memory.nbytes, MADV_COLLAPSE))
    after = frames(memory.address, memory.pages)
    if before.pfns is None:
        return [answer]
    return [answer, int(moved(before, after).sum()), runs(before), runs(after)]


DEMO = Demo(
    "collapse",
    "One pin keeps 2 MiB from becoming one folio",
    "A buffer of 512 scattered pages is to become one folio of 2 MiB: does that work while one of them is registered?",
    "Maps 2 MiB of its own, registers one page and advises on them; all of it ends with the demonstration.",
    "One small pin decides over the 511 pages beside it: what pins for long should pin whole folios.",
    kernel,
)
