"""A disk of the host behind a virtual one: what a guest sees of it, on average."""

from dataclasses import dataclass
from typing import ClassVar

from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored
from labkit.hardware.media.units import Lanes


@dataclass(frozen=True, slots=True)
class HostProfile:
    """The disk in numbers: bytes, ns, bytes per ns, and how many IOs the host serves at a time."""

    nbytes: int
    read_ns: int
    write_ns: int
    bytes_per_ns: float
    """Of all servers together."""
    servers: int


class Host(Stored[HostProfile]):
    """Servers with a latency each, and one bandwidth for them all; what the host has written, it keeps."""

    numbers: ClassVar = HostProfile
    bounds: ClassVar = {"servers": (1, 65536), "bytes_per_ns": (0.001, 1000)}

    def __init__(self, env: Clock, media: memoryview, profile: HostProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`."""
        super().__init__(env, media, profile, seed)
        self.lanes = Lanes(env, profile.servers)
        self._pipe = 0

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - all is FUA
        """Take a turn of the server that is free first; its bytes go when those of whoever came before are through."""
        latency = self.profile.write_ns if write else self.profile.read_ns
        ready = self.env.now + self.lanes.start() + latency
        begin = max(self._pipe, ready)
        self._pipe = begin + int(nbytes / self.profile.bytes_per_ns)
        return self.lanes.reserve(self._pipe - ready + latency)

    def flush(self) -> int:
        """Return the ns until all servers are through with what they have taken."""
        return self.lanes.idle()
