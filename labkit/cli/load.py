"""`labkit load`: many IOs at once, and what came of them."""

import json as json_module
import sys

from rich.console import Console
from rich.table import Table

from labkit.cli.refusal import EXIT_FAILED
from labkit.machine import Machine
from labkit.machine.workload import Load, Offered, offer
from labkit.scenario import Scenario

_SHADES, _ROWS = " ▁▂▃▄▅▆▇█", 60


def offer_load(scenario: Scenario, load: Load, *, json: bool) -> int:
    """Offer `load` to a machine of `scenario`, print what came of it; return the exit code: 1 for a wrong byte."""
    what = f"{load.count:,} IOs on {scenario.device}, {load.arrivals}"
    with Console(stderr=True).status(what), Machine(scenario) as machine:
        found = offer(machine, load)
    if json:
        sys.stdout.write(json_module.dumps(found.as_dict()) + "\n")
    else:
        _tell(found)
    return 0 if found.verified else EXIT_FAILED


def _tell(found: Offered) -> None:
    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in found.rows():
        table.add_row(name, value)
    console.print(table)
    if found.ios.histogram():
        console.print(_bars(found))


def _bars(found: Offered) -> str:
    """Return the histogram as one line of bars, its ends at the shortest and the longest latency."""
    latencies, low, high = found.ios.latencies, found.ios.percentile(0), found.ios.percentile(1)
    width = max(1, -(-(high - low + 1) // _ROWS))
    counts = [0] * _ROWS
    for latency in latencies.tolist():
        counts[(latency - low) // width] += 1
    most = max(counts)
    return "".join(_SHADES[-(-count * (len(_SHADES) - 1) // most)] for count in counts)
