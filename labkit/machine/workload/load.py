"""What is offered to a machine: how many IOs, of what kind, and when each of them comes."""

import errno
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from labkit.errors import BadInput
from labkit.scenario import parse_bytes

ARRIVALS = ("closed", "poisson", "uniform", "bursty")
_SECOND = 1_000_000_000
_BOUNDS = {
    "jobs": (1, 1024), "depth": (1, 65536), "count": (1, 10_000_000), "read": (0, 1), "rate": (0, 1e9),
    "burst": (1, 65536), "seed": (0, (1 << 63) - 1),
}  # fmt: skip
_MOST_BYTES = 1 << 30
_BLOCK = 512


@dataclass(frozen=True)
class Load:
    """IOs of `jobs` tasks, `count` of them altogether; a share of `read` are reads, and the rest writes.

    Closed: each task keeps `depth` IOs on their way. Else the loop is open: `rate` IOs a second come from outside,
    whatever has become of those before them.
    """

    jobs: int = 1
    depth: int = 1
    count: int = 1000
    read: float = 1.0
    size: int | str = "4 KiB"
    """Bytes of an IO: a number, text such as '4 KiB', or several with commas between, each as often as the others."""
    span: int | str = 0
    """The bytes from the start of the device that they go to; 0 for all of it."""
    random: bool = True
    """Offsets at random over the device, or each task's one after the other."""
    arrivals: str = "closed"
    """When they come: one of ARRIVALS."""
    rate: float = 0
    burst: int = 8
    """How many come together, where arrivals are bursty."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Raise BadInput EINVAL for the first thing that makes no sense."""
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise BadInput("load", f"{name}={value!r}"[:80], f"is not from {low} to {high:g}", errno.EINVAL)
        if self.arrivals not in ARRIVALS:
            what = f"arrivals={self.arrivals!r}"[:80]
            raise BadInput("load", what, f"is none of {', '.join(ARRIVALS)}", errno.EINVAL)
        if self.open != bool(self.rate):
            rule = "needs a rate of IOs a second" if self.open else f"has no rate, and rate={self.rate:g}"
            raise BadInput("load", f"arrivals={self.arrivals}", rule, errno.EINVAL)
        for nbytes in self.sizes:
            if nbytes % _BLOCK or not _BLOCK <= nbytes <= _MOST_BYTES:
                raise BadInput("load", f"size={nbytes}", f"is not a multiple of {_BLOCK} to 1 GiB", errno.EINVAL)
        if self.span_bytes < 0:
            raise BadInput("load", f"span={self.span}", "is negative", errno.EINVAL)

    @property
    def open(self) -> bool:
        """Whether IOs come from outside, whatever became of those before."""
        return self.arrivals != "closed"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of IOs, in bytes. Raises BadInput for what is no size."""
        texts = self.size.split(",") if isinstance(self.size, str) else (self.size,)
        return tuple(parse_bytes("load", "size", text) for text in texts)

    @property
    def span_bytes(self) -> int:
        """The bytes of `span`. Raises BadInput for what is no size."""
        return parse_bytes("load", "span", self.span)

    def gaps(self) -> Iterator[int]:
        """Yield the ns from each arrival of an open loop to the next; the first one is before the first arrival.

        poisson: exponential, so that nobody knows when the next one comes; uniform: 0 to twice the mean; bursty:
        `burst` at once, bursts as poisson.
        """
        chance, mean = Random(self.seed), _SECOND / self.rate  # noqa: S311 - a seeded row
        for number in range(self.count):
            if self.arrivals == "uniform":
                yield round(chance.uniform(0, 2 * mean))
            elif self.arrivals == "poisson":
                yield round(chance.expovariate(1 / mean))
            else:
                yield 0 if number % self.burst else round(chance.expovariate(1 / mean / self.burst))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return asdict(self)
