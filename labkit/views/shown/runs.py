"""What is shown of a run: the scenario that asks for it, the trace that remembers it, the load of many IOs."""

from typing import Any

from labkit.scenario import Scenario
from labkit.trace.blame import Holder
from labkit.trace.meters import Meters, pins
from labkit.trace.trace import Trace
from labkit.units import human_bytes, human_ns
from labkit.views.journey import journey
from labkit.views.shown.sheet import Sheet
from labkit.views.shown.table import Cell, table
from labkit.views.story import Line, story
from labkit.views.title import Title, title

_BYTES = ("size", "offset", "ram", "sgl_threshold")
"""Knobs of a scenario that are bytes."""
_MOST = 10_000
"""Records of a trace whose journey is followed for its headline."""
_LONG = "Too long to be told as one journey; Explorer(trace) draws it."


def scenario(asked: Scenario) -> Sheet:
    """Return what is shown of a scenario: what somebody asked for, and then what is as ever."""
    usual = {name: info.default for name, info in Scenario.model_fields.items()}
    values = {name: getattr(asked, name) for name in usual}
    own = [name for name in values if values[name] != usual[name]]
    rest = [name for name in values if name not in own and values[name] not in (None, "", 0, (), {}, False)]
    what = f"{human_bytes(asked.size)} {asked.op} as {asked.system} on {asked.device}"
    facts = tuple((name, _knob(name, values[name])) for name in own) or (("asked for", "nothing but the defaults"),)
    said = ", ".join(f"{name}={_knob(name, values[name])}" for name in rest)
    return Sheet(f"Scenario: {what}", (f"kernel {asked.kernel}",), facts=facts, notes=(f"As ever: {said}.",))


def _knob(name: str, value: Any) -> str:
    return human_bytes(value) if name in _BYTES else str(value)


def trace(told: Trace) -> Sheet:
    """Return what is shown of a trace without its picture: headline, what it cost, and its story line by line."""
    head, under = title(told, journey(told)) if len(told) <= _MOST else Title(f"{len(told):,} records", _LONG)
    if not told.records:
        return Sheet(head, notes=(under,))
    held = pins(told.records)
    facts = (
        ("frames pinned", f"{held.taken:,}, released {held.released:,}, held {held.held:,}"),
        *_costs(told.meters()),
    )
    lines = table(
        f"All {len(told):,} events", ("time", "layer", "what happens", "function", "whose idea"), story(told), _line
    )
    return Sheet(head, tags(told.meta), facts=(("what", under), *facts), tables=(lines,))


def tags(meta: dict[str, Any]) -> tuple[str, ...]:
    """Return what labels a run: its clock, its kernel, and whose idea each of its parts is."""
    device, origin, made = meta.get("device"), meta.get("origin"), meta.get("recorded")
    clock = str(device.get("clock", "")) if isinstance(device, dict) else ""
    recorded = f"recorded {made.get('date', '')}".strip() if isinstance(made, dict) else ""
    ideas = dict.fromkeys(map(str, origin.values())) if isinstance(origin, dict) else {}
    kernel = f"kernel {meta['kernel']}" if meta.get("kernel") else ""
    return tuple(text for text in (recorded, clock, kernel, *ideas) if text)


def _line(line: Line) -> tuple[Cell, ...]:
    return human_ns(line.t), line.layer, line.text, line.function, line.origin


def meters(cost: Meters) -> Sheet:
    """Return what is shown of what an IO cost."""
    return Sheet("What it cost", facts=_costs(cost) or (("cost", "nothing was counted"),))


def _costs(cost: Meters) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", " "), f"{value:,}") for name, value in cost.as_dict().items() if value)


def holder(one: Holder) -> Sheet:
    """Return what is shown of one who holds a frame."""
    return Sheet(str(one))


def load(offered: Any) -> Sheet:
    """Return what is shown of a machine.workload.Load: what is to be offered."""
    how = f"{offered.arrivals}, {offered.rate:,g} IO/s" if offered.open else f"closed, {offered.depth:,} deep"
    facts = (
        ("tasks", f"{offered.jobs:,}"),
        ("arrivals", how),
        ("reads", f"{offered.read:.0%}"),
        ("size", " or ".join(map(human_bytes, offered.sizes))),
        ("where", ("at random" if offered.random else "one after the other") + f", {_span(offered.span_bytes)}"),
        ("seed", str(offered.seed)),
    )
    return Sheet(f"A load of {offered.count:,} IOs", facts=facts)


def _span(nbytes: int) -> str:
    return f"in the first {human_bytes(nbytes)}" if nbytes else "over all of the device"
