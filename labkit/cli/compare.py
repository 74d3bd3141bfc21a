"""`labkit compare`: one IO, several currencies, a table of what each of them cost."""

import json as json_module
import sys

from rich.console import Console
from rich.table import Table

from labkit.cli.refusal import EXIT_FAILED
from labkit.machine.compare import Comparison, compare
from labkit.scenario import Scenario
from labkit.units import human_bytes, human_ns


def compare_systems(scenario: Scenario, systems: str, *, json: bool) -> int:
    """Compare `systems` (names with commas between); return the exit code: 1 where results differ and none may."""
    what = f"{human_bytes(scenario.size)} {scenario.op} as {systems}"
    with Console(stderr=True).status(what):
        found = compare(scenario, [name.strip() for name in systems.split(",")])
    if json:
        sys.stdout.write(json_module.dumps(found.as_dict()) + "\n")
    else:
        _tell(found)
    return 0 if found.equal else EXIT_FAILED


def _tell(found: Comparison) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", style="cyan")
    table.add_column("meter", style="dim")
    for name in found.traces:
        table.add_column(f"{name}\n[dim]{found.labels[name]}[/dim]", justify="right")
    for layer, meter, values, ratios in found.table():
        cells = (
            f"{value:,}" + (f" [dim]×{ratio:.3g}[/dim]" if ratio not in {None, 1} else "")
            for value, ratio in zip(values, ratios, strict=True)
        )
        table.add_row(layer, meter.replace("_", " "), *cells)
    table.add_row("time", "simulated", *(human_ns(report["sim_ns"]) for report in found.reports.values()))
    console.print(table)
    results = ", ".join(f"{name} {report['result']}" for name, report in found.reports.items())
    mark = "✓" if found.equal else "✗"
    console.print(f"{mark} results: {results}", style="bold green" if found.equal else "bold red", markup=False)
    for sentence in (*found.differences, *found.notes):
        console.print(f"– {sentence}", markup=False, soft_wrap=True)
