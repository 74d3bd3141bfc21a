"""Indexes of records become places on a page: by true time, or one step for each record."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from labkit.units import human_ns

_APART = 62
"""Pixels between two marks with a time written at each."""


class Tick(NamedTuple):
    """A mark on an axis."""

    x: float
    text: str


def scales(times: Sequence[int], left: float, right: float) -> dict[str, list[float]]:
    """Return the x of each record between `left` and `right`, for each scale."""
    steps = max(len(times) - 1, 1)
    span = max(times[-1] - times[0], 1) if times else 1
    return {
        "events": [round(left + (right - left) * i / steps, 3) for i in range(len(times))],
        "time": [round(left + (right - left) * (t - times[0]) / span, 3) for t in times],
    }


def ticks(times: Sequence[int], places: dict[str, list[float]]) -> dict[str, list[Tick]]:
    """Return the marks of each scale: round times where time is true, the records' own where it is not."""
    return {"events": _own(times, places["events"]), "time": _round(times, places["time"])}


def _own(times: Sequence[int], places: Sequence[float]) -> list[Tick]:
    out: list[Tick] = []
    for t, x in zip(times, places, strict=True):
        if not out or (x - out[-1].x >= _APART and human_ns(t) != out[-1].text):
            out.append(Tick(x, human_ns(t)))
    return out


def _round(times: Sequence[int], places: Sequence[float]) -> list[Tick]:
    if len(times) < 2 or times[-1] == times[0]:  # noqa: PLR2004 - an axis has two ends
        return []
    width, span = places[-1] - places[0], times[-1] - times[0]
    most = max(1, int(width // _APART // 1.6))
    step = round_step(span / most)
    first = -(-times[0] // step) * step
    return [Tick(places[0] + (t - times[0]) * width / span, plain(t)) for t in range(first, times[-1] + 1, step)]


def round_step(least: float) -> int:
    """Return the first of 1, 2, 5, 10, 20, ... that is `least` or more."""
    steps: list[int] = [digit * 10**power for power in range(16) for digit in (1, 2, 5)]
    return steps[bisect_left(steps, least)]


def plain(t: int) -> str:
    """Return a round time without needless zeros: 20000 -> '20 µs'."""
    text, _, unit = human_ns(t).partition(" ")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
