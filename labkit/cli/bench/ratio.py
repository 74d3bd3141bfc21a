"""Two figures of one thing, and what one is of the other."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

Tick = Callable[[str], None]
"""Is told what is measured next."""


class Ratio(NamedTuple):
    """`ours` against `other`, both in `unit`: more is better. `ratio` is the median of rounds in turn."""

    name: str
    ours: float
    other: float
    against: str
    """What the other is."""
    unit: str
    aim: float
    ratio: float
    rounds: int

    @classmethod
    def of(cls, name: str, pairs: list[tuple[float, float]], against: str, unit: str, aim: float) -> "Ratio":
        """Return the medians of (ours, other) rates that were measured in turn."""
        ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        return cls(name, ours, other, against, unit, aim, ratio, len(pairs))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        figures = {"ours": round(self.ours, 1), "other": round(self.other, 1), "ratio": round(self.ratio, 3)}
        return {**self._asdict(), **figures, "reached": self.ratio >= self.aim}


@contextmanager
def cpu_seconds() -> Iterator[list[float]]:
    """Put the CPU time of this thread that passes within into the list that comes back."""
    spent = list[float]()
    gc.collect()
    begin = time.thread_time()
    yield spent
    spent.append(time.thread_time() - begin)
