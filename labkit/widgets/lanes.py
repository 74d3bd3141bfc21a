"""The lanes, drawn: columns of labkit.views.lanes become one Bokeh figure. The browser moves the cursor."""

from typing import Any

from bokeh.core.properties import value

from labkit.views.lanes import LEFT, RIGHT, WIDTH, Lanes
from labkit.widgets.canvas import boxes, sheet, source, words
from labkit.widgets.theme import LIGHT, MONO, hue

_AHEAD = 0.28
"""How opaque the future is."""


def figure(picture: Lanes, scale: str = "events") -> Any:
    """Return the figure of `picture` on one of its scales, everything yet to come."""
    fig = sheet(WIDTH, picture.height, "Time lanes: one row for each layer from system call to device")
    _rows(fig, picture)
    _ticks(fig, picture, scale)
    _spans(fig, picture, scale)
    _cursor(fig, picture)
    return fig


def _rows(fig: Any, picture: Lanes) -> None:
    tops, bottoms = zip(*picture.rows, strict=True)
    data = {
        "left": [LEFT - 4] * len(tops), "right": [RIGHT + 6] * len(tops),
        "top": [y + 1 for y in tops], "bottom": [y - 1 for y in bottoms],
    }  # fmt: skip
    boxes(fig, source("rows", data), fill_color=LIGHT["card"], fill_alpha=1, border_radius=4)
    y, names = zip(*picture.names, strict=True)
    n = len(names)
    texts = {"x": [LEFT - 12] * n, "y": y, "text": names, "size": [11.5] * n, "role": ["mid"] * n}
    words(fig, "lanes", texts | {"font": ["ui"] * n, "style": ["normal"] * n, "align": ["right"] * n})


def _ticks(fig: Any, picture: Lanes, scale: str) -> None:
    marks = picture.ticks[scale]
    n = len(marks)
    columns: dict[str, list[Any]] = {
        "x": [tick.x for tick in marks],
        "text": [tick.text for tick in marks],
        "alpha": [1.0] * n,
    }
    data = source("ticks", columns | {"size": [10] * n, "px": ["10px"] * n})
    top, bottom = picture.rows[0][0], picture.rows[-1][1]
    fig.segment("x", top, "x", bottom, source=data, line_color=LIGHT["hair"], line_width=1)
    fig.text(
        "x", 11, "text", source=data, text_color=LIGHT["faint"], text_alpha="alpha", text_font=value(MONO),
        text_font_size="px", text_align="center", text_baseline="middle",
    )  # fmt: skip


def _spans(fig: Any, picture: Lanes, scale: str) -> None:
    """Draw each bar twice: pale as it will be, and solid as far as the cursor has come."""
    spans, place = picture.spans, picture.scales[scale]
    n = len(spans["begin"])
    data = spans | {
        "left": [place[at] for at in spans["begin"]],
        "right": [max(place[b], place[a] + 2) for a, b in zip(spans["begin"], spans["end"], strict=True)],
        "color": [LIGHT[hue(index)] for index in spans["hue"]],
        "alpha": [_AHEAD] * n,
    }
    boxes(fig, source("ahead", data), border_radius=3)
    boxes(fig, source("past", data | {"alpha": [0.0] * n}), border_radius=3)
    label = {"x": data["left"], "y": [(a + b) / 2 for a, b in zip(spans["top"], spans["bottom"], strict=True)]}
    label |= {"text": spans["label"], "size": [10] * n, "font": ["ui"] * n, "style": ["normal"] * n}
    label |= {"align": ["left"] * n, "alpha": [0.0] * n}
    words(fig, "label_ahead", label | {"role": ["ink"] * n}, text_alpha="alpha", x_offset=4)
    inks = [f"on{hue(index).removeprefix('hue')}" for index in spans["hue"]]
    words(fig, "label_past", label | {"role": inks}, text_alpha="alpha", x_offset=4)


def _cursor(fig: Any, picture: Lanes) -> None:
    data = source("cursor", {"x": [float(LEFT)], "text": [""], "size": [11], "px": ["11px"]})
    top, bottom = picture.rows[0][0], picture.rows[-1][1]
    fig.segment("x", top - 4, "x", bottom, source=data, line_color=LIGHT["ink"], line_width=1.6)
    fig.scatter("x", top - 3, source=data, marker="inverted_triangle", size=9, color=LIGHT["ink"])
    fig.text(
        "x", 10, "text", source=data, text_color=LIGHT["ink"], text_font=value(MONO), text_font_size="px",
        text_font_style="bold", text_align="center", text_baseline="middle", background_fill_color=LIGHT["paper"],
        background_fill_alpha=1, padding=3,
    )  # fmt: skip
