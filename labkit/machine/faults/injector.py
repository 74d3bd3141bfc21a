"""Faults wait for their moment in the trace, begin, and are told of at the end."""

from typing import Any

from labkit.errors import LabkitError
from labkit.machine.faults.asked import Asked, asked
from labkit.machine.faults.plant import Met, Plant
from labkit.machine.faults.strikes import AFTERWARDS, STRIKES
from labkit.scenario import Scenario
from labkit.trace.events import Record


class Fault:
    """One fault: waiting, due from its record on, begun as soon as it can be; struck, if the IO came to feel it."""

    def __init__(self, wanted: Asked) -> None:
        """Wait for the record that `wanted` names."""
        self.kind, self.event = wanted
        self.due = self.begun = self.struck = False
        self.text = f"the IO never comes to {self.event}"

    def kept_from(self, met: Met) -> bool:
        """Return whether it kept the IO from any request that could have told: nothing to pin, or to register at."""
        return self.kind in {"revoke", "iova-exhausted", "swiotlb-full"} and (met.moved or 0) < 0

    def told(self) -> dict[str, Any]:
        """Return what came of it: kind, at, outcome, text; "missed" where it never began, or too late to matter."""
        outcome = "struck" if self.struck else "missed"
        return {"kind": self.kind, "at": self.event, "outcome": outcome, "text": self.text}


class Injector:
    """Lets the faults of a scenario begin, each in the instant of the first record of the first IO that it names.

    It is a sink, and the last one: everybody has seen the record when the fault begins.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Wait for nothing yet: `enter` says where. Raises ScenarioError for a fault that is none, or cannot be."""
        self._faults = [Fault(wanted) for wanted in asked(scenario)]
        self._plant: Plant | None = None
        self._met = Met()

    def enter(self, plant: Plant) -> None:
        """Watch the first IO of `plant` from now on; what is written may be lost, where the power is to fail."""
        self._plant, self._met = plant, Met()
        if plant.medium is not None and any(fault.kind == "torn-write" for fault in self._faults):
            plant.medium.journal()

    def __call__(self, rec: Record) -> None:
        """Look at `rec`: it may tell of what has begun, or be the moment of what has not."""
        plant, met = self._plant, self._met
        if plant is None or not met.see(rec):
            return
        for fault in self._faults:
            fault.struck = fault.struck or (fault.begun and (met.disturbed or fault.kept_from(met)))
        for fault in self._faults:
            if fault.begun or not (fault.due or type(rec).__name__ == fault.event):
                continue
            if fault.kind in AFTERWARDS:
                fault.begun = True
                plant.clock.later(0, self._begin, plant, fault)
            else:
                fault.due, fault.text = True, f"the IO comes to {fault.event}, and there is nothing to break any more"
                self._begin(plant, fault)

    def _begin(self, plant: Plant, fault: Fault) -> None:
        """Let `fault` strike, and tell the trace; not yet, if it has nothing to strike at."""
        self._met.disturbed = False
        try:
            text = STRIKES[fault.kind](plant, self._met)
        except LabkitError as bad:
            text = str(bad)
        if text is not None:
            fault.begun, fault.text, fault.struck = True, text, self._met.disturbed
            plant.tracer.emit(("Fault", plant.clock.now, self._met.number, fault.kind, text))

    def told(self) -> list[dict[str, Any]]:
        """Return what came of each fault."""
        return [fault.told() for fault in self._faults]
