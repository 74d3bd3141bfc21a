"""Predicted commands of an NVMe drive against those that it was seen to get."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from labkit.units import PAGE_SIZE
from labkit.witness.commands import NvmeCommand

_LOW = PAGE_SIZE - 1


class Seen(NamedTuple):
    """A recorded command."""

    slba: int
    nbytes: int
    encoding: str
    addrs: list[list[int]]


def seen(rows: Sequence[dict[str, Any]]) -> list[Seen]:
    """Return the recorded commands; an SGL of one data descriptor is sgl1. KeyError, TypeError, ValueError: broken."""
    return [
        Seen(int(row["slba"]), int(row["bytes"]), _encoding(row), [[int(addr), int(n)] for addr, n in row["addrs"]])
        for row in rows
    ]


def comparable(mine: Sequence[NvmeCommand], theirs: Sequence[Seen] | None) -> tuple[list[Any], list[Any] | None]:
    """Return both as rows to compare, with as much of the addresses as is certain."""
    told = [list(row[:4]) for row in mine]
    if theirs is None:
        return told, None
    rows = [list(row) for row in theirs]
    for at, (row, other) in enumerate(zip(mine, theirs, strict=False)):
        told[at][3], rows[at][3] = _certain(row, row.addrs), _certain(row, other.addrs)
        if row.sure == "all" and len(row.addrs) == len(other.addrs):
            told[at][3] = [[b if a is None else a, n] for (a, n), (b, _) in zip(row.addrs, other.addrs, strict=True)]
    return told, rows


def _certain(row: NvmeCommand, addrs: list[list[Any]]) -> list[list[Any]]:
    """Return `addrs` in as far as they are certain in `row`."""
    if row.sure == "all":
        return addrs
    deep = [[addr & _LOW if addr is not None else None, n] for addr, n in addrs]
    if row.sure == "layout" and addrs:
        start = addrs[0][0] & ~_LOW
        return [[addr - start, n] for addr, n in addrs]
    return deep


def _encoding(row: dict[str, Any]) -> str:
    return "sgl1" if row["encoding"] == "sgl" and row.get("sgl_type") == 0 else str(row["encoding"])
