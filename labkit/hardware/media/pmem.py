"""Persistent memory: a latency, and a bandwidth that everybody shares."""

from dataclasses import dataclass
from typing import ClassVar

from labkit.hardware.clock import Clock
from labkit.hardware.device import Server
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored

_RATE = (0.001, 10_000)


@dataclass(frozen=True, slots=True)
class PmemProfile:
    """The modules in numbers: bytes, ns, bytes per ns."""

    nbytes: int
    read_ns: int
    write_ns: int
    """Until a store is in the write-pending queue, which outlives the power (ADR)."""
    read_bytes_per_ns: float
    write_bytes_per_ns: float


class Pmem(Stored[PmemProfile]):
    """Modules that are interleaved: they pass bytes like one."""

    numbers: ClassVar = PmemProfile
    bounds: ClassVar = {"read_bytes_per_ns": _RATE, "write_bytes_per_ns": _RATE}

    def __init__(self, env: Clock, media: memoryview, profile: PmemProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`."""
        super().__init__(env, media, profile, seed)
        self._pipe = Server(env)

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - all is FUA
        """Take a turn of the bandwidth; the latency comes on top, and holds up nobody else."""
        numbers = self.profile
        latency, rate = numbers.read_ns, numbers.read_bytes_per_ns
        if write:
            latency, rate = numbers.write_ns, numbers.write_bytes_per_ns
        service = int(nbytes / rate)
        return Turn(self._pipe.reserve(service), latency + service)

    def flush(self) -> int:
        """Return the ns until all that was taken is through."""
        return self._pipe.reserve(0)
