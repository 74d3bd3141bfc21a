"""Which sheet an object has, by the name of its class: to know a class by name is not to import it."""

from collections.abc import Callable
from typing import Any

from labkit.views.shown import machine, memory, runs, witness
from labkit.views.shown.sheet import Sheet

SHEETS: dict[str, Callable[[Any], Sheet]] = {
    "labkit.machine.machine.Machine": machine.machine,
    "labkit.task.task.Task": machine.task,
    "labkit.task.buffer.Buffer": machine.buffer,
    "labkit.scenario.scenario.Scenario": runs.scenario,
    "labkit.trace.trace.Trace": runs.trace,
    "labkit.trace.meters.Meters": runs.meters,
    "labkit.trace.blame.Holder": runs.holder,
    "labkit.machine.workload.load.Load": runs.load,
    "labkit.scatter.phyr.Phyr": memory.phyr,
    "labkit.scatter.phyr.PhyrList": memory.phyrs,
    "labkit.scatter.phyr.PhyrArray": memory.phyrs,
    "labkit.trace.snapshot.FolioState": memory.folio,
    "labkit.trace.snapshot.PinState": memory.pin,
    "labkit.trace.snapshot.DmaState": memory.dma,
    "labkit.trace.snapshot.Snapshot": memory.snapshot,
    "labkit.host.probe.Report": witness.report,
    "labkit.host.probe.Finding": witness.finding,
    "labkit.witness.capture.Capture": witness.capture,
    "labkit.witness.predict.Prediction": witness.prediction,
    "labkit.witness.outcome.Outcome": witness.outcome,
    "labkit.witness.outcome.Rates": witness.rates,
    "labkit.witness.outcome.Fit": witness.fit,
    "labkit.witness.structs.StructSize": witness.struct_size,
    "labkit.witness.demos.demo.Shown": witness.demonstration,
}
"""The full name of a class, and what makes its sheet. Comparison and Offered show themselves."""


def sheet_of(thing: object) -> Sheet | None:
    """Return the sheet of `thing`, or of the nearest class that it inherits from; None for what has none."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(thing).__mro__)
    make = next((SHEETS[name] for name in names if name in SHEETS), None)
    return make(thing) if make else None
