"""`labkit bench`: every ratio with both of its figures, measured in turn in one run."""

import errno
import json as json_module
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from labkit.cli.bench import copies, core, engine, kernel, loop
from labkit.cli.bench.kernel import Cost
from labkit.cli.bench.ratio import Ratio, Tick
from labkit.errors import BadInput, NotAllowed

DEVICES = ("all", "simulated", "loop", "kernel")
_MOST_ROUNDS, _MOST_SECONDS = 100, 60
_Figure = Ratio | Cost
_Measure = Callable[[Tick], list[_Figure]]


def run_bench(device: str, *, rounds: int, seconds: int, json: bool) -> int:
    """Measure what `device` says, one of DEVICES; print it, and return the exit code 0.

    Raises BadInput for what is none of them, NotAllowed where a real device is asked for that cannot be had: with
    `all` that is told, and the rest is measured.
    """
    figures, left_out = list[_Figure](), list[str]()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    measures, console = _measures(device, rounds, seconds), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        for measure in measures:
            try:
                figures += measure(lambda what: progress.update(bar, description=what))
            except NotAllowed as bad:
                if device in {"loop", "kernel"}:
                    raise
                left_out.append(str(bad))
    ratios = [figure for figure in figures if isinstance(figure, Ratio)]
    costs = [figure for figure in figures if isinstance(figure, Cost)]
    if json:
        told = {"ratios": [each.as_dict() for each in ratios], "costs": [each.as_dict() for each in costs],
                "left_out": left_out}  # fmt: skip
        sys.stdout.write(json_module.dumps(told) + "\n")
    else:
        _tell(ratios, costs, left_out)
    return 0


def _measures(device: str, rounds: int, seconds: int) -> list[_Measure]:
    """Return what is to be measured. Raises BadInput EINVAL."""
    if device not in DEVICES:
        raise BadInput("bench", f"device={device!r}"[:60], f"is none of {', '.join(DEVICES)}", errno.EINVAL)
    for name, value, most in (("rounds", rounds, _MOST_ROUNDS), ("seconds", seconds, _MOST_SECONDS)):
        if not 0 < value <= most:
            raise BadInput("bench", f"{name}={value}", f"is not from 1 to {most}", errno.EINVAL)
    simulated: list[_Measure] = [
        lambda tick: [engine.compare(rounds, tick)],
        lambda tick: [core.compare(rounds, tick)],
        lambda tick: list(copies.compare(rounds, tick)),
    ]
    real: list[_Measure] = [lambda tick: list(loop.compare(rounds, seconds, tick))]
    watched: list[_Measure] = [lambda tick: list(kernel.measure(rounds, tick))]
    return {"all": simulated + real + watched, "simulated": simulated, "loop": real, "kernel": watched}[device]


def _tell(ratios: list[Ratio], costs: list[Cost], left_out: list[str]) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if ratios:
        table = _table("what", "ours", "other", "unit", "ratio", "aim")
        for each in ratios:
            mark = "✓" if each.ratio >= each.aim else "–"
            figures = f"{each.ours:,.0f}", f"{each.other:,.0f}", each.unit, f"{each.ratio:.2f} {mark}", f"{each.aim:g}"
            table.add_row(f"{each.name}; other: {each.against}", *figures)
        console.print(table)
    if costs:
        table = _table("what it costs", "ns", "aim", "how")
        for cost in costs:
            mark = "✓" if cost.ns <= cost.aim else "–"
            table.add_row(cost.name, f"{cost.ns:,.0f} {mark}", f"{cost.aim:,.0f}", cost.how)
        console.print(table)
    for sentence in left_out:
        console.print(f"– {sentence}")


def _table(*names: str) -> Table:
    """Return an empty table, with figures to the right."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in {"ours", "other", "ratio", "aim", "ns"} else "left")
    return table
