"""A trace becomes one value that a browser can show: markup, a Bokeh document, and the player's columns."""

import json
from bisect import bisect_right
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from labkit.trace.trace import Trace
from labkit.views.fold import Unit
from labkit.views.journey import Journey, journey
from labkit.views.lanes import Lanes, lanes
from labkit.views.layout import HEIGHT, WIDTH
from labkit.views.memory import Memory, memory
from labkit.views.player import Player, card, player
from labkit.widgets import lanes as draw_lanes
from labkit.widgets import memory as draw_memory
from labkit.widgets.chrome import html
from labkit.widgets.theme import DARK, FADE, LIGHT

_HERE = Path(__file__).parent
_SCRIPTS = ("mosaic.js", "stage.js", "player.js", "embed.js")


def picture(trace: Trace, at: int | None = None) -> dict[str, Any]:
    """Return the picture of `trace` as JSON values: `html`, `item` (Bokeh), `data` (the player's) and `palettes`.

    It opens at `at` ns, or where the player finds the middle of things.
    """
    trip = journey(trace)
    page, rows = memory(trace, trip), lanes(trace, trip)
    data = _told(player(trace, trip)) | _stage(trip, page, rows)
    if at is not None:
        data["poster"] = max(bisect_right(data["t"], at) - 1, 0)
    return {
        "html": html(trace, trip, page),
        "item": _document(page, rows, data["poster"]) if trace.records else None,
        "data": data,
        "palettes": {"light": LIGHT, "dark": DARK},
    }


def _document(page: Memory, rows: Lanes, at: float) -> Any:
    from bokeh.embed import json_item  # noqa: PLC0415 - Bokeh takes a second to import
    from bokeh.layouts import column  # noqa: PLC0415

    root = column(draw_memory.figure(page, at), draw_lanes.figure(rows), sizing_mode="scale_width")
    return json.loads(json.dumps(json_item(root)))


def _told(told: Player) -> dict[str, Any]:
    """Return the player's columns; of the three that repeat themselves each word is told once."""
    columns = {item.name: getattr(told, item.name) for item in fields(told)}
    for name in ("layer", "function", "origin"):
        words = sorted(set(columns[name]))
        rank = {word: i for i, word in enumerate(words)}
        columns[name] = {"words": words, "at": [rank[word] for word in columns[name]]}
    return columns


def _stage(trip: Journey, page: Memory, rows: Lanes) -> dict[str, Any]:
    """Return what the stage draws by: scales, the map's cells, units, and how shapes fade."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "write": bool(trip.ios) and "write" in trip.ios[0].name,
        "fade": FADE,
        "scales": rows.scales,
        "ticks": rows.ticks,
        "map": {
            "cell": page.tiles.cell,
            "tiles": [(tile.left, tile.top) for tile in page.tiles.tiles],
            "codes": (page.cells + 64).tobytes().decode("ascii"),
        },
        "units": [_unit(trip, unit) for unit in page.units],
    }


def _unit(trip: Journey, unit: Unit) -> dict[str, Any]:
    times = ("pin", "map", "issue", "serve", "complete", "unpin")
    about = {"phyr": unit.first, "request": unit.request, "times": {name: getattr(unit, name) for name in times}}
    return about | card(trip, unit)


@cache
def style() -> str:
    """Return the style sheet."""
    return (_HERE / "chrome.css").read_text("utf-8")


@cache
def script(*names: str) -> str:
    """Return the player as one ES module, and after it the scripts `names`."""
    return "\n".join((_HERE / name).read_text("utf-8") for name in (*_SCRIPTS, *names))
