"""`labkit demo`: what the kernel under our feet does, asked now or from a recording, beside what the model says."""

import errno
import sys
from collections.abc import Iterable, Sequence
from json import dumps

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labkit.errors import BadInput
from labkit.witness.demos import DEMOS, Demo, Shown

_MOST_ROWS = 24


def show_demos(names: Sequence[str], *, json: bool, listed: bool) -> int:
    """Show the demonstrations `names`, all if there are none, or with `listed` tell what they ask; return 0.

    One that this machine does not allow is shown from its recording, which it says. With `json` one object, keyed by
    name. Raises BadInput for a name that is none.
    """
    demos = [_find(name) for name in dict.fromkeys(names)] or list(DEMOS.values())
    if listed:
        _list(demos, json=json)
        return 0
    told = {}
    for demo in demos:
        shown = demo.show()
        told[demo.name] = shown.as_dict()
        if not json:
            _tell(shown)
    if json:
        sys.stdout.write(dumps(told) + "\n")
    return 0


def _find(name: str) -> Demo:
    if name not in DEMOS:
        raise BadInput("demo", name, f"is none of {', '.join(DEMOS)}", errno.EINVAL)
    return DEMOS[name]


def _list(demos: Iterable[Demo], *, json: bool) -> None:
    """Print name, question and safety of each."""
    if json:
        told = {demo.name: {"title": demo.title, "question": demo.question, "safety": demo.safety} for demo in demos}
        sys.stdout.write(dumps(told) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("demonstration", "question", "what it does to the machine"):
        table.add_column(heading, overflow="fold")
    for demo in demos:
        table.add_row(Text(demo.name, style="cyan"), Text(demo.question), Text(demo.safety, style="dim"))
    Console().print(table)


def _tell(shown: Shown) -> None:
    """Print one demonstration: the question, what was seen, whether the model agrees, and what it means."""
    console, demo = Console(highlight=False), shown.demo
    console.print(Text(demo.title, style="bold"))
    console.print(Text(demo.question))
    console.print(Text(f"{demo.safety}\n{shown.line}", style="dim"))
    console.print(_seen(shown))
    console.print(_verdict(shown))
    console.print(Text(f"{demo.sentence}\n"))


def _seen(shown: Shown) -> Table:
    """Return the rows that were seen; of many the first ones."""
    columns, rows = shown.seen.columns, shown.seen.rows
    table = Table(box=None, pad_edge=False, title_justify="left")
    for at, heading in enumerate(columns):
        number = bool(rows) and all(isinstance(row[at], int) for row in rows)
        table.add_column(heading, justify="right" if number else "left")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(f"{value:,}" if isinstance(value, int) else value) for value in row))
    if len(rows) > _MOST_ROWS:
        table.add_row(Text(f"… {len(rows) - _MOST_ROWS} more"))
    return table


def _verdict(shown: Shown) -> Text:
    """Return whether the model agrees, and about what not."""
    if not shown.model:
        return Text("The model has nothing to say about this.", style="dim")
    if shown.agree:
        return Text("✓ the model says the same", style="green")
    parts = (f"{what}: {shown.model[what]}, the kernel says {shown.seen.answers[what]}" for what in shown.differences)
    return Text(f"✗ the model says otherwise: {'; '.join(parts)}", style="red")
