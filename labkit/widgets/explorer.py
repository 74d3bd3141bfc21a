"""The Explorer: one IO, four addresses of the same bytes, one cursor of time.

    from labkit.widgets.explorer import Explorer
    Explorer(m.trace)

Run with a trace file, this module writes a page of it and says where: python -m labkit.widgets.explorer run.json.gz
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from labkit.trace.store import load
from labkit.trace.trace import Trace
from labkit.views.journey import journey
from labkit.views.title import title
from labkit.widgets.host import LazyBokeh
from labkit.widgets.page import Theme, standalone
from labkit.widgets.picture import picture, script, style


class Explorer(LazyBokeh):
    """The picture of a trace, in a notebook. `t` and `selection` follow the reader; `show` puts another trace there."""

    _esm = script("host.js")
    _css = style()

    def __init__(self, trace: Trace, theme: Theme = "auto") -> None:
        """Show `trace`; `auto` follows the theme of the page."""
        super().__init__(item=picture(trace), theme=theme)
        self.trace = trace

    def show(self, trace: Trace) -> None:
        """Show another trace in the same place."""
        self.trace, self.selection = trace, []
        self.item = picture(trace)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and beside it the headline as text for where there are no pictures."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            data["text/plain"] = "\n".join(title(self.trace, journey(self.trace)))
        return bundle


def main() -> None:
    """Write the page of the trace file that is named on the command line to a temporary file, and print its path."""
    with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as out:
        out.write(standalone(load(Path(sys.argv[1]))))
    sys.stdout.write(f"{out.name}\n")


if __name__ == "__main__":
    main()
