"""Memory of a GPU as the other side of a transfer: what its BAR and the way to it take.

A BAR is read at a fraction of what it is written at: a read must come back, and few are under way at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from labkit.hardware.table import Overrides, profile

_RATE = (0.001, 10_000)
_BOUNDS = {"read_bytes_per_ns": _RATE, "write_bytes_per_ns": _RATE}


@dataclass(frozen=True, slots=True)
class Bar:
    """The BAR in numbers: ns, bytes per ns."""

    read_bytes_per_ns: float
    write_bytes_per_ns: float
    switch_ns: int
    """What a way below one switch adds."""
    bridge_ns: int
    """What a way through the host bridge adds."""

    @classmethod
    def load(cls, path: Path, overrides: Overrides | None = None) -> Self:
        """Read a profile from the TOML file at `path`. Raises BadInput for nonsense (hardware.table.profile)."""
        return profile(cls, path, overrides, _BOUNDS)

    def ns(self, nbytes: int, *, write: bool, bridge: bool = False) -> int:
        """Return the ns that `nbytes` take into the BAR (`write`) or out of it, through the host bridge or a switch."""
        rate = self.write_bytes_per_ns if write else self.read_bytes_per_ns
        return (self.bridge_ns if bridge else self.switch_ns) + int(nbytes / rate)
