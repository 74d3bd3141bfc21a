"""`labkit run`: one machine, one IO, told."""

import errno
import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from labkit.cli.refusal import EXIT_FAILED, refuse
from labkit.cli.story import tell
from labkit.errors import BadInput
from labkit.host.memory.resident import resident
from labkit.machine import Machine
from labkit.scenario import Scenario
from labkit.trace.store import save as save_trace
from labkit.units import human_bytes


def run_scenario(scenario: Scenario, *, save: Path | None, json: bool, memory: bool = False) -> int:
    """Run `scenario`, print the summary or the story, keep the trace in `save`; return the exit code.

    `memory`: the report says what this process held resident, which is measured and no two runs have alike.
    """
    what = f"{scenario.count} x {human_bytes(scenario.size)} {scenario.op} on {scenario.device}, as {scenario.system}"
    with Console(stderr=True).status(what), Machine(scenario) as machine:
        report = machine.run()
        trace, held = machine.trace, resident() if memory else None
    if held is not None:
        report["resident"] = held._asdict()
    if save is not None:
        _write(save, lambda: save_trace(trace, save))
    if json:
        sys.stdout.write(json_module.dumps(report) + "\n")
    else:
        tell(trace, report)
        _tell_trial(report)
    code = refuse(machine.error) if machine.error is not None else 0
    if report.get("violations") or not (code or report["verified"]):
        return EXIT_FAILED
    return code


def _tell_trial(report: dict[str, Any]) -> None:
    """Print what broke, what got in the way, and every invariant that did not hold."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for fault in report.get("faults", ()):
        console.print(f"{fault['kind']} at {fault['at']}: {fault['outcome']}, {fault['text']}")
    if hazard := report.get("hazard"):
        console.print(f"{hazard['name']} at {hazard['at']}: {hazard['outcome']}, {hazard['text']}")
    for row in report.get("violations", ()):
        where = f" at {row['addr']:#x}" if row["addr"] else ""
        bytes_ = f": {row['found']} where {row['expected']} belongs" if row["expected"] else ""
        console.print(f"✗ {row['invariant']}{where}: {row['text']}{bytes_} (record {row['at']}, {row['record']})")
    if report.get("survived") is None and report.get("hazard"):
        console.print("– nobody was put to the test: the hazard never came")
    if report.get("survived"):
        console.print("✓ survived: no invariant was broken")


def _write(path: Path, write: Callable[[], None]) -> None:
    """Call `write`; a file that cannot be written is bad input."""
    try:
        write()
    except OSError as bad:
        raise BadInput("file", str(path), f"cannot be written: {bad.strerror}", bad.errno or errno.EIO) from None
