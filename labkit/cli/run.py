"""`labkit run` and `labkit export`: one machine, one IO, told or drawn."""

import errno
import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from labkit.cli.refusal import EXIT_FAILED, refuse
from labkit.cli.story import tell
from labkit.errors import BadInput
from labkit.machine import Machine
from labkit.scenario import Scenario
from labkit.trace.store import load
from labkit.trace.store import save as save_trace
from labkit.units import human_bytes


def run_scenario(scenario: Scenario, *, save: Path | None, json: bool) -> int:
    """Run `scenario`, print the summary or the story, keep the trace in `save`; return the exit code."""
    what = f"{scenario.count} x {human_bytes(scenario.size)} {scenario.op} on {scenario.device}, as {scenario.system}"
    with Console(stderr=True).status(what), Machine(scenario) as machine:
        report = machine.run()
        trace = machine.trace
    if save is not None:
        _write(save, lambda: save_trace(trace, save))
    if json:
        sys.stdout.write(json_module.dumps(report) + "\n")
    else:
        tell(trace, report)
    if machine.error is not None:
        return refuse(machine.error)
    return 0 if report["verified"] else EXIT_FAILED


def export_page(out: Path, trace: Path | None, scenario: Scenario | None) -> int:
    """Draw the trace in file `trace`, or a run of `scenario`, into the page `out`; return the exit code."""
    from labkit.cli.export import write_page  # noqa: PLC0415 - Bokeh takes a second to load

    if out.suffix != ".html":
        raise BadInput("export", f"out={str(out)!r}", "does not end in .html", errno.EINVAL)
    if trace is not None:
        story = load(trace)
    else:
        with Machine(scenario) as machine:
            machine.run()
            story = machine.trace
    _write(out, lambda: write_page(story, out))
    return 0


def _write(path: Path, write: Callable[[], None]) -> None:
    """Call `write`; a file that cannot be written is bad input."""
    try:
        write()
    except OSError as bad:
        raise BadInput("file", str(path), f"cannot be written: {bad.strerror}", bad.errno or errno.EIO) from None
