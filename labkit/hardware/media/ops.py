"""What a controller asks of whatever stores its bytes: a turn, and the bytes."""

from typing import NamedTuple, Protocol

from labkit.scatter.payload import Range


class Turn(NamedTuple):
    """When a transfer is served, from now, in ns."""

    wait: int
    """Until its first part begins."""
    busy: int
    """From there until its last part is through."""
    unit: int = 0
    """The channel, die, head or lane that serves its first part."""


class Medium(Protocol):
    """Flash, a platter, a chip. `reserve` is called at the arrival of a transfer, once, and takes the time for it.

    First come, first served at each unit: no queue is kept, each unit knows when it is free (hardware.device.Server).
    """

    nbytes: int
    """Capacity in bytes."""
    media: memoryview
    """The bytes, the newest of each; a controller reads and writes them where they are."""
    volatile: bool
    """Whether what is written can be lost with the power until it is flushed or written with FUA."""

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:
        """Take a turn for `nbytes` at byte `pos`; `fua`: a write is durable when it is through."""

    def flush(self) -> int:
        """Take a turn for making all that was written durable; return the ns until that is so."""

    def journal(self) -> None:
        """Remember from now on what each write replaces, until it is durable: power may be lost."""

    def keep(self, pos: int, nbytes: int, *, fua: bool = False) -> None:
        """Be told that `nbytes` at `pos` are about to be replaced; nothing happens without a journal."""

    def power_cut(self, seed: int) -> list[Range]:
        """Lose the power: some sectors of what was not durable are as they were before; return them (pos, bytes).

        Which ones, `seed` decides: a write may be torn in its middle.
        """
