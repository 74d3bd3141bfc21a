"""The picture of four addresses, drawn: columns of labkit.views.memory become one Bokeh figure."""

from textwrap import wrap
from typing import Any

from labkit.views.layout import BOTTOM, BUS, DISK, HEIGHT, STRIP_BOTTOM, WIDTH
from labkit.views.memory import Memory
from labkit.widgets.canvas import boxes, moving, sheet, source, words
from labkit.widgets.curves import curves
from labkit.widgets.theme import LIGHT


def figure(picture: Memory, at: float) -> Any:
    """Return the figure of `picture` as it is at record `at`."""
    fig = sheet(WIDTH, HEIGHT, "User memory, physical memory, device addresses and blocks of an IO, joined by ribbons")
    _cards(fig, picture)
    _map(fig, picture, at)
    _ribbons(fig, picture, at)
    _ends(fig, picture, at)
    words(fig, "texts", picture.texts)
    _labels(fig, picture, at)
    _inspector(fig, picture)
    _stop(fig, picture)
    return fig


_CARDS: dict[str, dict[str, Any]] = {
    "card": {"fill_color": LIGHT["card"], "line_color": LIGHT["hair"], "border_radius": 4},
    "tile": {"fill_color": LIGHT["card"], "line_color": LIGHT["hair"], "border_radius": 3},
    "none": {"fill_color": None, "line_color": LIGHT["hair"], "line_dash": "dashed", "border_radius": 4},
    "asked": {
        "fill_color": LIGHT["free"], "line_color": LIGHT["hair"], "border_radius": 2,
        "hatch_pattern": "right_diagonal_line", "hatch_color": LIGHT["mark"], "hatch_alpha": 0.4,
        "hatch_scale": 9, "hatch_weight": 0.6,
    },
}  # fmt: skip
"""How what stands still looks; `asked` is memory that an IO asked for, before it is pinned."""


def _cards(fig: Any, picture: Memory) -> None:
    for role, look in _CARDS.items():
        rows = [i for i, found in enumerate(picture.cards["role"]) if found == role]
        data = {name: [picture.cards[name][i] for i in rows] for name in ("left", "top", "right", "bottom")}
        boxes(fig, source(f"cards_{role}", data), **{"fill_alpha": 1} | look)


def _map(fig: Any, picture: Memory, at: float) -> None:
    """Draw the tiles, which the browser paints once as an image, and over them what the task allocated."""
    fig.image_url("url", 0, 0, w=WIDTH, h=HEIGHT, anchor="top_left", source=source("mosaic", {"url": [""]}))
    look = {"fill_color": LIGHT["anon"], "line_color": LIGHT["mid"], "line_alpha": "alpha", "line_width": 0.8}
    boxes(fig, moving("folios", picture.moving["folios"], at), **look)
    file = {"hatch_pattern": "right_diagonal_line", "hatch_color": LIGHT["mark"], "hatch_alpha": "alpha"}
    look |= {"fill_color": LIGHT["file"], "hatch_scale": 8, "hatch_weight": 0.6} | file
    boxes(fig, moving("cached", picture.moving["cached"], at), **look)


def _ribbons(fig: Any, picture: Memory, at: float) -> None:
    boxes(fig, moving("bands", picture.moving["bands"], at))
    ribbons = picture.moving["ribbons"]
    data = moving("ribbons", ribbons | curves(ribbons), at)
    width = 0.9 if len(picture.units) <= 32 else 0.4  # noqa: PLR2004 - many thin ribbons need no outline
    fig.patches(
        "xs", "ys", source=data, fill_color="color", fill_alpha="alpha", line_color="color", line_alpha="alpha",
        line_width=width,
    )  # fmt: skip
    dots = source("dots", {"x": [], "y": []})
    fig.scatter("x", "y", source=dots, size=2.6, fill_color=LIGHT["dot"], line_color=None, fill_alpha=0.9)


def _ends(fig: Any, picture: Memory, at: float) -> None:
    """Draw the solid ends of ribbons, on each of the four columns, and the pins."""
    pinned = {"line_color": LIGHT["hue6"], "line_alpha": "edge", "line_width": 1.2}
    boxes(fig, moving("user", picture.moving["user"], at), line_color=LIGHT["card"], line_alpha=0.5, border_radius=2)
    boxes(fig, moving("memory", picture.moving["memory"], at), **pinned)
    boxes(fig, moving("bus", picture.moving["bus"], at), line_color=LIGHT["card"], line_alpha="edge", border_radius=2)
    disk = moving("disk", picture.moving["disk"], at)
    boxes(fig, disk, line_color=LIGHT["card"], line_alpha="edge", border_radius=2)
    boxes(fig, source("filled", {**disk.data, "alpha": [0.0] * len(disk.data["t1"])}), border_radius=2)
    pins = picture.moving["pins"]
    shown = [float(t1 <= at < t4) for t1, t4 in zip(pins["t1"], pins["t4"], strict=True)]
    fig.scatter(
        "x", "y", source=source("pins", pins | {"alpha": shown}), size=8, fill_color=LIGHT["hue6"],
        line_color=LIGHT["paper"], fill_alpha="alpha", line_alpha="alpha", line_width=1.4,
    )  # fmt: skip


def _labels(fig: Any, picture: Memory, at: float) -> None:
    labels = picture.labels
    data = labels | {
        "alpha": [float(t1 <= at < t4) for t1, t4 in zip(labels["t1"], labels["t4"], strict=True)],
        "size": [10.5] * len(labels["x"]),
        "font": ["ui"] * len(labels["x"]),
        "style": ["normal"] * len(labels["x"]),
    }
    words(fig, "labels", data, text_alpha="alpha")


def _inspector(fig: Any, picture: Memory) -> None:
    """Draw the card that says of one unit where it is; the player writes on it."""
    left, top, right, bottom = BUS[0], STRIP_BOTTOM + 14, DISK[1], BOTTOM + 4
    one = 1 if picture.units else 0
    edges = {"left": [left] * one, "top": [top] * one, "right": [right] * one, "bottom": [bottom] * one}
    card = source("inspector_card", edges)
    boxes(fig, card, fill_color=LIGHT["card"], fill_alpha=1, line_color=LIGHT["hair"], border_radius=6)
    ys = [top + 46 + 19 * row for row in range(5) for _ in range(2)]
    words(fig, "inspector", {
        "x": [left + 14, right - 12] + [left + 14, left + 78] * 5,
        "y": [top + 20, top + 20, *ys],
        "text": [""] * 12,
        "size": [13, 11] + [11, 10.5] * 5,
        "role": ["ink", "mid"] + ["mid", "ink"] * 5,
        "font": ["ui", "ui"] + ["ui", "mono"] * 5,
        "style": ["bold", "normal"] + ["normal"] * 10,
        "align": ["left", "right"] + ["left"] * 10,
    })  # fmt: skip


def _stop(fig: Any, picture: Memory) -> None:
    """Say what stopped the IO, in the place of what did not happen."""
    if picture.stop is None:
        return
    left, top, title, text = picture.stop
    lines = wrap(text, 46)
    right, bottom = left + 330, top + 46 + 17 * len(lines)
    edges = {"left": [left, left], "top": [top, top], "right": [right, left + 4], "bottom": [bottom, bottom]}
    card = source("stop", edges | {"color": [LIGHT["card"], LIGHT["hue6"]]})
    boxes(fig, card, fill_alpha=1, line_color=LIGHT["hair"], border_radius=4)
    n = len(lines)
    words(fig, "stop_text", {
        "x": [left + 18] * (n + 1), "y": [top + 22, *(top + 44 + 17 * i for i in range(n))], "text": [title, *lines],
        "size": [15] + [12] * n, "role": ["ink"] + ["mid"] * n, "font": ["ui"] * (n + 1),
        "style": ["bold"] + ["normal"] * n, "align": ["left"] * (n + 1),
    })  # fmt: skip
