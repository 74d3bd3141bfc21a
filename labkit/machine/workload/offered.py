"""What came of a load: rates, latencies, queue depth, and how busy the device was."""

from dataclasses import dataclass
from html import escape
from math import log
from typing import Any

from labkit.machine.workload.load import Load
from labkit.scenario import Scenario
from labkit.trace.latency import Bucket, Spans
from labkit.units import human_bytes, human_ns

_SECOND = 1_000_000_000
_WIDTH, _HEIGHT = 480, 96
_STYLE = "fill:currentColor;fill-opacity:.55"


@dataclass(frozen=True, repr=False)
class Offered:
    """What came of `load` on the machine of `scenario`. In Jupyter, and printed, a table and its histogram."""

    load: Load
    scenario: Scenario
    ios: Spans
    """Of each IO that moved bytes: from its arrival to its result."""
    moved: int
    """Bytes."""
    requests: Spans
    """Of each request: from its driver's hands to its end."""
    errors: dict[str, int]
    """How many IOs failed, by errno: '-EIO'."""
    wrong: int
    """IOs that brought other bytes than were there, and cells of the device that hold others than they should."""

    @property
    def iops(self) -> float:
        """IOs a second of the machine's time."""
        return len(self.ios.ends) * _SECOND / self.ios.elapsed if self.ios.elapsed else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes a second of the machine's time."""
        return self.moved * _SECOND / self.ios.elapsed if self.ios.elapsed else 0.0

    @property
    def verified(self) -> bool:
        """Whether every byte was compared, and none was wrong."""
        return not self.wrong

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON; times in ns, buckets as [low, high, how often]."""
        return {
            "ios": len(self.ios.ends),
            "iops": round(self.iops, 1),
            "bytes_per_second": round(self.bytes_per_second),
            "latency_ns": self.ios.summary(),
            "histogram": [list(bucket) for bucket in self.ios.histogram()],
            "depth": {"mean": round(self.ios.mean_depth(), 3), "max": self.deepest},
            "device": {"utilisation": round(self.requests.busy(), 4), "depth": round(self.requests.mean_depth(), 3)},
            "elapsed_ns": self.ios.elapsed,
            "errors": self.errors,
            "verified": self.verified,
            "load": self.load.as_dict(),
            "scenario": self.scenario.model_dump(mode="json"),
        }

    @property
    def deepest(self) -> int:
        """How many IOs were on their way at most."""
        return int(max(self.ios.depth()[1], default=0))

    def rows(self) -> list[tuple[str, str]]:
        """Return the table: what, and how much."""
        latency = self.ios.summary()
        rows = [
            ("IOs", f"{len(self.ios.ends):,} in {human_ns(self.ios.elapsed)}"),
            ("rate", f"{self.iops:,.0f} IO/s, {human_bytes(round(self.bytes_per_second))}/s"),
            *((f"latency {name}", human_ns(ns)) for name, ns in latency.items()),
            ("queue depth", f"{self.ios.mean_depth():.2f} on average, {self.deepest} at most"),
            ("device", f"busy {self.requests.busy():.1%} of the time, {self.requests.mean_depth():.2f} requests"),
        ]
        failed = [(f"failed {name}", f"{times:,}") for name, times in sorted(self.errors.items())]
        return [*rows, *failed, ("bytes", "every one compared" if self.verified else f"{self.wrong:,} IOs WRONG")]

    def __repr__(self) -> str:
        """Return how many IOs there were, and at what rate; the table is what is printed."""
        return f"<Offered {len(self.ios.ends):,} IOs, {self.iops:,.0f} IO/s>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._html()}

    def __str__(self) -> str:
        """Return the table as text."""
        return "\n".join(f"{name:16}{value}" for name, value in self.rows())

    def _html(self) -> str:
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in self.rows())
        return f"<table><tbody>{rows}</tbody></table>{_svg(self.ios.histogram())}"


def _svg(buckets: tuple[Bucket, ...]) -> str:
    """Draw the histogram: a bar a bucket, the latency on a scale of logarithms, heights as roots of the counts."""
    if not buckets:
        return ""
    low, high = max(1, buckets[0].low), max(buckets[-1].high, 2)
    most = max(bucket.times for bucket in buckets)
    bars = []
    for bucket in buckets:
        left, right = (_WIDTH * _log(at, low, high) for at in (max(bucket.low, 1), bucket.high))
        height = _HEIGHT * (bucket.times / most) ** 0.5
        title = f"{human_ns(bucket.low)} to {human_ns(bucket.high)}: {bucket.times:,}"
        bars.append(
            f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{max(right - left, 1):.1f}" '
            f'height="{height:.1f}" style="{_STYLE}"><title>{escape(title)}</title></rect>'
        )
    ends = f'<text y="{_HEIGHT + 14}">{escape(human_ns(low))}</text>'
    ends += f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{escape(human_ns(high))}</text>'
    size = f'width="{_WIDTH}" height="{_HEIGHT + 18}" viewBox="0 0 {_WIDTH} {_HEIGHT + 18}"'
    said = 'role="img" aria-label="Histogram of latencies" style="font-size:12px;fill:currentColor"'
    return f"<svg {size} {said}>{''.join(bars)}{ends}</svg>"


def _log(value: int, low: int, high: int) -> float:
    """Return where `value` is between `low` and `high`, 0 to 1, on a scale of logarithms."""
    return log(value / low) / log(high / low)
