"""What comes and goes with steps, drawn: the looks of each role, and the figure. The browser sets how opaque it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from labkit.views.shapes import Columns
from labkit.views.timed import Timed
from labkit.widgets.canvas import boxes, sheet, source, words
from labkit.widgets.curves import curves
from labkit.widgets.theme import LIGHT

ACT = "timed.js"


class Look(NamedTuple):
    """Roles of the theme for fill, line and hatch, a hatch pattern, and a dash."""

    fill: str
    line: str
    hatch: str = " "
    ink: str = "card"
    dash: str = "solid"


_HATCHES = (" ", "right_diagonal_line", "dot", "vertical_line", "horizontal_line", "left_diagonal_line")
LOOKS: dict[str, Look] = {
    "mapped": Look("hue0", "card"),
    "unwritten": Look("hue1", "card", "right_diagonal_line", "on1"),
    "delalloc": Look("hue4", "card", "dot", "on4"),
    "inline": Look("hue2", "card", "horizontal_line", "on2"),
    "shared": Look("hue3", "card", "vertical_line", "on3"),
    "hole": Look("paper", "mark", dash="dashed"),
    "zero": Look("hue7", "mid", "cross", "mid"),
    "card": Look("card", "hair"),
    "row": Look("free", "hair"),
    "frame": Look("paper", "hair"),
    "window": Look("paper", "ink"),
    "plug": Look("paper", "mid", dash="dashed"),
    "bio": Look("anon", "mid"),
    "vec0": Look("grey", "card"),
    "vec1": Look("mark", "card"),
    "cut": Look("hue6", "hue6"),
    "edge": Look("ink", "ink"),
    "tick": Look("hair", "hair"),
    "empty": Look("card", "mid", dash="dotted"),
    "uptodate": Look("file", "mid"),
    "dirty": Look("hue6", "hue6", "right_diagonal_line", "on6"),
    "writeback": Look("hue4", "hue4", "dot", "on4"),
    "gauge": Look("hue0", "hue0"),
    "full": Look("hue6", "hue6", "right_diagonal_line", "on6"),
    "stale": Look("paper", "hue6", "right_diagonal_line", "hue6"),
    "wire": Look("mark", "mark"),
    "area": Look("hue0", "hue0"),
    "share": Look("hue4", "hue4"),
    "waits": Look("hue1", "hue1", "right_diagonal_line", "on1"),
    "box": Look("card", "mid"),
    "file": Look("file", "mid"),
    "cached": Look("hue4", "card"),
    "bounce": Look("hue1", "card", "dot", "on1"),
    "bus": Look("hue2", "card", "vertical_line", "on2"),
    "premapped": Look("hue3", "card", "horizontal_line", "on3"),
    "fcommand": Look("hue0", "hue0"),
    "faddress": Look("hue2", "hue2"),
    "flength": Look("hue1", "hue1"),
    "fplace": Look("hue5", "hue5"),
    "fflag": Look("hue3", "hue3"),
    "fpointer": Look("hue6", "hue6"),
    "freserved": Look("free", "hair"),
    "absent": Look("nopage", "nopage_line", "right_diagonal_line", "nopage_line"),
    "folio": Look("card", "mid"),
    **{f"rq{i}": Look(f"hue{i}", "card", hatch, f"on{i}") for i, hatch in enumerate(_HATCHES)},
}
"""How each role looks."""


def figure(picture: Timed, label: str) -> Any:
    """Return the figure of `picture`, as it is before its first step."""
    fig = sheet(picture.width, picture.height, label)
    bands, shapes = picture.bands, picture.shapes
    turned = curves({name: bands[_TURNED.get(name, name)] for name in ("x0", "a0", "a1", "x1", "b0", "b1")})
    data = source("bands", _timed(bands) | {"xs": turned["ys"], "ys": turned["xs"]} | _looks(bands["role"]))
    fig.patches("xs", "ys", source=data, fill_color="fill", fill_alpha="alpha", line_color="fill", line_alpha="alpha")
    edges = {name: shapes[name] for name in ("left", "top", "right", "bottom")}
    soft = {"soft": [alpha / 2 for alpha in shapes["ahead"]]}
    look = {"fill_color": "fill", "line_color": "line", "line_alpha": "alpha", "line_dash": "dash", "border_radius": 2}
    hatch = {"hatch_pattern": "hatch", "hatch_color": "ink", "hatch_alpha": "soft", "hatch_scale": 8}
    boxes(
        fig, source("shapes", _timed(shapes) | edges | soft | _looks(shapes["role"])), **look, **hatch, hatch_weight=0.7
    )
    for name, hatched in (("words", False), ("plates", True)):
        _write(fig, name, _only(picture.words, hatched=hatched))
    return fig


def _only(texts: Columns, *, hatched: bool) -> Columns:
    """Return the words that stand on a hatched shape, or those that do not."""
    rows = [i for i, role in enumerate(texts["back"]) if (LOOKS[role].hatch != " " if role else False) == hatched]
    return {name: [column[i] for i in rows] for name, column in texts.items()}


def _write(fig: Any, name: str, texts: Columns) -> None:
    """Write words; those on a hatched shape get a plate of its colour, or nobody could read them."""
    plate = {"background_fill_color": "plate", "background_fill_alpha": "alpha", "padding": 2, "border_radius": 2}
    more = {
        "alpha": list(texts["ahead"]),
        "plate": [LIGHT[LOOKS[role].fill if role else "paper"] for role in texts["back"]],
    }
    words(fig, name, texts | more, text_alpha="alpha", **(plate if name == "plates" else {}))


_TURNED = {"x0": "y0", "x1": "y1"}


def _timed(columns: Columns) -> Columns:
    """Return the columns that the browser goes by, and how opaque each part is at first."""
    return {name: columns[name] for name in ("t1", "t4", "ahead", "now", "past")} | {"alpha": list(columns["ahead"])}


def _looks(roles: Sequence[str]) -> Columns:
    looks = [LOOKS[role] for role in roles]
    inks = {name: [LIGHT[getattr(look, name)] for look in looks] for name in ("fill", "line", "ink")}
    return inks | {name: [getattr(look, name) for look in looks] for name in ("hatch", "dash")}


def placed(pictures: dict[str, Timed]) -> dict[str, Any]:
    """Return what the browser is to know of each width."""
    return {name: {"width": picture.width, "hot": picture.hot} for name, picture in pictures.items()}
