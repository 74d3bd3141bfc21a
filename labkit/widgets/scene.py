"""A picture with steps: one figure in two widths, words and a transport around it, and the browser walks through.

A picture gives a `Scene`; here it becomes a notebook widget (`Staged`) or a stand-alone page (`standalone`). What moves
is in a script of the picture's own, a class `Act` with `draw(at, row)`; steps, keys, hover and table are in scene.js.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal

from labkit.views.steps import Step, told
from labkit.widgets.bokehjs import bokehjs
from labkit.widgets.host import LazyBokeh
from labkit.widgets.theme import DARK, LIGHT

Theme = Literal["auto", "light", "dark"]

_HERE = Path(__file__).parent
_BUTTONS = (
    ("first", "|◂", "To the first step"),
    ("back", "◂", "One step back"),
    ("toggle", "▶", "Play"),
    ("next", "▸", "One step on"),
    ("end", "▸|", "To the last step"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture hands over. `figures` are made when needed, by the width they are for: 'wide' and 'narrow'."""

    head: str
    under: str
    label: str
    steps: Sequence[Step]
    figures: Mapping[str, Callable[[], Any]]
    data: Mapping[str, Any]
    """What its script draws by, JSON values; of 'wide' and 'narrow' it sees the one that is shown."""
    legend: Sequence[tuple[str, str]] = ()
    """(class of the style sheet, words)."""
    meters: Mapping[str, str] = field(default_factory=dict)
    poster: int = 0
    """The step that it opens at."""
    scales: bool = False
    rows: str = ""
    """What is chosen with the up and down keys, '' for nothing."""

    @property
    def text(self) -> str:
        """The picture as text, for where there are no pictures: headline and every step."""
        lines = (f"{step.clock:>14}  {step.text}" for step in self.steps)
        return "\n".join((self.head, self.under, *lines))


class Staged(LazyBokeh):
    """A scene in a notebook. `t` and `selection` follow the reader: the step (or ns), and the row that is chosen."""

    def __init__(self, scene: Scene, theme: Theme = "auto") -> None:
        """Show `scene`; `auto` follows the theme of the page."""
        super().__init__(item=item(scene), theme=theme)
        self.scene = scene

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and beside it the steps as text."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            data["text/plain"] = self.scene.text
        return bundle

    def page(self) -> str:
        """Return the same as an HTML page that needs neither kernel nor network."""
        return standalone(self.scene, type(self).act)

    act = ""
    """The script that moves it."""


def item(scene: Scene) -> dict[str, Any]:
    """Return `scene` as JSON values: `html`, `item` (a Bokeh document for each width), `data` and `palettes`."""
    documents = {name: _document(make()) for name, make in scene.figures.items() if scene.steps}
    about = {"told": told(scene.steps), "n": len(scene.steps), "poster": scene.poster, "rows": bool(scene.rows)}
    return {
        "html": _html(scene),
        "item": documents,
        "data": dict(scene.data) | about,
        "palettes": {"light": LIGHT, "dark": DARK},
    }


def standalone(scene: Scene, act: str, theme: Theme = "auto") -> str:
    """Return an HTML page of `scene`, moved by the script `act`; `auto` follows what the reader's system prefers."""
    template = Template((_HERE / "page.html").read_text("utf-8"))
    return template.substitute(
        theme=escape(theme),
        title=escape(scene.head),
        style=style(),
        picture=json.dumps(item(scene), separators=(",", ":")).replace("<", "\\u003c"),
        bokehjs=bokehjs().replace("</script", "<\\/script"),
        script=script(act, "page.js"),
    )


def write(scene: Scene, act: str) -> str:
    """Write the page of `scene` to a temporary file; return its name."""
    with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as out:
        out.write(standalone(scene, act))
    return out.name


@cache
def style() -> str:
    """Return the style sheet."""
    return "\n".join((_HERE / name).read_text("utf-8") for name in ("chrome.css", "scene.css"))


@cache
def script(*names: str) -> str:
    """Return the stage as one ES module, and after it the scripts `names`."""
    return "\n".join((_HERE / name).read_text("utf-8") for name in ("stage.js", "scene.js", *names))


def _document(figure: Any) -> Any:
    from bokeh.embed import json_item  # noqa: PLC0415 - Bokeh takes a second to import

    return json.loads(json.dumps(json_item(figure)))


def _html(scene: Scene) -> str:
    """Return the markup around the figure; every string is escaped."""
    meters = "".join(
        f'<div><b data-meter="{name}">0</b><span>{words}</span></div>' for name, words in scene.meters.items()
    )
    meters = f"<div class=meters role=group aria-label=Meters>{meters}</div>" if meters else ""
    keys = "".join(f'<li class="{name}">{escape(words)}</li>' for name, words in scene.legend)
    legend = f"<ul class=legend>{keys}</ul>" if keys else ""
    top = f"<div class=head><div><h1>{escape(scene.head)}</h1><p>{escape(scene.under)}</p></div>{meters}</div>"
    if not scene.steps:
        return top
    return (
        f'{top}<div class=stage data-stage tabindex=0 role=group aria-label="{escape(scene.label)}"></div>'
        "<p class=now data-now role=status><b data-clock></b><i data-layer></i><span data-text></span>"
        "<code data-function></code><em data-origin class=origin></em></p>"
        "<p class=who data-who aria-live=polite hidden></p><div class=bytes data-bytes hidden></div>"
        f"<div class=transport>{_transport(scene)}{legend}</div>{_table(len(scene.steps))}"
        "<div class=tip data-tip hidden></div>"
    )


def _transport(scene: Scene) -> str:
    play = {"toggle": " data-play"}
    buttons = "".join(
        f'<button type=button data-do={name}{play.get(name, "")} aria-label="{say}" title="{say}">{sign}</button>'
        for name, sign, say in _BUTTONS
    )
    scrub = '<input type=range data-scrub min=0 step=1 aria-label="Step"><output class=count data-count></output>'
    scales = (
        "<select data-scale aria-label='Scale'><option value=events>one step an event</option>"
        "<option value=time>true time</option></select>"
    )
    speeds = "".join(f"<option value={n}{' selected' * (n == 1)}>{n}×</option>" for n in (0.25, 0.5, 1, 2, 4))
    hint = f"<kbd>◂ ▸</kbd> steps, <kbd>▴ ▾</kbd> {escape(scene.rows)}" if scene.rows else "<kbd>◂ ▸</kbd> steps"
    speed = f"<select data-speed aria-label=Speed>{speeds}</select><span class=hint>{hint}</span>"
    return buttons + scrub + scales * scene.scales + speed


def _table(steps: int) -> str:
    row = "".join(f"<th scope=col>{name}</th>" for name in ("where", "part", "what there is", "function", "origin"))
    table = f"<table><thead><tr>{row}</tr></thead><tbody></tbody></table>"
    return f"<details><summary>All {steps:,} steps as a table</summary>{table}</details>"
