"""A picture that is walked through has steps: what stands beside it at each, as columns."""

from collections.abc import Iterable
from typing import NamedTuple

from labkit.views.shapes import Columns

WIDE, NARROW = 1568, 668
"""The two widths, in pixels, that a picture is laid out for; the browser shows the one that fits."""


class Step(NamedTuple):
    """One stop of a walk: where it is, in which part, the sentence, the kernel's function, whose idea it is."""

    clock: str
    layer: str
    text: str
    function: str = ""
    origin: str = ""


class Hot(NamedTuple):
    """A place that answers when it is pointed at: lines of a tip, and the step and the row it leads to (-1: none)."""

    left: float
    top: float
    right: float
    bottom: float
    tip: tuple[str, ...]
    step: int = -1
    row: int = -1


def told(steps: Iterable[Step]) -> Columns:
    """Return `steps` as columns."""
    found = list(steps)
    return {name: [getattr(step, name) for step in found] for name in Step._fields}
