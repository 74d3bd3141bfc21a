"""A trace becomes a stand-alone page: it opens from a file, with the network off."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Literal

from labkit.trace.trace import Trace
from labkit.views.journey import journey
from labkit.views.title import title
from labkit.widgets.bokehjs import bokehjs
from labkit.widgets.picture import picture, script, style

Theme = Literal["auto", "light", "dark"]

_PAGE = Template((Path(__file__).parent / "page.html").read_text("utf-8"))


def standalone(trace: Trace, theme: Theme = "auto") -> str:
    """Return an HTML page that shows `trace`; `auto` follows what the reader's system prefers."""
    return _PAGE.substitute(
        theme=escape(theme),
        title=escape(title(trace, journey(trace)).head),
        style=style(),
        picture=json.dumps(picture(trace), separators=(",", ":")).replace("<", "\\u003c"),
        bokehjs=bokehjs().replace("</script", "<\\/script"),
        script=script("page.js"),
    )
