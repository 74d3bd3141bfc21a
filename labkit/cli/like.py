"""`labkit run --like CAPTURE`: a captured IO in the simulated machine, and both side by side."""

import errno
import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labkit.cli.refusal import EXIT_FAILED
from labkit.errors import BadInput
from labkit.scenario import Scenario
from labkit.trace.store import save as save_trace
from labkit.units import human_ns
from labkit.witness import structs
from labkit.witness.beside import SAME, THERE, Beside, Pair, beside
from labkit.witness.capture import Capture
from labkit.witness.like import Like, like

_MOST_ROWS = 60
"""Rows that are shown; of more the middle is left out, and how many is said."""


def run_like(path: Path, wanted: Scenario, *, save: Path | None, json: bool) -> int:
    """Do the IO of the capture in `path` again, print both sides, and keep the trace in `save`; return the exit code.

    `wanted`: of it counts what was asked for, and nothing that is a default. 1 where bytes are wrong, or an invariant
    was broken. Raises BadInput as Capture.load, like and beside do.
    """
    capture = Capture.load(path)
    knobs = {name: getattr(wanted, name) for name in sorted(wanted.model_fields_set)}
    with Console(stderr=True).status(f"{capture.id} in a simulated machine"):
        done = like(capture, **knobs)
        both = beside(capture, done)
    if save is not None:
        _keep(done, save)
    if json:
        sys.stdout.write(dumps(_told(capture, done, both)) + "\n")
    else:
        _show(capture, done, both)
    return 0 if done.verified and not done.report.get("violations") else EXIT_FAILED


def _keep(done: Like, path: Path) -> None:
    try:
        save_trace(done.trace, path)
    except OSError as bad:
        raise BadInput("file", str(path), f"cannot be written: {bad.strerror}", bad.errno or errno.EIO) from None


def _told(capture: Capture, done: Like, both: Beside) -> dict[str, Any]:
    """Return everything for JSON: what came of it, every row, every count."""
    return {
        "capture": capture.id, "kernel": capture.kernel, "result": done.results, "recorded": capture.result,
        "verified": done.verified, "error": done.error, "violations": done.report.get("violations", []),
        "counts": {count.name: [count.kernel, count.model, count.residual] for count in both.counts},
        "rows": [list(row[:5]) for row in both.rows], "duration_ns": capture.duration_ns,
        "sim_ns": done.report["sim_ns"], "scenario": done.report["scenario"], "structs": structs.told(),
    }  # fmt: skip


def _show(capture: Capture, done: Like, both: Beside) -> None:
    """Print both sides for a reader."""
    console = Console(highlight=False)
    console.print(_rows(f"kernel {capture.kernel}", f"model ({done.machine.scenario.system})", both.rows))
    console.print(_counts(both))
    for row in done.report.get("violations", ()):
        console.print(f"✗ {row['invariant']}: {row['text']} (record {row['at']}, {row['record']})", markup=False)
    console.print(structs.told(), style="dim", soft_wrap=True, markup=False)
    console.print(_verdict(capture, done, both), soft_wrap=True)


def _rows(left: str, right: str, rows: Sequence[Pair]) -> Table:
    table = Table(box=None, pad_edge=False, expand=False)
    table.add_column("measured", justify="right", no_wrap=True, style="dim")
    table.add_column(left, ratio=1, overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("simulated", justify="right", no_wrap=True, style="dim")
    table.add_column(right, ratio=1, overflow="fold")
    half = _MOST_ROWS // 2
    cut = len(rows) > _MOST_ROWS
    for row in rows[:half] if cut else rows:
        _row(table, row)
    if cut:
        table.add_row("…", f"{len(rows) - 2 * half} rows like these", "", "…", "")
        for row in rows[-half:]:
            _row(table, row)
    return table


def _row(table: Table, row: Pair) -> None:
    mark = "=" if row.mark == SAME else "<" if row.mark == THERE else ">"
    times = ["" if ns is None else _ns(ns) for ns in (row.kernel_ns, row.model_ns)]
    style = "" if row.mark == SAME else "dim"
    table.add_row(times[0], Text(row.kernel, style), mark, times[1], Text(row.model, style))


def _ns(ns: int) -> str:
    return f"-{human_ns(-ns)}" if ns < 0 else human_ns(ns)


def _counts(both: Beside) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="dim")
    for name in ("kernel", "model", "residual"):
        table.add_column(name, justify="right")
    for count in both.counts:
        known = ["–" if value is None else f"{value:,}" for value in (count.kernel, count.model)]
        residual = "–" if count.residual is None else f"{count.residual:+,}" if count.residual else "0"
        table.add_row(count.name, *known, Text(residual, "bold red" if count.residual and count.certain else ""))
    return table


def _verdict(capture: Capture, done: Like, both: Beside) -> Text:
    """Return what came of it, in a line."""
    shown = ", ".join(map(str, done.results[:8])) + ", …" * (len(done.results) > 8)  # noqa: PLR2004 - as many as fit
    times = f"{human_ns(done.report['sim_ns'])} simulated"
    times += f", {human_ns(capture.duration_ns)} measured" if capture.duration_ns is not None else ""
    if not done.verified:
        return Text(f"✗ {shown}: the bytes that arrived are not the bytes that were there", "bold red")
    why = f" ({done.error})" if done.error else ""
    same = "every count as it was recorded" if both.exact else "not every count as it was recorded"
    return Text(f"✓ {shown}{why}: every byte compared, {same}; {times}", "bold green" if both.exact else "bold yellow")
