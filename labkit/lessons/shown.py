"""A demonstration of the kernel for notebook 11: its table, what the model says, and what follows, in text or HTML."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from labkit.witness.demos import DEMOS, Shown

_MOST = 20
"""Rows that are shown."""


@dataclass(frozen=True, repr=False)
class Told:
    """What came of a demonstration; in Jupyter, and printed, a table and the sentences around it."""

    shown: Shown

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said under the table: whether the model agrees, and what follows for phyrs."""
        if not self.shown.model:
            agree = "The model knows nothing of this."
        elif self.shown.agree:
            agree = "The model says the same."
        else:
            agree = f"The model says otherwise about: {', '.join(self.shown.differences)}."
        return agree, self.shown.demo.sentence

    @property
    def more(self) -> tuple[str, ...]:
        """How many rows are not shown, if any."""
        left = len(self.shown.seen.rows) - _MOST
        return (f"... and {left} rows more",) if left > 0 else ()

    def __repr__(self) -> str:
        """Return a line for each row, and the sentences around them."""
        seen = self.shown.seen
        table = [seen.columns, *(tuple(map(_text, row)) for row in seen.rows[:_MOST])]
        wide = [max(len(row[i]) for row in table) for i in range(len(seen.columns))]
        rows = ("  ".join(cell.ljust(n) for cell, n in zip(row, wide, strict=True)).rstrip() for row in table)
        return "\n".join((self.shown.demo.title, self.shown.line, *rows, *self.more, *self.lines))

    def _repr_html_(self) -> str:
        seen = self.shown.seen
        rows = "".join(f"<tr>{_cells('td', map(_text, row))}</tr>" for row in seen.rows[:_MOST])
        table = f"<table><thead><tr>{_cells('th', seen.columns)}</tr></thead><tbody>{rows}</tbody></table>"
        caption = f"<p><b>{escape(self.shown.demo.title)}</b><br>{escape(self.shown.line)}</p>"
        return caption + table + "".join(f"<p>{escape(line)}</p>" for line in (*self.more, *self.lines))


def demonstration(name: str) -> Told:
    """Return demonstration `name` of DEMOS, done now where this machine allows it, else recorded. Raises KeyError."""
    return Told(DEMOS[name].show())


def _text(cell: int | str) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in cells)
