"""`labkit bench`: every ratio with both of its figures, measured in turn in one run."""

import errno
import json as json_module
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from labkit.cli.bench import copies, core, engine, loop
from labkit.cli.bench.ratio import Ratio, Tick
from labkit.errors import BadInput, NotAllowed

DEVICES = ("all", "simulated", "loop")
_MOST_ROUNDS, _MOST_SECONDS = 100, 60
_Measure = Callable[[Tick], list[Ratio]]


def run_bench(device: str, *, rounds: int, seconds: int, json: bool) -> int:
    """Measure what `device` says, one of DEVICES; print it, and return the exit code 0.

    Raises BadInput for what is none of them, NotAllowed where a real device is asked for that cannot be had: with
    `all` that is told, and the rest is measured.
    """
    ratios, left_out = list[Ratio](), list[str]()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    measures, console = _measures(device, rounds, seconds), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        for measure in measures:
            try:
                ratios += measure(lambda what: progress.update(bar, description=what))
            except NotAllowed as bad:
                if device == "loop":
                    raise
                left_out.append(str(bad))
    if json:
        told = {"ratios": [ratio.as_dict() for ratio in ratios], "left_out": left_out}
        sys.stdout.write(json_module.dumps(told) + "\n")
    else:
        _tell(ratios, left_out)
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
        lambda tick: copies.compare(rounds, tick),
    ]
    real: list[_Measure] = [lambda tick: loop.compare(rounds, seconds, tick)]
    return {"all": simulated + real, "simulated": simulated, "loop": real}[device]


def _tell(ratios: list[Ratio], left_out: list[str]) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    table = Table(box=None, pad_edge=False)
    for name in ("what", "ours", "other", "unit", "ratio", "aim"):
        table.add_column(name, justify="right" if name in {"ours", "other", "ratio", "aim"} else "left")
    for each in ratios:
        mark = "✓" if each.ratio >= each.aim else "–"
        figures = f"{each.ours:,.0f}", f"{each.other:,.0f}", each.unit, f"{each.ratio:.2f} {mark}", f"{each.aim:g}"
        table.add_row(f"{each.name}; other: {each.against}", *figures)
    console.print(table)
    for sentence in left_out:
        console.print(f"– {sentence}")
