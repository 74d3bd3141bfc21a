"""A trace becomes a stand-alone page: it opens from a file, with the network off."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Literal

from labkit.trace.trace import Trace
from labkit.views.journey import journey
from labkit.views.title import title
from labkit.widgets.bokehjs import bokehjs
from labkit.widgets.picture import picture, script, style

Theme = Literal["auto", "light", "dark"]

_PAGE = Template((Path(__file__).parent / "page.html").read_text("utf-8"))


def standalone(trace: Trace, theme: Theme = "auto", at: int | None = None) -> str:
    """Return an HTML page that shows `trace` from `at` (ns) on; `auto` follows what the reader's system prefers."""
    return page(trace, picture(trace, at), theme, "page.js")


def page(trace: Trace, shown: dict[str, Any], theme: Theme, *scripts: str) -> str:
    """Return an HTML page of the picture `shown`, with `scripts` after the player's."""
    return _PAGE.substitute(
        theme=escape(theme),
        title=escape(title(trace, journey(trace)).head),
        style=style(),
        picture=json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c"),
        bokehjs=bokehjs().replace("</script", "<\\/script"),
        script=script(*scripts),
    )
