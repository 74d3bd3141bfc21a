"""A trace becomes a table: a row for each record, and the same columns for every trace.

What only some records tell stands in the last column, as JSON.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from labkit.scatter.range_array import RangeArray
from labkit.trace.trace import Trace

NUMBERS = ("bio", "rq", "tag", "sector", "nr_sector", "error", "addr", "len", "nbytes", "pos", "ret")
"""Fields that have a column of their own, empty where a record has no such field."""
COLUMNS = ("n", "t", "io", "record", *NUMBERS, "more")
"""n: which record, from 0; t: ns; io: which IO, 0 for none; record: the name of its type; more: all else."""
Row = tuple[Any, ...]


def rows(trace: Trace) -> Iterator[Row]:
    """Yield a row of COLUMNS for each record; None where it has no such field."""
    for n, rec in enumerate(trace.records):
        fields = rec._asdict()
        head = n, fields.pop("t"), fields.pop("io"), type(rec).__name__
        numbers = [fields.pop(name, None) for name in NUMBERS]
        yield (*head, *numbers, _more(fields))


def to_csv(trace: Trace) -> str:
    """Return `trace` as CSV with a line of names on top."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows(trace))
    return out.getvalue()


def columns(trace: Trace) -> dict[str, list[Any]]:
    """Return the same by column."""
    table = list(zip(*rows(trace), strict=True)) or [()] * len(COLUMNS)
    return {name: list(column) for name, column in zip(COLUMNS, table, strict=True)}


def _more(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), default=_pairs) if fields else ""


def _pairs(value: object) -> list[tuple[int, int]]:
    """Return a list in columns as a list of pairs. Raises TypeError for anything else that JSON does not know."""
    if not isinstance(value, RangeArray):
        raise TypeError(f"{type(value).__name__} is not for a table")
    return list(value)
