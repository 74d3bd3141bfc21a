"""`labkit link` and `labkit open`: a scenario as one line of text, and what such a line tells."""

import errno
import sys
from pathlib import Path

from labkit.errors import BadInput, NotAllowed
from labkit.scenario import Scenario
from labkit.scenario.link import unpack
from labkit.units import human_bytes

_MOST = 1 << 30
"""Bytes that the IOs of a link from elsewhere may move altogether."""


def print_link(scenario: Scenario, t: int | None, selection: list[int]) -> int:
    """Print the link of `scenario`, with the cursor `t` (ns) and the selected phyrs; return the exit code."""
    sys.stdout.write(scenario.link(t, selection) + "\n")
    return 0


def open_link(text: str, out: Path | None, *, json: bool) -> int:
    """Run the scenario of the link `text`: tell its story, or write it to `out` at its cursor; return the exit code.

    Raises ScenarioError for what is no link, or for a scenario that cannot be; what a stranger's line may not start
    is NotAllowed: real IO, and more than _MOST bytes.
    """
    link = unpack(text)
    scenario = Scenario.of(link.values)
    _check(scenario)
    if out is not None:
        from labkit.cli.export import export  # noqa: PLC0415 - what draws is loaded when it is needed

        return export(out, None, scenario, link.t)
    from labkit.cli.run import run_scenario  # noqa: PLC0415 - the same

    return run_scenario(scenario, save=None, json=json)


def _check(scenario: Scenario) -> None:
    if scenario.device == "loop":
        rule = "is real IO on this machine, which no link may start: labkit run --device loop does it"
        raise NotAllowed("link", "device=loop", rule, errno.EPERM)
    if (total := scenario.size * scenario.count) > _MOST:
        rule = f"is more than the {human_bytes(_MOST)} that a link may ask for: run it by its options"
        raise BadInput("link", f"size x count = {human_bytes(total)}", rule, errno.E2BIG)
