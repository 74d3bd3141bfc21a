"""A trace becomes a page that draws itself once, in vectors, and leaves the SVG as text: for slides and print."""

from typing import Any

from labkit.trace.trace import Trace
from labkit.widgets.page import Theme, page
from labkit.widgets.picture import picture

WIDTH, HEIGHT = 1600, 1040
"""Pixels of the window in which the main view stands as a whole."""


def figure(trace: Trace, theme: Theme = "light", at: int | None = None) -> str:
    """Return an HTML page that ends as the text of an SVG in its element `figure`; `at` is the cursor, in ns."""
    shown = picture(trace, at)
    _in_vectors(shown["item"])
    return page(trace, shown, theme, "page.js", "figure.js")


def _in_vectors(item: Any) -> None:
    """Let every figure in a Bokeh document, which is JSON, be drawn as SVG."""
    if isinstance(item, list):
        for each in item:
            _in_vectors(each)
    elif isinstance(item, dict):
        if item.get("type") == "object" and str(item.get("name")) in {"Figure", "Plot"}:
            item.setdefault("attributes", {})["output_backend"] = "svg"
        for each in item.values():
            _in_vectors(each)
