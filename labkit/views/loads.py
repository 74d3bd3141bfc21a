"""Records of requests become a load: when each waits, is served and ends, how many there are, and what goes wrong."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import floor, log2
from typing import NamedTuple

from labkit.trace.events import (
    BlkMqRqTimedOut,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    BlockRqRequeue,
    DeviceDma,
    DeviceStart,
    Fault,
    IoPageFault,
    Record,
)
from labkit.trace.latency import Spans, of_pairs
from labkit.trace.trace import Trace
from labkit.units import human_ns

MOST_STEPS = 150
"""Instants that a picture stops at; of a longer load they are taken evenly from its events."""
PER_OCTAVE = 4
"""Buckets of the histogram for each doubling of the latency."""
_WRONG = (Fault, IoPageFault, BlkMqRqTimedOut, BlockRqRequeue)


class Bucket(NamedTuple):
    """`n` latencies in [lo, hi) ns."""

    lo: float
    hi: float
    n: int


@dataclass(frozen=True, slots=True)
class Served:
    """A request, in ns: it gets its tag, goes to the driver, is begun and moved by the device, and ends; -1: never."""

    rq: int
    got: int
    issued: int = -1
    start: int = -1
    moved: int = -1
    done: int = -1
    unit: int = 0
    error: int = 0

    @property
    def latency(self) -> int:
        """Nanoseconds from the tag to the end; -1 if it has none."""
        return self.done - self.got if self.done >= 0 else -1

    @property
    def busy(self) -> tuple[int, int] | None:
        """From when until when its unit of the device serves it; None where the device does not tell."""
        end = self.moved if self.moved >= 0 else self.done
        return (self.start, end) if 0 <= self.start < end else None


class Wrong(NamedTuple):
    """Something that went wrong: at which instant, and the index of its record."""

    t: int
    at: int


class Curve(NamedTuple):
    """A count over time: it is `values[i]` from `times[i]` on, and 0 before."""

    times: Sequence[int]
    values: Sequence[int]

    def at(self, t: int) -> int:
        """Return the count at `t`."""
        i = bisect_right(self.times, t)
        return self.values[i - 1] if i else 0

    def peak(self, since: int, until: int) -> int:
        """Return the greatest count in [since, until]."""
        lo, hi = bisect_right(self.times, since), bisect_right(self.times, until)
        return max(self.values[max(lo - 1, 0) : hi], default=0)


@dataclass(frozen=True, slots=True)
class Load:
    """What a trace tells of its requests."""

    served: tuple[Served, ...]
    wrong: tuple[Wrong, ...]
    depth: Curve
    """Requests that have a tag."""
    driver: Curve
    """Requests that are with the driver, or the device."""
    busy: Curve
    """Units of the device that serve somebody."""
    done: Curve
    stops: tuple[int, ...]
    """The instants of the picture's steps."""

    @property
    def spans(self) -> Spans:
        """When what ended well got its tag, and when it ended."""
        return of_pairs([(one.got, one.done) for one in self.served if one.done >= 0 and not one.error])

    @property
    def units(self) -> list[int]:
        """The units of the device that served something."""
        return sorted({one.unit for one in self.served if one.busy})


def load(trace: Trace) -> Load:
    """Return what `trace` tells of its requests."""
    found: dict[int, Served] = {}
    for rec in trace.records:
        _follow(found, rec)
    served = tuple(found.values())
    wrong = tuple(Wrong(rec.t, at) for at, rec in enumerate(trace.records) if isinstance(rec, _WRONG))
    curves = (
        _curve((one.got, one.done) for one in served),
        _curve((one.issued, one.done) for one in served if one.issued >= 0),
        _curve(one.busy for one in served if one.busy),
        _curve((one.done, -1) for one in served if one.done >= 0),
    )
    return Load(served, wrong, *curves, _stops(served, wrong))


def _follow(found: dict[int, Served], rec: Record) -> None:
    """Note what happens to a request. Numbers of requests are given once."""
    if isinstance(rec, BlockGetrq):
        found[rec.rq] = Served(rec.rq, rec.t)
        return
    old = found.get(getattr(rec, "rq", -1))
    if old is None:
        return
    match rec:
        case BlockRqIssue():
            found[rec.rq] = replace(old, issued=rec.t)
        case DeviceStart():
            found[rec.rq] = replace(old, start=rec.t, unit=rec.unit)
        case DeviceDma():
            found[rec.rq] = replace(old, moved=rec.t)
        case BlockRqComplete():
            found[rec.rq] = replace(old, done=rec.t, error=rec.error)


def _curve(spans: Iterable[tuple[int, int]]) -> Curve:
    """Return how many of `spans` there are at each instant; an end of -1 does not come."""
    changes: dict[int, int] = {}
    for begin, end in spans:
        changes[begin] = changes.get(begin, 0) + 1
        if end >= 0:
            changes[end] = changes.get(end, 0) - 1
    times = sorted(changes)
    return Curve(times, list(accumulate(changes[t] for t in times)))


def _stops(served: Sequence[Served], wrong: Sequence[Wrong]) -> tuple[int, ...]:
    """Return the instants to stop at: each one at which something changes, or as many of them as there may be."""
    times = {t for one in served for t in (one.got, one.issued, one.start, one.done) if t >= 0}
    every = sorted(times | {one.t for one in wrong})
    size = max(1, -(-len(every) // MOST_STEPS))
    kept = {*every[::size], *every[-1:], *(one.t for one in wrong[:MOST_STEPS])}
    return tuple(sorted(kept))


def histogram(spans: Spans) -> list[Bucket]:
    """Return the buckets of latencies from the first that holds some to the last, PER_OCTAVE for each doubling."""
    counts: dict[int, int] = {}
    for one in spans.latencies.tolist():
        bucket = floor(PER_OCTAVE * log2(max(one, 1)))
        counts[bucket] = counts.get(bucket, 0) + 1
    if not counts:
        return []
    edges = range(min(counts), max(counts) + 1)
    return [Bucket(2 ** (i / PER_OCTAVE), 2 ** ((i + 1) / PER_OCTAVE), counts.get(i, 0)) for i in edges]


def shares(spans: Spans) -> list[tuple[str, int]]:
    """Return what is told of a distribution: name and ns of its percentiles, and its greatest; nothing of nothing."""
    told = spans.summary()
    return [(name, told[name]) for name in ("p50", "p90", "p99", "max")] if len(spans.ends) else []


def spelled(spans: Spans) -> str:
    """Return the percentiles in words; of one latency itself."""
    if len(spans.ends) == 1:
        return human_ns(spans.percentile(1))
    return ", ".join(f"{name} {human_ns(ns)}" for name, ns in shares(spans))
