"""Records become latencies: how long each IO took, how many were on their way, and how often nothing was.

A histogram has buckets as HdrHistogram has them: each power of two is cut into 32 equal parts, so that a bucket is
never wider than 1/32 of what it counts. Counts are exact, and so are percentiles, which are values that were seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.trace.events import (
    BlockRqComplete,
    BlockRqIssue,
    IoUringComplete,
    IoUringSubmitReq,
    Record,
    SysEnter,
    SysExit,
)

Times = NDArray[np.int64]
QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""What is told of a distribution, beside its greatest value."""
_PARTS = 32
_EMPTY = np.empty(0, np.int64)


class Bucket(NamedTuple):
    """How many latencies are in [low, high) ns."""

    low: int
    high: int
    times: int


@dataclass(frozen=True)
class Spans:
    """When each of some things began and ended, in ns; number i is one thing."""

    starts: Times
    ends: Times

    @property
    def latencies(self) -> Times:
        """How long each took, in ns."""
        return self.ends - self.starts

    @property
    def elapsed(self) -> int:
        """From the first start to the last end, in ns."""
        return int(self.ends.max() - self.starts.min()) if len(self.ends) else 0

    def percentile(self, quantile: float) -> int:
        """Return the least latency in ns that `quantile` (0 to 1) of all do not exceed (nearest rank); 0 of none."""
        if not len(self.ends):
            return 0
        rank = max(0, -int(-quantile * len(self.ends) // 1) - 1)
        return int(np.partition(self.latencies, rank)[rank])

    def summary(self) -> dict[str, int]:
        """Return mean, QUANTILES and the greatest, in ns, by name: 'p99.9'."""
        told = {f"p{quantile * 100:g}": self.percentile(quantile) for quantile in QUANTILES}
        mean = round(float(self.latencies.mean())) if len(self.ends) else 0
        return {"mean": mean, **told, "max": self.percentile(1)}

    def histogram(self) -> tuple[Bucket, ...]:
        """Return the buckets that count anything, from the shortest latencies to the longest."""
        values = self.latencies
        exponents = np.maximum(np.frexp(values.astype(np.float64))[1] - 6, 0)  # 2**5 = _PARTS values stay apart
        lows, counts = np.unique(np.stack((values >> exponents << exponents, exponents)), axis=1, return_counts=True)
        return tuple(
            Bucket(low, low + (1 << exponent), count)
            for low, exponent, count in zip(*lows.tolist(), counts.tolist(), strict=True)
        )

    def depth(self) -> tuple[Times, Times]:
        """Return the ns at which anything began or ended, and how many things were on their way from then on."""
        times = np.concatenate((self.starts, self.ends))
        steps = np.concatenate((np.ones_like(self.starts), -np.ones_like(self.ends)))
        order = np.argsort(times, kind="stable")
        at, firsts = np.unique(times[order], return_index=True)
        after = np.cumsum(steps[order])
        return at, after[np.append(firsts[1:], len(order)) - 1] if len(at) else _EMPTY

    def mean_depth(self) -> float:
        """Return how many were on their way, on average from the first start to the last end."""
        at, depth = self.depth()
        return float(np.dot(np.diff(at), depth[:-1])) / self.elapsed if self.elapsed else 0.0

    def busy(self) -> float:
        """Return in which share of that time anything was on its way at all, as the %util of iostat."""
        at, depth = self.depth()
        return float(np.diff(at)[depth[:-1] > 0].sum()) / self.elapsed if self.elapsed else 0.0


def of_pairs(pairs: Sequence[tuple[int, int]]) -> Spans:
    """Return the spans of (start, end) in ns."""
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Spans(table[:, 0], table[:, 1])


def io_spans(records: Iterable[Record]) -> Spans:
    """Return when each IO was asked for and when its result was there: of each call, each entry of a ring.

    What had not ended yet, and what failed, is left out.
    """
    return _paired(records, (SysEnter, IoUringSubmitReq), (SysExit, IoUringComplete), _moved)


def request_spans(records: Iterable[Record]) -> Spans:
    """Return when each request went to its driver and when it came back, whatever came of it."""
    return _paired(records, (BlockRqIssue,), (BlockRqComplete,), lambda _rec: True)


def _paired(
    records: Iterable[Record], first: tuple[type, ...], last: tuple[type, ...], wanted: Callable[[Any], bool]
) -> Spans:
    """Return the spans from a record of a type in `first` to that of the same thing in `last`."""
    begun: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for rec in records:
        if isinstance(rec, first):
            begun[_key(rec)] = rec.t
        elif isinstance(rec, last) and (start := begun.pop(_key(rec), None)) is not None and wanted(rec):
            pairs.append((start, rec.t))
    return of_pairs(pairs)


def _key(rec: Any) -> int:
    """Return the number of the request that `rec` tells of, or else of the IO."""
    return int(rec.rq) if isinstance(rec, (BlockRqIssue, BlockRqComplete)) else int(rec.io)


def _moved(rec: Any) -> bool:
    """Return whether the IO that ended with `rec` did not fail."""
    return bool((rec.ret if isinstance(rec, SysExit) else rec.res) >= 0)
