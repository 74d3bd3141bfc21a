"""The notebook's host of a Bokeh document: a thin anywidget that asks the kernel for BokehJS once per page."""

from typing import Any

import anywidget
from traitlets import Dict, Int, List, Unicode

from labkit.widgets.bokehjs import bokehjs


class LazyBokeh(anywidget.AnyWidget):  # type: ignore[misc]  # anywidget has no types
    """Shows `item` and hears of `t` (the cursor, ns) and `selection` (phyrs). A notebook stores nothing of it.

    A picture that inherits from it brings its script, which ends with host.js, and its style sheet.
    """

    item = Dict().tag(sync=True)
    theme = Unicode("auto").tag(sync=True)
    t = Int(0).tag(sync=True)
    selection = List(Int()).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        """Hold `item`, and wait for the browser to ask for BokehJS."""
        super().__init__(**traits)
        self.on_msg(self._answer)

    def _answer(self, _widget: object, content: dict[str, Any], _buffers: list[bytes]) -> None:
        if content.get("type") == "bokeh":
            self.send({"type": "bokeh"}, [bokehjs().encode()])
