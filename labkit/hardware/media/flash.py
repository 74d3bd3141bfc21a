"""NAND flash: dies that work side by side, a write cache that drains into them, and erases that come due.

Ours, after published figures. The cache is a fluid: every die programs all the time while anything is in it, and reads
suspend that. An erase is not suspended: its die serves nobody meanwhile. A channel's time is part of that of its dies.
"""

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from labkit.hardware.clock import Clock
from labkit.hardware.media.garbage import Garbage
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored
from labkit.hardware.media.units import Dies
from labkit.units import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class FlashProfile:
    """Flash in numbers: bytes, ns, shares of the capacity."""

    nbytes: int
    channels: int
    dies: int
    """Dies of each channel."""
    read_ns: int
    """One page of 4 KiB from its die."""
    write_ns: int
    """Until a page is in the cache, and acknowledged."""
    program_ns: int
    program_bytes: int
    """What one die programs at once, on all of its planes."""
    erase_ns: int
    block_bytes: int
    cache_bytes: int
    """0 for a drive without a cache: a write is over when it is programmed."""
    spare: float
    """Over-provisioning: capacity that is not sold, as a share of what is."""
    filled: float
    """The share of the capacity that was written before, over and over."""


class Flash(Stored[FlashProfile]):
    """One drive's worth of dies."""

    numbers: ClassVar = FlashProfile
    bounds: ClassVar = {
        "channels": (1, 256),
        "dies": (1, 256),
        "program_bytes": (PAGE_SIZE, 1 << 30),
        "block_bytes": (PAGE_SIZE, 1 << 40),
        "spare": (0.01, 10),
        "filled": (0, 1),
    }

    def __init__(self, env: Clock, media: memoryview, profile: FlashProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`; `seed` chooses the dies that are erased."""
        super().__init__(env, media, profile, seed)
        self.volatile = profile.cache_bytes > 0
        self.units = Dies(env, profile.channels * profile.dies)
        pages = -(-media.nbytes // PAGE_SIZE)
        self.garbage = Garbage(pages, profile.spare, profile.block_bytes // PAGE_SIZE, profile.filled)
        self._choice = Random(seed)  # noqa: S311 - a seeded choice
        self._speed = self.units.count * profile.program_bytes
        """Bytes that are programmed in `program_ns`."""
        self._room = profile.cache_bytes * profile.program_ns // self._speed
        """The ns that it takes to drain a cache that is full."""
        self._drained = -profile.program_ns
        """When the last program begins of all that was written up to now."""

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:
        """Take a turn on the die of each 4 KiB page; a write waits for room in the cache as well."""
        first = pos // PAGE_SIZE
        pages = (pos + nbytes - 1) // PAGE_SIZE - first + 1
        if not write:
            return self.units.reserve(first, pages, self.profile.read_ns)
        late = self._fill(first, pages)
        turn = self.units.reserve(first, pages, self.profile.write_ns)
        if late > turn.wait:
            turn = turn._replace(wait=late)
        if not fua and self.volatile:
            return turn
        own = max(1, -(-pages * PAGE_SIZE // self._speed)) * self.profile.program_ns
        return turn._replace(busy=turn.busy + own)  # its own programs go before those of the cache

    def flush(self) -> int:
        """Return the ns until every die is through with what it has taken, and the cache is empty."""
        return max(self.units.idle(), self._lasts() - self.env.now)

    def _lasts(self) -> int:
        return self._drained + self.profile.program_ns if self.volatile else self.env.now

    def _fill(self, first: int, pages: int) -> int:
        """Put `pages` into the cache; return the ns until it has room for them."""
        now = self.env.now
        cost = pages * PAGE_SIZE * self.profile.program_ns // self._speed
        erased, moved = self.garbage.write(first, pages)
        if erased:
            cost += self._collect(erased, moved)
        self._drained = max(self._drained, now) + cost
        return max(0, self._drained - now - (self._room or cost))

    def _collect(self, erased: int, moved: int) -> int:
        """Keep as many dies busy with an erase; return the ns by which all of that holds up programming."""
        numbers, dies = self.profile, self.units
        for _ in range(min(erased, dies.count)):
            dies.occupy(self._choice.randrange(dies.count), numbers.erase_ns)
        programs = moved * PAGE_SIZE * numbers.program_ns // numbers.program_bytes
        return (erased * numbers.erase_ns + moved * numbers.read_ns + programs) // dies.count
