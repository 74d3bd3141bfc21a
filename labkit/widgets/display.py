"""Objects of the lab show themselves in IPython and Jupyter: `%load_ext labkit.widgets.display`, once in a notebook.

The engine draws nothing, and knows nothing of this: its classes are registered by name, and none is imported here.
"""

from functools import partial
from typing import Any

from labkit.trace.trace import Trace
from labkit.views.shown.registry import SHEETS
from labkit.views.shown.runs import trace as trace_sheet

MOST_RECORDS = 2_000
"""Records of a trace that is drawn unasked, which takes a second then; of a longer one the sheet is shown."""


def load_ipython_extension(shell: Any) -> None:
    """Register every public object with the formatters of `shell`; what was registered before goes."""
    rich, text = _formatters(shell)
    for name, sheet in SHEETS.items():
        rich.for_type(name, partial(_bundle, sheet))
        text.for_type(name, partial(_text, sheet))
    rich.for_type("labkit.trace.trace.Trace", trace_bundle)


def unload_ipython_extension(shell: Any) -> None:
    """Let every object be shown as Python shows it."""
    for formatter in _formatters(shell):
        for name in SHEETS:
            formatter.pop(name, None)


def _formatters(shell: Any) -> tuple[Any, Any]:
    """Return what makes bundles, and what makes text: IPython's own text of a tuple goes before that of a bundle."""
    return shell.display_formatter.mimebundle_formatter, shell.display_formatter.formatters["text/plain"]


def _text(sheet: Any, thing: Any, printer: Any, _cycle: bool) -> None:
    """Print the sheet of a thing that stands alone, and the line of one in a list."""
    printer.text(str(sheet(thing)) if len(printer.stack) == 1 else repr(thing))


def _bundle(sheet: Any, thing: Any) -> dict[str, str]:
    found: dict[str, str] = sheet(thing).bundle
    return found


def trace_bundle(trace: Trace) -> Any:
    """Return the Explorer of `trace`, and beside it the sheet: text for a terminal, HTML for a page without widgets."""
    sheet = trace_sheet(trace)
    if not trace.records or len(trace) > MOST_RECORDS:
        return sheet.bundle
    from labkit.widgets.explorer import Explorer  # noqa: PLC0415 - Bokeh takes a second to import

    bundle = Explorer(trace)._repr_mimebundle_()
    data, about = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
    return {**data, **sheet.bundle}, about
