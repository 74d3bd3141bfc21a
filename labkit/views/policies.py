"""Pin policies become words: how memory is held, and whose idea that is."""

from labkit.trace.events import GupPin
from labkit.trace.trace import Trace

HOW = {
    "page": "pinned page by page", "folio": "pinned folio by folio", "range": "pinned as whole ranges",
    "lease": "held by a lease", "none": "used without a pin",
}  # fmt: skip
"""What each policy does with memory."""
RULES = {"page": " (MM-13, MM-14)", "folio": " (MM-14)"}
"""The rules that a policy follows, in brackets."""


def proposed(trace: Trace) -> set[int]:
    """Return the tokens of pins that get_user_phyrs took: as the scenario says, else by how they are counted."""
    knobs = trace.meta.get("scenario")
    system = knobs.get("system") if isinstance(knobs, dict) else None
    if isinstance(system, str):
        return {pin.token for pin in trace.of(GupPin)} if system == "phyr" else set()
    return {pin.token for pin in trace.of(GupPin) if pin.policy != "page"}
