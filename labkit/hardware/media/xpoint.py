"""3D XPoint: reads and writes alike, in place. There is no cache, nothing to erase and nothing to collect."""

from dataclasses import dataclass
from typing import ClassVar

from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored
from labkit.hardware.media.units import Dies
from labkit.units import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class XpointProfile:
    """The chips in numbers: bytes, ns for each page of 4 KiB."""

    nbytes: int
    units: int
    read_ns: int
    write_ns: int


class Xpoint(Stored[XpointProfile]):
    """Chips that own every n-th page each."""

    numbers: ClassVar = XpointProfile
    bounds: ClassVar = {"units": (1, 65536)}

    def __init__(self, env: Clock, media: memoryview, profile: XpointProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`."""
        super().__init__(env, media, profile, seed)
        self.units = Dies(env, profile.units)

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - all is FUA
        """Take a turn on the chip of each 4 KiB page."""
        first, service = pos // PAGE_SIZE, self.profile.write_ns if write else self.profile.read_ns
        return self.units.reserve(first, (pos + nbytes - 1) // PAGE_SIZE - first + 1, service)

    def flush(self) -> int:
        """Return the ns until every chip is through with what it has taken."""
        return self.units.idle()
