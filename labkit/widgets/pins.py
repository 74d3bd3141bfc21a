"""Pins over time, drawn: who holds this page, since when, and which event will let go of it.

    from labkit.widgets.pins import Pins
    Pins(m.trace)

Run with a trace file, or without one on a trace typed out here, this module writes a page and says where.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from labkit.trace.events import (
    GupPin,
    GupUnpin,
    Hazard,
    Mmap,
    MmPageAlloc,
    MmPageFree,
    Munmap,
    SysEnter,
    SysExit,
    Violation,
)
from labkit.trace.store import load
from labkit.trace.trace import Trace
from labkit.views import pins as view
from labkit.views.blame import said, wrong
from labkit.views.holders import Pieces, pieces
from labkit.views.shapes import Columns
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.canvas import boxes, sheet, source, words
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.theme import LIGHT, MONO
from labkit.widgets.theme import hue as role

_LABEL = (
    "A row for each piece of memory, a bar for each pin on it, from the event that takes it to the one that lets go"
)
_HATCH = {
    "range": " ",
    "page": "right_diagonal_line",
    "folio": "dot",
    "lease": "vertical_line",
    "none": "horizontal_line",
}
"""The second code of a policy: whole ranges are plain."""
_AHEAD = 0.26


def figure(picture: view.Pins) -> Any:
    """Return the figure of `picture`; the browser puts time on it."""
    fig = sheet(picture.width, picture.height, _LABEL)
    _rows(fig, picture)
    _ticks(fig, picture)
    _bars(fig, picture)
    _bar_names(fig, picture.bars)
    _marks(fig, picture)
    _counts(fig, picture)
    _cursor(fig, picture)
    return fig


def _rows(fig: Any, picture: view.Pins) -> None:
    n, (left, right) = len(picture.rows), picture.edges
    top, bottom = [row[0] + 1 for row in picture.rows], [row[1] - 1 for row in picture.rows]
    edges = {"left": [left - 4] * n, "right": [right + 6] * n, "top": top, "bottom": bottom}
    boxes(fig, source("rows", edges), fill_color=LIGHT["card"], fill_alpha=1, border_radius=4)
    chosen = source("chosen", {"left": [], "right": [], "top": [], "bottom": []})
    look = {"fill_color": LIGHT["free"], "line_color": LIGHT["ink"], "line_width": 1.6}
    boxes(fig, chosen, **look, fill_alpha=1, border_radius=4)
    narrow = picture.width <= NARROW
    size = 10 if narrow else 11
    texts: Columns = {"x": [left - 12] * 2 * n, "align": ["right"] * 2 * n, "style": ["normal"] * 2 * n}
    texts |= {"y": [y for a, b in zip(top, bottom, strict=True) for y in ((a + b) / 2 - 7, (a + b) / 2 + 7)]}
    texts |= {"text": [word for row in picture.rows for word in row[2:]], "size": [size, 10] * n}
    words(fig, "names", texts | {"role": ["ink", "mid"] * n, "font": ["mono", "ui"] * n})


def _ticks(fig: Any, picture: view.Pins) -> None:
    bottom = picture.rows[-1][1] if picture.rows else view.TOP
    data = source("ticks", {"x": [], "text": [], "alpha": [], "size": [], "px": []})
    fig.segment("x", view.TOP, "x", bottom, source=data, line_color=LIGHT["hair"], line_width=1)
    look = {"text_color": LIGHT["faint"], "text_alpha": "alpha", "text_font_size": "px"}
    fig.text("x", view.TOP - 10, "text", source=data, **look, text_align="center", text_baseline="middle")


def _bars(fig: Any, picture: view.Pins) -> None:
    """Draw each pin twice: pale as it will be, and solid as far as the cursor has come; under it the memory's life."""
    lives, bars = picture.lives, picture.bars
    rest = {"left": lives["begin"], "right": lives["end"]}
    boxes(fig, source("lives", lives | rest), fill_color=LIGHT["anon"], fill_alpha=0.42, border_radius=3)
    n = len(bars["begin"])
    data = {name: bars[name] for name in ("begin", "end", "row", "label")}
    data |= {"left": bars["begin"], "right": bars["end"], "color": [LIGHT[role(index)] for index in bars["hue"]]}
    data |= {"hatch": [_HATCH.get(policy, "horizontal_line") for policy in bars["policy"]]}
    data |= {"top": [y + 1 for y in bars["top"]], "bottom": [y - 2 for y in bars["bottom"]]}
    boxes(fig, source("ahead", data | {"alpha": [_AHEAD] * n}), hatch_alpha=0.5, **_BAR)
    edge = {"line_color": LIGHT["card"], "line_alpha": "alpha", "hatch_alpha": "alpha"}
    boxes(fig, source("past", data | {"alpha": [0.0] * n}), **_BAR | edge)


def _bar_names(fig: Any, bars: Columns) -> None:
    n = len(bars["begin"])
    texts: Columns = {"x": bars["begin"], "text": bars["label"], "align": ["left"] * n, "alpha": [1.0] * n}
    texts |= {"y": [(a + b) / 2 for a, b in zip(bars["top"], bars["bottom"], strict=True)]}
    texts |= {"size": [10.5] * n, "font": ["ui"] * n, "style": ["bold"] * n}
    words(fig, "label_ahead", texts | {"role": ["ink"] * n}, text_alpha="alpha", x_offset=7)
    names = [role(index) for index in bars["hue"]]
    texts |= {"role": [f"on{name.removeprefix('hue')}" for name in names], "back": [LIGHT[name] for name in names]}
    fills = {"background_fill_color": "back", "background_fill_alpha": "cover", "padding": 2, "border_radius": 2}
    words(fig, "label_past", texts | {"cover": [0.0] * n}, text_alpha="alpha", x_offset=7, **fills)


_BAR = {
    "hatch_pattern": "hatch",
    "hatch_color": LIGHT["card"],
    "hatch_scale": 9,
    "hatch_weight": 0.8,
    "border_radius": 3,
}
_MARKS = {
    "hazard": ("ink", "dashed", "diamond"),
    "broken": ("hue6", "solid", "x"),
    "moved": ("mid", "dotted", "triangle"),
}
"""Ink, dash and marker of each kind of mark."""


def _marks(fig: Any, picture: view.Pins) -> None:
    marks, n = picture.marks, len(picture.marks["at"])
    bottom = picture.rows[-1][1] if picture.rows else view.TOP
    roles, dashes, markers = ([_MARKS[kind][k] for kind in marks["kind"]] for k in range(3))
    places = {"x": marks["at"], "at": marks["at"], "struck": marks["struck"], "alpha": [1.0] * n}
    looks: Columns = {"color": [LIGHT[ink] for ink in roles], "dash": dashes, "marker": markers}
    looks |= {"width": [2.4 if kind == "broken" else 1.4 for kind in marks["kind"]]}
    data = source("marks", places | looks)
    fig.segment("x", view.TOP - 2, "x", bottom, source=data, line_color="color", line_width="width", line_dash="dash",
                line_alpha="alpha")  # fmt: skip
    for y, size, width in ((view.TOP - 4, 10, 2.4), ("struck", 16, 4)):
        fig.scatter("x", y, source=data, marker="marker", size=size, line_width=width, line_color="color",
                    fill_color="color", line_alpha="alpha", fill_alpha="alpha")  # fmt: skip
    texts = {"x": marks["at"], "y": marks["y"], "text": marks["name"], "size": [10.5] * n, "font": ["ui"] * n}
    texts |= {"style": ["bold"] * n, "align": ["center"] * n, "role": roles, "alpha": [1.0] * n}
    words(fig, "mark_names", texts, text_alpha="alpha")


def _counts(fig: Any, picture: view.Pins) -> None:
    heads = ("ref", "pin", "map") if picture.width <= NARROW else ("refcount", "pincount", "mapcount")
    n, m = len(picture.rows), 3 * len(picture.rows)
    texts: Columns = {
        "x": list(picture.count_x),
        "y": [view.TOP - 10] * 3,
        "text": list(heads),
        "size": [10] * 3,
        "role": ["mid"] * 3,
    }
    words(fig, "count_heads", texts | {"font": ["ui"] * 3, "style": ["normal"] * 3, "align": ["center"] * 3})
    y = [(row[0] + row[1]) / 2 for row in picture.rows for _ in range(3)]
    texts = {"x": list(picture.count_x) * n, "y": y, "text": [""] * m, "size": [11.5] * m, "role": ["ink"] * m}
    words(fig, "counts", texts | {"font": ["mono"] * m, "style": ["normal"] * m, "align": ["center"] * m})


def _cursor(fig: Any, picture: view.Pins) -> None:
    from bokeh.core.properties import value  # noqa: PLC0415 - Bokeh takes a second to import

    bottom = picture.rows[-1][1] if picture.rows else view.TOP
    data = source("cursor", {"x": [float(picture.edges[0])], "text": [""], "size": [11], "px": ["11px"]})
    fig.segment("x", view.TOP - 6, "x", bottom, source=data, line_color=LIGHT["ink"], line_width=1.6)
    fig.scatter("x", 24, source=data, marker="inverted_triangle", size=9, color=LIGHT["ink"])
    fig.text("x", 11, "text", source=data, text_color=LIGHT["ink"], text_font=value(MONO), text_font_size="px",
             text_font_style="bold", text_align="center", text_baseline="middle")  # fmt: skip


def scene(trace: Trace) -> Scene:
    """Return the scene of the pins of `trace`."""
    known = pieces(trace)
    head, under = view.headline(trace, known)
    pictures = {"wide": view.pins(trace, WIDE, known), "narrow": view.pins(trace, NARROW, known)}
    bars = pictures["wide"].bars
    there = bool(pictures["wide"].rows)
    policies = [(name, f"policy {name}") for name in _HATCH if name in bars["policy"]]
    kinds = {"hazard": "hazard", "broken": "broken invariant"}
    marks = [(name, text) for name, text in kinds.items() if name in pictures["wide"].marks["kind"]]
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=view.steps(trace) if there else (),
        figures={name: partial(figure, picture) for name, picture in pictures.items() if there},
        data={name: _placed(picture) for name, picture in pictures.items()} | _said(trace, known, bars),
        legend=[*policies, ("live", "allocated"), *marks],
        poster=_poster(trace, bars["begin"], bars["end"]),
        scales=True,
        rows="rows",
    )


def _placed(picture: view.Pins) -> dict[str, Any]:
    names = ("width", "edges", "rows", "scales", "ticks")
    marks = {"at": picture.marks["at"], "tip": picture.marks["tip"]}
    return {name: getattr(picture, name) for name in names} | {"marks": marks, "top": view.TOP}


def _said(trace: Trace, known: Pieces, bars: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "t": [rec.t for rec in trace.records],
        "who": [told._asdict() for told in said(trace, known)],
        "wrong": [found._asdict() for found in wrong(trace)],
        "tips": bars["tip"],
        "row": view.struck(trace, known),
    }


def _poster(trace: Trace, begins: list[int], ends: list[int]) -> int:
    """Return where to open: at the first violation, else in the middle of the pins."""
    broken = next((at for at, rec in enumerate(trace.records) if isinstance(rec, Violation)), -1)
    if broken >= 0 or not begins:
        return max(broken, 0)
    return (min(begins) + max(ends)) // 2


class Pins(Staged):
    """Who holds this page, in a notebook: the pins of `trace` over time."""

    act = "pins.js"
    _esm = script("pins.js", "host.js")
    _css = style()

    def __init__(self, trace: Trace, theme: Theme = "auto") -> None:
        """Show the pins of `trace`."""
        super().__init__(scene(trace), theme)
        self.trace = trace


def sample() -> Trace:
    """Return two IOs, typed out: a read that holds whole ranges, a write by pages, and an unmap in the middle."""
    va, vb = 0x7F00_0000_0000, 0x7F00_0010_0000
    one, two = ((0x1_4020_0000, 16384), (0x1_4031_0000, 8192)), ((0x1_8000_4000, 12288),)
    text = "the device writes into frame 0x140310, which was let go of and freed before"
    return Trace((
        Mmap(0, 0, va, 24576, "rw-", "anon"), MmPageAlloc(400, 0, va, 0, 1, one),
        Mmap(800, 0, vb, 12288, "rw-", "anon"), MmPageAlloc(1200, 0, vb, 0, 1, two),
        SysEnter(2000, 1, "pread64", 3, va, 24576, 0),
        GupPin(2600, 1, 1, "range", va, one, 6, 2, 0, 32), SysEnter(5000, 2, "pwrite64", 3, vb, 12288, 65536),
        GupPin(5400, 2, 2, "page", vb, two, 3, 3, 3, 24), SysEnter(6500, 3, "pwrite64", 3, va, 16384, 131072),
        GupPin(7100, 3, 3, "range", va, one[:1], 4, 1, 0, 16),
        Hazard(14000, 1, "munmap", "the task unmaps its buffer while the device writes into it"),
        Munmap(14200, 0, va, 24576), GupUnpin(31000, 2, 2, 3, 3), SysExit(31500, 2, "pwrite64", 12288),
        GupUnpin(36000, 1, 1, 2, 0), MmPageFree(36400, 0, 0, one[1:]),
        Violation(43000, 1, "bytes", 14, text, 0x1_4031_0000, "a5a5a5a5 5a5a5a5a", "a5a50000 5a5a5a5a"),
        SysExit(44000, 1, "pread64", 24576), GupUnpin(52000, 3, 3, 1, 0), SysExit(53000, 3, "pwrite64", 16384),
    ), meta={"kernel": "6.18"})  # fmt: skip


def main() -> None:
    """Write the page of the trace file that is named on the command line, else of the sample, and print its path."""
    trace = load(Path(sys.argv[1])) if len(sys.argv) > 1 else sample()
    sys.stdout.write(f"{write(scene(trace), 'pins.js')}\n")


if __name__ == "__main__":
    main()
