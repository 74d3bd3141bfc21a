"""A run as text for a terminal: the story, one line a step, and what it cost."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labkit.trace.trace import Trace
from labkit.units import human_bytes, human_ns
from labkit.views.story import Line, story

_MOST_LINES = 60
"""Lines that are told; of a longer story the middle is left out, and the number of lines said."""


def tell(trace: Trace, report: dict[str, Any]) -> None:
    """Print the story of `trace`, and the numbers of `report` (trace.summary and Machine.run)."""
    console = Console(highlight=False)
    console.print(_steps(story(trace)))
    console.print(_costs(report))
    console.print(_verdict(report))


def _steps(lines: list[Line]) -> Table:
    table = Table(box=None, pad_edge=False, expand=False)
    table.add_column("time", justify="right", no_wrap=True, style="dim")
    table.add_column("layer", no_wrap=True, style="cyan")
    table.add_column("what happens", ratio=1, overflow="fold")
    table.add_column("whose idea", no_wrap=True, style="dim")
    head = lines if len(lines) <= _MOST_LINES else lines[: _MOST_LINES // 2]
    tail = [] if head is lines else lines[-_MOST_LINES // 2 :]
    for line in head:
        _row(table, line)
    if tail:
        table.add_row("…", "", f"{len(lines) - _MOST_LINES} steps like these", "")
    for line in tail:
        _row(table, line)
    return table


def _row(table: Table, line: Line) -> None:
    table.add_row(human_ns(line.t), Text(line.layer), Text(line.text), Text(line.origin))


def _costs(report: dict[str, Any]) -> Table:
    """Return the meters and the pins, a row each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in report["meters"].items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    pins = report["pins"]
    table.add_row("frames pinned, released, held", f"{pins['taken']:,}, {pins['released']:,}, {pins['held']:,}")
    return table


def _verdict(report: dict[str, Any]) -> Text:
    if report["error"]:
        return Text(f"✗ {report['result']}", style="bold red")
    what = (
        f"{human_bytes(report['result'])} in {human_ns(report['sim_ns'])} over {len(report['phyrs'])} physical ranges"
    )
    if not report["verified"]:
        return Text(f"✗ {what}: the bytes that arrived are not the bytes that were there", style="bold red")
    kind = "measured" if report["device"] == "loop" else "simulated"
    return Text(f"✓ {what} ({report['system']}, {report['device']}, {kind}): every byte compared", style="bold green")
