"""Findings become a table: what this machine lets the lab do, and the remedy for each no."""

from dataclasses import asdict
from json import dumps

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labkit.host.disk.loopdev import sweep
from labkit.host.probe import Finding, Report, probe


def doctor(json: bool) -> int:
    """Take back what killed runs left, print what this machine allows, as a table or as `json`, and return 0.

    With `json` stdout is one object, and the lines about what was taken back go to stderr.
    """
    notes = Console(stderr=json, soft_wrap=True, highlight=False, markup=False)
    for line in sweep():
        notes.print(f"left by a killed run: {line}")
    report = probe()
    if json:
        Console(soft_wrap=True, highlight=False, markup=False).print(_as_json(report))
    else:
        Console().print(_as_table(report))
    return 0


def _as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return dumps({"ok": report.ok, "findings": [asdict(finding) for finding in report.findings]})


def _as_table(report: Report) -> Table:
    """Return the report as a table of four columns."""
    table = Table(title="This machine")
    for heading in ("finding", "", "value", "reason – remedy"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        table.add_row(Text(finding.name), _verdict(finding), Text(finding.value), Text(_advice(finding)))
    return table


def _verdict(finding: Finding) -> Text:
    """Return yes or no, with a sign beside the colour."""
    return Text("✓ yes", style="green") if finding.ok else Text("✗ no", style="red")


def _advice(finding: Finding) -> str:
    """Return the reason and the remedy of a no, nothing for a yes."""
    return "" if finding.ok else f"{finding.reason} – {finding.remedy}"
