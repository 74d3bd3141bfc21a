"""One IO in several currencies: the same machine, memory, seed and bytes, and what each of them made of it."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from labkit.errors import BadInput
from labkit.machine.differences import differences
from labkit.machine.machine import Machine
from labkit.scenario import Scenario
from labkit.trace.layers import BELOW_DIO, LAYERS, layers
from labkit.trace.registration import REGISTRATION, is_registration, registration
from labkit.trace.trace import Trace
from labkit.units import human_bytes

SYSTEMS = ("page", "phyr", "unified")
"""What is compared if nobody says otherwise: what takes any memory to any file. The first is the measure."""
KNOWN = (*SYSTEMS, "premapped")
"""What can be compared. Device addresses go to the raw device of NVMe alone, and only as they are asked for."""
Row = tuple[str, str, tuple[int, ...], tuple[float | None, ...]]
"""Layer, meter, the value in each system, and its ratio to that of the first (None where that is 0)."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """What came of it. In Jupyter, and printed, a table."""

    scenario: Scenario
    reports: dict[str, dict[str, Any]]
    """What Machine.run returned, by system."""
    traces: dict[str, Trace]
    labels: dict[str, str]
    """Whose idea each system is: upstream, proposed or ours."""
    differences: tuple[str, ...] = field(default=())
    """A sentence for each difference of results; it names the rule where the difference is known."""
    equal: bool = True
    """Whether all results are equal, but for differences that are known (machine/differences.py)."""

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each system that keeps something between two IOs."""
        kept = {name: registration(trace.records) for name, trace in self.traces.items()}
        return tuple(_kept(name, **found) for name, found in kept.items() if any(found.values()))

    def table(self) -> list[Row]:
        """Return every meter of every layer that any system has counted; `once` is what registering a buffer takes."""
        meters = {name: _meters(trace) for name, trace in self.traces.items()}
        rows: list[Row] = []
        for layer, names in {**LAYERS, "once": REGISTRATION}.items():
            for name in names:
                values = tuple(meters[system][layer][name] for system in self.traces)
                if any(values):
                    rows.append((layer, name, values, tuple(v / values[0] if values[0] else None for v in values)))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        meters = {name: _meters(trace) for name, trace in self.traces.items()}
        first = next(iter(meters))
        return {
            "equal": self.equal,
            "differences": list(self.differences),
            "notes": list(self.notes),
            "systems": {
                name: {
                    "label": self.labels[name],
                    "result": report["result"],
                    "verified": report["verified"],
                    "error": report["error"],
                    "meters": meters[name],
                    "ratios": _ratios(meters[name], meters[first]),
                    "totals": report["meters"],
                    "struct_pages_below_dio": sum(meters[name][layer].get("struct_pages", 0) for layer in BELOW_DIO),
                    "sim_ns": report["sim_ns"],
                }
                for name, report in self.reports.items()
            },
            "scenario": self.scenario.model_dump(mode="json", exclude={"system"}),
        }

    def __repr__(self) -> str:
        """Return what is compared, and whether results are equal; the table is what is printed."""
        return f"<Comparison of {', '.join(self.traces)}: results {'equal' if self.equal else 'NOT equal'}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._html()}

    def __str__(self) -> str:
        """Return the table as text."""
        width = max((len(text) for text in (*self.traces, *self.labels.values())), default=8) + 2
        lines = ["".join(["layer   meter             ", *(f"{name:>{width}}" for name in self.traces)])]
        lines += [f"{'':26}" + "".join(f"{self.labels[name]:>{width}}" for name in self.traces)]
        for layer, name, values, ratios in self.table():
            cells = (f"{v:,}{_times(r)}" for v, r in zip(values, ratios, strict=True))
            lines.append(f"{layer:8}{name.replace('_', ' '):18}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join([*lines, *self._verdict()])

    def _verdict(self) -> list[str]:
        results = ", ".join(f"{name} {report['result']}" for name, report in self.reports.items())
        equal = "equal" if not self.differences else "not equal"
        return [f"results: {results}: {equal}", *self.differences, *self.notes]

    def _html(self) -> str:
        head = "".join(f"<th>{escape(name)}<br><small>{escape(self.labels[name])}</small></th>" for name in self.traces)
        rows = "".join(
            f"<tr><td>{escape(layer)}</td><td>{escape(name.replace('_', ' '))}</td>"
            + "".join(f"<td>{v:,}<small>{_times(r)}</small></td>" for v, r in zip(values, ratios, strict=True))
            + "</tr>"
            for layer, name, values, ratios in self.table()
        )
        said = "<br>".join(escape(line) for line in self._verdict())
        head = f"<thead><tr><th>layer</th><th>meter</th>{head}</tr></thead>"
        return f"<table>{head}<tbody>{rows}</tbody></table><p>{said}</p>"


def compare(scenario: Scenario | None = None, systems: Sequence[str] = SYSTEMS, **knobs: Any) -> Comparison:
    """Run `scenario`, or the one that `knobs` describe, in each of `systems`, and set them side by side.

    Raises BadInput EINVAL for a system that is none, or a scenario that cannot be, NotAllowed as Machine does.
    """
    known = [name for name in systems if name in KNOWN]
    if not known or len(known) != len(systems) or len(set(known)) != len(known):
        rule = f"are not some of {', '.join(KNOWN)}, each once"
        raise BadInput("compare", f"systems={','.join(systems)}"[:80], rule, errno.EINVAL)
    base = (scenario or Scenario.of(knobs)).model_dump(exclude_unset=True)
    reports, traces, labels = {}, {}, {}
    for name in systems:
        own = base | {"system": name}
        if name != "phyr":
            own |= {"pin": None, "chunk": 0}
        with Machine(Scenario.of(own)) as machine:
            reports[name] = machine.run()
            traces[name] = machine.trace
            labels[name] = str(machine.trace.meta["origin"]["memory"])
    told = differences(Scenario.of(base), reports)
    return Comparison(
        Scenario.of(base), reports, traces, labels, tuple(text for text, _ in told), all(known for _, known in told)
    )


def _meters(trace: Trace) -> dict[str, dict[str, int]]:
    """Return what the IOs of `trace` cost, layer by layer, and apart from it what was paid once."""
    records = trace.records
    return layers(rec for rec in records if not is_registration(rec)) | {"once": registration(records)}


def _kept(name: str, *, pinned_bytes: int, mapped_bytes: int, **_: int) -> str:
    """Return what is taken from all others for as long as a buffer is registered (REG-1, DMABUF-4)."""
    mapped = f", {human_bytes(mapped_bytes)} of it mapped for one device" if mapped_bytes else ""
    held = human_bytes(pinned_bytes) if pinned_bytes else "memory of a device"
    return f"{name}: {held} stays in place{mapped}, until it is unregistered, and whether IO goes there or not"


def _ratios(mine: dict[str, dict[str, int]], first: dict[str, dict[str, int]]) -> dict[str, dict[str, float | None]]:
    return {
        layer: {name: round(v / first[layer][name], 4) if first[layer][name] else None for name, v in meters.items()}
        for layer, meters in mine.items()
    }


def _times(ratio: float | None) -> str:
    return "" if ratio is None or ratio == 1 else f" ×{ratio:.3g}"
