"""A picture whose parts come and go with the steps of a walk: boxes, bands and words, each with its steps.

`t1` is the step from which a part is there, `t4` the one from which it is past; `ahead`, `now` and `past` say how
opaque it is before, during and after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.views.journey import NEVER
from labkit.views.shapes import Columns, columns
from labkit.views.steps import Hot, Step

_LETTER = 0.56
"""How wide a letter is, in its height."""


class Shape(NamedTuple):
    """A rectangle; `role` names fill, line and hatch together."""

    left: float
    top: float
    right: float
    bottom: float
    role: str
    t1: int = 0
    t4: int = NEVER
    ahead: float = 0.0
    now: float = 1.0
    past: float = 0.0


class Band(NamedTuple):
    """A ribbon that goes down, from a0..a1 at the height y0 to b0..b1 at y1."""

    y0: float
    a0: float
    a1: float
    y1: float
    b0: float
    b1: float
    role: str
    t1: int = 0
    t4: int = NEVER
    ahead: float = 0.08
    now: float = 0.3
    past: float = 0.0


class Word(NamedTuple):
    """A word or two; `role` is the colour, a role of the theme; `back` the role of the shape it stands on."""

    x: float
    y: float
    text: str
    size: float = 11
    role: str = "ink"
    font: str = "ui"
    style: str = "normal"
    align: str = "left"
    t1: int = 0
    t4: int = NEVER
    ahead: float = 0.0
    now: float = 1.0
    past: float = 0.0
    back: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """The picture as columns, for one width."""

    width: float
    height: float
    shapes: Columns
    bands: Columns
    words: Columns
    hot: Columns
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Pen:
    """The same, while it is drawn."""

    shapes: list[Shape] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    hot: list[Hot] = field(default_factory=list)

    def fit(self, box: tuple[float, float, float, float], text: str, word: Word) -> None:
        """Write `text` into the middle of `box` (left, top, right, bottom), as `word` looks, where there is room."""
        left, top, right, bottom = box
        if wide(text, word.size) + 6 <= right - left:
            self.words.append(word._replace(x=(left + right) / 2, y=(top + bottom) / 2, text=text, align="center"))

    def done(self, width: float, height: float, steps: Sequence[Step]) -> Timed:
        """Return what was drawn."""
        drawn = (columns(self.shapes, Shape), columns(self.bands, Band), columns(self.words, Word))
        return Timed(width, height, *drawn, columns(self.hot, Hot), steps)


def wide(text: str, size: float) -> float:
    """Return about how many pixels a text of `size` pixels needs."""
    return len(text) * size * _LETTER
