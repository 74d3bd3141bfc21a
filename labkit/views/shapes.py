"""What a picture is made of: boxes, ribbons and words in pixels, y down; a colour is a role that the theme names.

`t1` to `t4` are indexes of records: a shape waits from t1 on, is in flight from t2, done from t3, let go of from t4.
`unit` to `upto` say whose shape it is, so that what is pointed at in one place lights up in all.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from labkit.views.journey import NEVER, NONE

Columns = dict[str, list[Any]]


class Box(NamedTuple):
    """A rectangle that changes its state with time."""

    left: float
    top: float
    right: float
    bottom: float
    hue: int = NONE
    unit: int = NONE
    upto: int = NONE
    t1: int = 0
    t2: int = NEVER
    t3: int = NEVER
    t4: int = NEVER


class Ribbon(NamedTuple):
    """A band from (x0, a0..a1) to (x1, b0..b1), curved where it is to change its height."""

    x0: float
    a0: float
    a1: float
    x1: float
    b0: float
    b1: float
    leg: int
    """0: translated by the CPU; 1 and 2: bytes travel along it, between device and memory."""
    hue: int
    unit: int
    upto: int
    t1: int = 0
    t2: int = NEVER
    t3: int = NEVER
    t4: int = NEVER


class Text(NamedTuple):
    """A word or two; `role` is the colour: a role of the theme, or on0 to on5 for what is written on a hue."""

    x: float
    y: float
    text: str
    size: float = 11
    role: str = "ink"
    font: str = "ui"
    style: str = "normal"
    align: str = "left"


class Label(NamedTuple):
    """A word on a shape, there from t1 until t4; `role` is on0 to on5, the ink for its hue."""

    x: float
    y: float
    text: str
    role: str
    align: str
    unit: int
    upto: int
    t1: int = 0
    t4: int = NEVER


class Pin(NamedTuple):
    """A dot at the corner of what is pinned, from t1 until t4."""

    x: float
    y: float
    unit: int
    upto: int
    t1: int
    t4: int


class Card(NamedTuple):
    """A rectangle that stands still; `role` names fill, line and hatch together."""

    left: float
    top: float
    right: float
    bottom: float
    role: str = "card"


def columns(rows: Iterable[NamedTuple], kind: type[NamedTuple]) -> Columns:
    """Return `rows`, all of type `kind`, as a list for each field."""
    found = list(rows)
    return {name: [getattr(row, name) for row in found] for name in kind._fields}
