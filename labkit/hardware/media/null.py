"""Bytes and no device: null_blk with memory_backed=1."""

from dataclasses import dataclass
from typing import ClassVar

from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored

NULL_IRQ_TIMER = 2


@dataclass(frozen=True, slots=True)
class NullProfile:
    """The module's parameters."""

    nbytes: int
    irqmode: int
    """0 ends an IO in queue_rq, 1 in a softirq, 2 by a timer."""
    completion_nsec: int
    """What the timer takes."""


class Null(Stored[NullProfile]):
    """No time, or the same for every IO, as many at once as are given."""

    numbers: ClassVar = NullProfile
    bounds: ClassVar = {"irqmode": (0, NULL_IRQ_TIMER)}

    def __init__(self, env: Clock, media: memoryview, profile: NullProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`."""
        super().__init__(env, media, profile, seed)
        self._turn = Turn(0, profile.completion_nsec if profile.irqmode == NULL_IRQ_TIMER else 0)

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - all alike
        """Return what every IO takes."""
        return self._turn
