"""The bytes of a medium, and what is left of them when the power fails."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from labkit.hardware.clock import Clock
from labkit.hardware.table import Bounds, Overrides, profile
from labkit.scatter.payload import Range, run_length
from labkit.units import SECTOR_SHIFT, SECTOR_SIZE

P = TypeVar("P")


class Undo(NamedTuple):
    """What a write has replaced: it can be lost as long as the clock has not passed `until` (ns)."""

    until: int
    pos: int
    old: bytes


class Stored(Generic[P]):
    """What every medium has in common: a profile, bytes, and a journal of those that are not durable yet.

    Here a write is durable as soon as the instant of `keep` is over; a medium with a cache knows better (`_lasts`).
    """

    numbers: ClassVar[type[Any]]
    """The dataclass of its profile."""
    bounds: ClassVar[Bounds] = {}
    volatile = False

    def __init__(self, env: Clock, media: memoryview, profile: P, seed: int = 0) -> None:  # noqa: ARG002 - for chance
        """Keep the bytes in `media`, whose length is the capacity; `seed` decides whatever is left to chance."""
        self.env, self.media, self.nbytes, self.profile = env, media, media.nbytes, profile
        self._undo: deque[Undo] | None = None

    @classmethod
    def load(
        cls,
        path: Path,
        env: Clock,
        arena: Callable[[int], memoryview],
        overrides: Overrides | None = None,
        seed: int = 0,
    ) -> Self:
        """Make the medium that the TOML file at `path` describes; `arena` returns as many bytes as it is asked for.

        Raises BadInput for nonsense (hardware.table.profile), before it asks for memory.
        """
        numbers = profile(cls.numbers, path, overrides, cls.bounds)
        return cls(env, arena(numbers.nbytes), numbers, seed)

    def flush(self) -> int:
        """Return the ns until all that was written is durable: none, nothing is kept back."""
        return 0

    def journal(self) -> None:
        """Remember from now on what each write replaces, until it is durable: power may be lost."""
        self._undo = deque()

    def keep(self, pos: int, nbytes: int, *, fua: bool = False) -> None:
        """Be told that `nbytes` at `pos` are about to be replaced; nothing happens without a journal."""
        undo = self._undo
        if undo is None:
            return
        now = self.env.now
        while undo and undo[0].until < now:
            undo.popleft()
        undo.append(Undo(now if fua else self._lasts(), pos, bytes(self.media[pos : pos + nbytes])))

    def power_cut(self, seed: int) -> list[Range]:
        """Lose the power: some sectors of what was not durable are as they were before; return them (pos, bytes).

        Each sector goes back write by write, newest first, until a durable one or `seed` says stop (ours: one in two).
        The journal is empty then.
        """
        coin, settled, lost = Random(seed), set[int](), set[int]()  # noqa: S311 - a seeded choice
        for until, pos, old in reversed(self._undo or ()):
            durable = until < self.env.now
            for at in range(0, len(old), SECTOR_SIZE):
                sector = (pos + at) >> SECTOR_SHIFT
                if sector in settled:
                    continue
                if durable or coin.getrandbits(1):
                    settled.add(sector)
                    continue
                piece = old[at : at + SECTOR_SIZE]
                self.media[pos + at : pos + at + len(piece)] = piece
                lost.add(sector)
        if self._undo is not None:
            self._undo.clear()
        return list(run_length([(sector << SECTOR_SHIFT, SECTOR_SIZE) for sector in sorted(lost)]))

    def _lasts(self) -> int:
        """Return the time (ns) from which on what is written now can no longer be lost."""
        return self.env.now
