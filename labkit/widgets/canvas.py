"""A Bokeh figure as a sheet of paper: its units are pixels of a page 1568 wide, y grows downwards."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, Range1d
from bokeh.plotting import figure

from labkit.views.shapes import Columns
from labkit.widgets.theme import FADE, LIGHT, MONO, UI, hue, state


def sheet(width: float, height: float, label: str) -> Any:
    """Return an empty figure; `label` is what it is called where it cannot be seen."""
    fig = figure(
        width=int(width), height=int(height), sizing_mode="scale_width", x_range=Range1d(0, width),
        y_range=Range1d(height, 0), toolbar_location=None, tools="", min_border=0, outline_line_color=None,
        background_fill_color=LIGHT["paper"], border_fill_color=LIGHT["paper"], output_backend="canvas",
        html_attributes={"role": "img", "aria-label": label},
    )  # fmt: skip
    fig.axis.visible = False
    fig.grid.visible = False
    return fig


def source(name: str, columns: Mapping[str, Sequence[Any]]) -> ColumnDataSource:
    """Return columns under a name that the player finds them by."""
    return ColumnDataSource(data=dict(columns), name=name)


def moving(name: str, columns: Columns, at: float) -> ColumnDataSource:
    """Return columns with the colour and the opacity of each shape at record `at`."""
    rows = zip(columns["t1"], columns["t2"], columns["t3"], columns["t4"], strict=True)
    states = [state(at, *row) for row in rows]
    colour = [LIGHT[hue(index)] for index in columns["hue"]]
    edge = [float(0 < now < 4) for now in states]  # noqa: PLR2004 - the last state
    return source(name, columns | {"alpha": [FADE[name][now] for now in states], "color": colour, "edge": edge})


def words(fig: Any, name: str, columns: Mapping[str, Sequence[Any]], **look: Any) -> None:
    """Write texts: x, y, text, size (px), role, font, style, align."""
    fonts = {"ui": UI, "mono": MONO}
    data = dict(columns) | {
        "color": [LIGHT[role] for role in columns["role"]],
        "px": [f"{size}px" for size in columns["size"]],
        "face": [fonts[font] for font in columns["font"]],
    }
    fig.text(
        "x", "y", "text", source=source(name, data), text_color="color", text_font_size="px", text_font="face",
        text_font_style="style", text_align="align", text_baseline="middle", **look,
    )  # fmt: skip


def boxes(fig: Any, data: ColumnDataSource, **look: Any) -> Any:
    """Draw quads; `look` adds to the fill of columns `color` and `alpha`."""
    look = {"fill_color": "color", "fill_alpha": "alpha", "line_color": None} | look
    return fig.quad("left", "right", "top", "bottom", source=data, **look)
