"""A trace becomes a page in a file."""

from pathlib import Path

from labkit.trace.trace import Trace


def write_page(trace: Trace, out: Path) -> None:
    """Write a stand-alone page of `trace` to `out`. Raises OSError."""
    from labkit.widgets.page import standalone  # noqa: PLC0415 - Bokeh takes a second to import

    out.write_text(standalone(trace), encoding="utf-8")
