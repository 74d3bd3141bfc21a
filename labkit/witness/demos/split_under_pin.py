"""A hole is punched in a huge page of a memfd: the folio is split, unless somebody holds a page of it (MM-14)."""

from labkit.errors import SyscallError
from labkit.host.calls.ring import Ring
from labkit.host.memory.buffer import RealBuffer, real_buffer
from labkit.host.memory.kpageflags import large_folios
from labkit.host.memory.own_pages import MADV_REMOVE, madvise
from labkit.host.memory.pagemap import rows
from labkit.host.memory.vm_events import counters
from labkit.host.undo import Undo
from labkit.units import PAGE_SIZE, PMD_ORDER
from labkit.witness.demos.demo import Demo, Seen, Value

_FOLIO = PAGE_SIZE << PMD_ORDER
_HOLE = (64, 16)
"""First page and pages of the hole: inside one folio."""
_TRIES = 8
_CASES = ("nobody holds a page", "one page is registered")
_COUNTERS = ("thp_split_page", "thp_split_page_failed")


def kernel() -> Seen:
    """Punch a hole into a folio of 2 MiB, once free and once pinned. Raises NotAllowed, SyscallError."""
    seen = [_free(), _punch(pinned=True)]
    table: list[list[Value]] = [[case, *row] for case, row in zip(_CASES, seen, strict=True)]
    answers: dict[str, Value] = {
        f"the folio, {case}": "is split" if row[1] < row[0] else "stays whole"
        for case, row in zip(_CASES, seen, strict=True)
    }
    return Seen(answers, ("hole of 64 KiB", "pages of the folio before", "and after", *_COUNTERS), table)


def _free() -> tuple[int, int, int, int]:
    """Return what _punch says of a folio that nobody holds; again, where somebody looked at it in that instant."""
    for _ in range(_TRIES - 1):
        found = _punch(pinned=False)
        if found[1] < found[0]:
            return found
    return _punch(pinned=False)


def _punch(*, pinned: bool) -> tuple[int, int, int, int]:
    """Return the pages of the folio before and after, and what was added to _COUNTERS meanwhile by anybody.

    Raises SyscallError where no hole can be punched.
    """
    with Undo() as undo, real_buffer("memfd-2MiB", _FOLIO, undo) as memory, Ring(1) as ring:
        if pinned:
            ring.register_memory([(memory.address, PAGE_SIZE)])
        before, counted = _pages(memory), counters(_COUNTERS)
        if failed := madvise(memory.address + _HOLE[0] * PAGE_SIZE, _HOLE[1] * PAGE_SIZE, MADV_REMOVE):
            raise SyscallError("madvise", "MADV_REMOVE", "punches no hole into a memfd", -failed)
        split, whole = (now - then for now, then in zip(counters(_COUNTERS), counted, strict=True))
        for at in range(0, _FOLIO, PAGE_SIZE):
            memory.view[at]  # mapped again: the whole folio was unmapped to be split
        return before, _pages(memory), split, whole


def _pages(memory: RealBuffer) -> int:
    """Return the pages of the largest folio that the first page is of."""
    return max((pages for _, pages, _ in large_folios(rows(memory.address, PAGE_SIZE))), default=1)


DEMO = Demo(
    "split-under-pin",
    "A huge page does not split under a pin",
    "A hole of 64 KiB is punched in a huge page: is the folio of 512 pages split, also while one page is registered?",
    "Makes two memfds of 2 MiB; while they are filled, huge pages of shmem are allowed by a setting that is written "
    "down before and set back right after. The counters are the whole machine's: other processes may add.",
    "Whoever holds a page holds its folio's shape. Where ranges flow, what is held has to be told in ranges, too.",
    kernel,
)
