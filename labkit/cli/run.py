"""`labkit run` and `labkit export`: one machine, one IO, told or drawn."""

import errno
import json as json_module
import sys
from pathlib import Path

from labkit.cli.export import write_page
from labkit.cli.main import EXIT_FAILED, refuse
from labkit.cli.story import tell
from labkit.errors import BadInput
from labkit.machine import Machine
from labkit.scenario import Scenario
from labkit.trace.store import load, save as save_trace
from labkit.trace.trace import Trace


def run_scenario(scenario: Scenario, *, save: Path | None, json: bool) -> int:
    """Run `scenario`, print the summary or the story, keep the trace in `save`; return the exit code."""
    with Machine(scenario) as machine:
        report = machine.run()
        trace = machine.trace
    if save is not None:
        _writing(save, lambda path: save_trace(trace, path))
    if json:
        sys.stdout.write(json_module.dumps(report) + "\n")
    else:
        tell(trace, report)
    if machine.error is not None:
        return machine.error.exit_code if json else refuse(machine.error, json=False)
    return 0 if report["verified"] else EXIT_FAILED
