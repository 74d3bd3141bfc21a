"""What stands around the pictures: headline, meters, narration, transport, legend and the table twin, as plain HTML.

Native buttons, a native slider and a native table: keyboard and screen reader work without our doing.
"""

from html import escape

from labkit.trace.events import MmFilemapAddToPageCache
from labkit.trace.trace import Trace
from labkit.views.journey import Journey
from labkit.views.memory import Memory
from labkit.views.player import METERS
from labkit.views.title import title

_BUTTONS = (
    ("first", "|◂", "To the first event"),
    ("back", "◂", "One event back"),
    ("toggle", "▶", "Play"),
    ("next", "▸", "One event on"),
    ("end", "▸|", "To the last event"),
)
_KINDS = (
    ("free", "free"), ("anon", "anonymous"), ("file", "page cache"), ("slab", "slab"), ("pagetable", "page tables"),
    ("pin", "pinned"), ("nopage", "no struct page"),
)  # fmt: skip


def html(trace: Trace, trip: Journey, picture: Memory) -> str:
    """Return the markup around the pictures of `trace`; every string of the trace is escaped."""
    head, under = title(trace, trip)
    top = f"<div class=head><div><h1>{escape(head)}</h1><p>{escape(under)}</p></div>"
    if not trace.records:
        return f"{top}</div>"
    return (
        f"{top}{_meters()}</div><div class=stage data-stage></div>"
        "<p class=now data-now role=status><b data-clock></b><i data-layer></i><span data-text></span>"
        "<code data-function></code><em data-origin class=origin></em></p>"
        f"<div class=transport>{_buttons()}{_scrub()}{_choices()}{_legend(trace, picture)}</div>"
        f"{_folded(picture)}{_table(len(trace))}"
    )


def _meters() -> str:
    cells = "".join(f'<div><b data-meter="{name}">0</b><span>{words}</span></div>' for name, words in METERS.items())
    return f"<div class=meters role=group aria-label=Meters>{cells}</div>"


def _buttons() -> str:
    play = {"toggle": " data-play"}
    return "".join(
        f'<button type=button data-do={name}{play.get(name, "")} aria-label="{say}" title="{say}">{sign}</button>'
        for name, sign, say in _BUTTONS
    )


def _scrub() -> str:
    return '<input type=range data-scrub step=any aria-label="Time"><output class=count data-count></output>'


def _choices() -> str:
    speeds = "".join(f"<option value={n}{' selected' * (n == 1)}>{n}×</option>" for n in (0.25, 0.5, 1, 2, 4))
    return (
        "<select data-scale aria-label='Scale of the lanes'><option value=events>one step an event</option>"
        f"<option value=time>true time</option></select><select data-speed aria-label=Speed>{speeds}</select>"
    )


def _legend(trace: Trace, picture: Memory) -> str:
    """Return the kinds of memory that the map shows, and the pin; a trace may say what is where it tells of nothing."""
    said = {"free": escape(str(trace.meta.get("elsewhere") or "free"))}
    seen = {name for name, _ in _KINDS[:1]} | {"pin", "anon"} | _kinds(picture)
    seen |= {"file"} if trace.of(MmFilemapAddToPageCache) else set()
    keys = "".join(f'<li class="{name}">{said.get(name, words)}</li>' for name, words in _KINDS if name in seen)
    return f"<ul class=legend>{keys}</ul>"


def _kinds(picture: Memory) -> set[str]:
    present = set((picture.cells & 7).ravel().tolist())
    return {name for i, name in enumerate(("free", "anon", "file", "slab", "pagetable", "nopage")) if i in present}


def _folded(picture: Memory) -> str:
    drawn, pieces = picture.folded
    if drawn == pieces:
        return ""
    return f"<p class=folded>{pieces:,} pieces are folded into {drawn:,} shapes: neighbours are drawn as one.</p>"


def _table(events: int) -> str:
    heads = ("time", "layer", "what happens", "function", "origin")
    row = "".join(f"<th scope=col>{name}</th>" for name in heads)
    table = f"<table><thead><tr>{row}</tr></thead><tbody></tbody></table>"
    return f"<details><summary>All {events:,} events as a table</summary>{table}</details>"
