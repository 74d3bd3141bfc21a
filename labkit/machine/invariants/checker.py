"""A sink that looks: whatever a record breaks becomes a Violation, in the instant in which it is broken."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from labkit.hardware.clock import Clock
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine.invariants.census import Broken, take_census
from labkit.machine.invariants.flight import Flight
from labkit.machine.invariants.free_frames import check_buddy, set_aside
from labkit.machine.invariants.memory import check_memory
from labkit.trace.events import (
    DupMmap,
    FolioFlags,
    GupPin,
    GupUnpin,
    Hazard,
    MemremapPages,
    MemunmapPages,
    Mmap,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Mprotect,
    Munmap,
    Record,
    SetPtes,
    SplitHugePmd,
    Violation,
    ZapPtes,
)  # fmt: skip

_MEMORY = (
    DupMmap, FolioFlags, GupPin, GupUnpin, Hazard, MemremapPages, MemunmapPages, Mmap, MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache, MmMigratePages, MmPageAlloc, MmPageFree, Mprotect, Munmap, SetPtes, SplitHugePmd,
    ZapPtes,
)  # fmt: skip
"""Records after which memory is another."""
_MOST = 16
"""Violations that are told; what is broken once breaks more and more."""


class Watched(NamedTuple):
    """What is looked at: a machine's memory, and the IOs on their way."""

    clock: Clock
    frames: Frames
    mms: Sequence[Mm]
    kept: Callable[[], int]
    """Frames that the kernel has for itself now, by the machine's own account."""
    flight: Flight | None
    """None where only the last look counts."""


class Checker:
    """Looks after every record: at the IO's own invariants at once, at those of memory at the end of the instant.

    In the middle of an instant an operation may be half done, and is not judged. It changes nothing.
    """

    def __init__(self) -> None:
        """Count records; `watch` says what is to be looked at."""
        self.watched: Watched | None = None
        self._count = self._suspect = self._told = 0
        self._due = False
        self._found: list[tuple[int, Broken]] = []
        self._known: set[tuple[str, str]] = set()

    def watch(self, watched: Watched) -> None:
        """Look at `watched` from now on, as it was built."""
        self.watched = watched

    def __call__(self, rec: Record) -> None:
        """Take note of `rec`, and look when its instant is over."""
        number, self._count = self._count, self._count + 1
        if self.watched is None or isinstance(rec, Violation):
            return
        if isinstance(rec, _MEMORY):
            self._suspect = number
        if self.watched.flight is None:
            return
        self._found += [(number, broken) for broken in self.watched.flight.see(rec)]
        if not self._due and (self._found or isinstance(rec, _MEMORY)):
            self._due = True
            self.watched.clock.later(0, self._end_of_instant)

    def look(self) -> None:
        """Look at all of memory now, and tell what is broken, once each."""
        if self.watched is not None:
            frames, mms = self.watched.frames, self.watched.mms
            broken = [*check_memory(frames, mms)]
            others = self.watched.kept() + set_aside(frames)
            broken += check_buddy(frames.buddy, take_census(frames.folios), others)
            self.tell((self._suspect, each) for each in broken)

    def tell(self, found: Iterable[tuple[int, Broken]]) -> None:
        """Make a Violation of each (record number, broken invariant) that was not told before."""
        for number, (name, text, addr) in (*self._found, *found):
            if (name, text) not in self._known and self._told < _MOST and self.watched is not None:
                self._known.add((name, text))
                self._told += 1
                self.watched.frames.emit(("Violation", self.watched.clock.now, 0, name, number, text, addr))
        self._found.clear()

    def _end_of_instant(self) -> None:
        """Look when nothing else happens in this instant; else let that happen first."""
        if self.watched is None:
            return
        if self.watched.clock.peek() == self.watched.clock.now:
            self.watched.clock.later(0, self._end_of_instant)
            return
        self._due = False
        self.look()
