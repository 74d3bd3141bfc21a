"""A disk that turns: the arm seeks, the sector comes round, the track goes by under the head.

Ours, after Ruemmler and Wilkes (An Introduction to Disk Drive Modeling, IEEE Computer 27(3), 1994): the time of a seek
grows with the root of its distance, and the platter never stops, so where it stands depends on the clock. The caches of
track and writes are off; switching heads takes no time; requests are served first come, first served.
"""

import errno
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import ClassVar, NamedTuple

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored
from labkit.units import SECTOR_SIZE

_MINUTE = 60_000_000_000
_RATE = (0.001, 1000)


@dataclass(frozen=True, slots=True)
class DiskProfile:
    """The disk in numbers: bytes, ns, bytes per ns."""

    nbytes: int
    rpm: int
    """Turns in a minute."""
    zones: int
    """Zones of tracks of one length each; their rate falls evenly from the outer one to the inner one."""
    heads: int
    """Tracks of one cylinder, which need no seek between them."""
    track_seek_ns: int
    full_seek_ns: int
    outer_bytes_per_ns: float
    inner_bytes_per_ns: float


class Place(NamedTuple):
    """Where a byte is: its cylinder, how far round its track it begins (ns), and the bytes of that track."""

    cylinder: int
    angle: int
    track: int


class Disk(Stored[DiskProfile]):
    """One arm over turning platters."""

    numbers: ClassVar = DiskProfile
    bounds: ClassVar = {
        "rpm": (1, 1_000_000),
        "zones": (1, 1024),
        "heads": (1, 64),
        "outer_bytes_per_ns": _RATE,
        "inner_bytes_per_ns": _RATE,
    }

    def __init__(self, env: Clock, media: memoryview, profile: DiskProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`; the arm begins over the first byte, the platter where `seed` says.

        Raises BadInput for a way across the disk that is shorter than one to the next cylinder.
        """
        super().__init__(env, media, profile, seed)
        if profile.full_seek_ns < profile.track_seek_ns:
            what, rule = f"full_seek_ns={profile.full_seek_ns}", f"is less than track_seek_ns={profile.track_seek_ns}"
            raise BadInput("profile", what, rule, errno.EINVAL)
        self.turn_ns = _MINUTE // profile.rpm
        self._first = Random(seed).randrange(self.turn_ns)  # noqa: S311 - a seeded choice
        self._zone = -(-media.nbytes // profile.zones)
        """Bytes of each zone."""
        self._tracks = [self._track(zone) for zone in range(profile.zones)]
        self._starts = [0]
        """The first cylinder of each zone, and the one past the last."""
        for track in self._tracks:
            self._starts.append(self._starts[-1] - (-self._zone // (track * profile.heads)))
        self._arm = self._free = 0

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - both alike
        """Take a turn of the arm: seek, wait for the sector to come round, read or write."""
        now, place = self.env.now, self.place(pos)
        start = max(self._free, now)
        there = start + self.seek(self._arm, place.cylinder)
        rotation = (place.angle - self._first - there) % self.turn_ns
        self._free = there + rotation + nbytes * self.turn_ns // place.track
        self._arm = self.place(max(pos, pos + nbytes - 1)).cylinder
        return Turn(start - now, self._free - start)

    def flush(self) -> int:
        """Return the ns until the arm is through with what it has taken."""
        return max(0, self._free - self.env.now)

    def place(self, pos: int) -> Place:
        """Return where the byte at `pos` is."""
        zone, inside = divmod(pos, self._zone)
        track = self._tracks[zone]
        cylinder = self._starts[zone] + inside // (track * self.profile.heads)
        return Place(cylinder, inside % track * self.turn_ns // track, track)

    def seek(self, here: int, there: int) -> int:
        """Return the ns that the arm takes between two cylinders."""
        distance, most = abs(there - here), max(self._starts[-1] - 2, 1)
        if not distance:
            return 0
        shortest = self.profile.track_seek_ns
        return shortest + int((self.profile.full_seek_ns - shortest) * sqrt((distance - 1) / most))

    def _track(self, zone: int) -> int:
        """Return the bytes of a track of `zone`: whole sectors, as many as go by in one turn."""
        outer, inner = self.profile.outer_bytes_per_ns, self.profile.inner_bytes_per_ns
        rate = outer + (inner - outer) * zone / max(self.profile.zones - 1, 1)
        return max(int(rate * self.turn_ns) // SECTOR_SIZE, 1) * SECTOR_SIZE
