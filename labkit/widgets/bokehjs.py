"""BokehJS, from the package that is installed."""

from functools import cache
from pathlib import Path

_FILES = ("bokeh.min.js",)
"""What of BokehJS the documents need: they are figures, without Bokeh's own widgets."""


@cache
def bokehjs() -> str:
    """Return BokehJS from the installed package."""
    import bokeh  # noqa: PLC0415 - Bokeh takes a second to import

    static = Path(bokeh.__file__).parent / "server" / "static" / "js"
    return "\n".join((static / name).read_text("utf-8") for name in _FILES)
