"""Many things become a table of few rows: the first and the last of them, and a line that says what is left out."""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

MOST = 40
"""Rows that are shown; of more, the first and the last half of as many."""
_LONGEST = 160
"""Characters of a cell."""
_LONG = 40
"""Characters of a cell that may break into lines."""
_AMOUNT = re.compile(r"\d[\d,.]*( [A-Za-zµ%]{1,3})?")
Cell = str | int | None


class Table(NamedTuple):
    """Headings, rows, and how many rows are left out before row `gap`."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    gap: int = 0


def table(name: str, columns: tuple[str, ...], things: Sequence[Any], row: Callable[[Any], tuple[Cell, ...]]) -> Table:
    """Return what `row` makes of each of `things`, or of the first and the last MOST / 2 where they are more."""
    if len(things) <= MOST:
        return Table(name, columns, tuple(map(row, things)))
    half = MOST // 2
    kept = (*things[:half], *things[len(things) - half :])
    return Table(name, columns, tuple(map(row, kept)), len(things) - MOST, half)


def plain(value: object, longest: int = _LONGEST) -> str:
    """Return `value` on one line of at most `longest` characters; what does not print is spelled out, None a dash."""
    text = "–" if value is None else f"{value:,}" if type(value) is int else str(value)
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def text(found: Table) -> list[str]:
    """Return the lines of a table: numbers stand right, the rest left."""
    cells = [found.columns, *(tuple(map(plain, row)) for row in found.rows)]
    right = _right(found)
    wide = [max(len(row[i]) for row in cells) for i in range(len(found.columns))]
    lines = [
        "  ".join(cell.rjust(n) if to else cell.ljust(n) for cell, n, to in zip(row, wide, right, strict=True)).rstrip()
        for row in cells
    ]
    if found.left_out:
        lines.insert(found.gap + 1, _left_out(found))
    return [f"{found.name}:", *(f"  {line}" for line in lines)]


def html(found: Table) -> str:
    """Return a table as HTML, with every cell escaped."""
    right = _right(found)
    rows = [_row("td", tuple(map(plain, row)), right) for row in found.rows]
    if found.left_out:
        rows.insert(found.gap, f"<tr><td class=gap colspan={len(found.columns)}>{_left_out(found)}</td></tr>")
    caption = f"<caption>{escape(plain(found.name))}</caption>"
    head = _row("th", found.columns, right)
    return f"<table>{caption}<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _row(tag: str, cells: tuple[str, ...], right: list[bool]) -> str:
    """Return a row: amounts stand right, and what is long may break into lines."""
    looks = (
        " class=n" if to else " class=w" if len(cell) > _LONG else "" for cell, to in zip(cells, right, strict=True)
    )
    told = (f"<{tag}{look}>{escape(cell)}</{tag}>" for cell, look in zip(cells, looks, strict=True))
    return f"<tr>{''.join(told)}</tr>"


def _right(found: Table) -> list[bool]:
    """Return, for each column, whether it is one of numbers or of amounts: each is a number, with a unit or without."""
    columns = list(zip(*found.rows, strict=True)) if found.rows else [()] * len(found.columns)
    return [bool(column) and all(_amount(cell) for cell in column) for column in columns]


def _amount(cell: Cell) -> bool:
    return cell is None or isinstance(cell, int) or bool(_AMOUNT.fullmatch(cell))


def _left_out(found: Table) -> str:
    return f"… {found.left_out:,} more between these"
