"""Any device in four numbers: average and 99th percentile, for reads and for writes.

Ours: the latencies follow the lognormal distribution that has these two, and p99 is at most 14.9 times the average.
"""

import errno
from dataclasses import dataclass
from math import log, sqrt
from random import Random
from typing import ClassVar, NamedTuple

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn
from labkit.hardware.media.stored import Stored
from labkit.hardware.media.units import Lanes

_Z99 = 2.3263478740408408
"""99 % of a normal distribution lie below so many standard deviations over its mean."""


@dataclass(frozen=True, slots=True)
class DelayProfile:
    """The device in numbers: bytes, ns, and how many IOs it serves at a time."""

    nbytes: int
    read_avg_ns: int
    read_p99_ns: int
    write_avg_ns: int
    write_p99_ns: int
    servers: int


class Lognormal(NamedTuple):
    """What `Random.lognormvariate` takes."""

    mu: float
    sigma: float

    @classmethod
    def fit(cls, name: str, average: int, p99: int) -> "Lognormal | None":
        """Return the one with this average and this 99th percentile, in ns; None for no time at all.

        Raises BadInput, in the `name` of both, where there is none.
        """
        if average == p99 == 0:
            return None
        if not 0 < average <= p99 or (root := _Z99**2 - 2 * log(p99 / average)) < 0:
            rule = f"does not go with an average of {average} ns: it is 1 to 14.9 times as much"
            raise BadInput("profile", f"{name}_p99_ns={p99}", rule, errno.EINVAL)
        sigma = _Z99 - sqrt(root)  # average = exp(mu + sigma**2 / 2), p99 = exp(mu + z * sigma)
        return cls(log(average) - sigma**2 / 2, sigma)


class Delay(Stored[DelayProfile]):
    """Servers that take a random time for each IO, whatever its size."""

    numbers: ClassVar = DelayProfile
    bounds: ClassVar = {"servers": (1, 65536)}

    def __init__(self, env: Clock, media: memoryview, profile: DelayProfile, seed: int = 0) -> None:
        """Keep the bytes in `media`; `seed` begins the row of latencies. Raises BadInput for a wrong p99."""
        super().__init__(env, media, profile, seed)
        self.lanes = Lanes(env, profile.servers)
        self._reads = Lognormal.fit("read", profile.read_avg_ns, profile.read_p99_ns)
        self._writes = Lognormal.fit("write", profile.write_avg_ns, profile.write_p99_ns)
        self._chance = Random(seed)  # noqa: S311 - a seeded row

    def reserve(self, pos: int, nbytes: int, *, write: bool, fua: bool = False) -> Turn:  # noqa: ARG002 - all alike
        """Take a turn of the server that is free first."""
        fitted = self._writes if write else self._reads
        return self.lanes.reserve(round(self._chance.lognormvariate(*fitted)) if fitted else 0)

    def flush(self) -> int:
        """Return the ns until all servers are through with what they have taken."""
        return self.lanes.idle()
