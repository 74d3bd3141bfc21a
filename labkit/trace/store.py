"""Traces in and out of files: versioned JSON, gzipped where the name ends in .gz.

A file is data: it is parsed, checked against the record types, and never evaluated.
"""

import errno
import gzip
import json
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from labkit.errors import TraceError
from labkit.scatter.range_array import RangeArray
from labkit.trace.events import RECORDS, Record
from labkit.trace.others import Others
from labkit.trace.snapshot import MemoryMap
from labkit.trace.state import state_at
from labkit.trace.trace import Trace
from labkit.units import PUD_ORDER, Nsec, human_bytes

FORMAT = "labkit-trace-1"
MAX_BYTES = 512 << 20
"""The largest text that is read, in bytes after decompression."""
_LONG = 4
"""A list of more ranges than this is kept in columns."""
_MOST = 32 << 30
"""The longest range in a record, in bytes: a snapshot keeps an entry for each page, and no device here has as much."""


@dataclass(config=ConfigDict(extra="forbid"))
class _File:
    format: str
    meta: dict[str, Any]
    zones: list[tuple[str, int, int]]
    others: list[tuple[int, int, str]]
    records: list[list[Any]]


_ADAPTERS = {name: TypeAdapter(cls, config=ConfigDict(arbitrary_types_allowed=True)) for name, cls in RECORDS.items()}


def dumps(trace: Trace) -> str:
    """Return `trace` as JSON text of the format labkit-trace-1."""
    return json.dumps(
        {
            "format": FORMAT,
            "meta": trace.meta,
            "zones": trace.memory.zones,
            "others": Others.of(trace.memory.others).rows(),
            "records": [[type(rec).__name__, *rec] for rec in trace.records],
        },
        separators=(",", ":"),
        default=_pairs,
    )


def loads(text: str | bytes, source: str = "trace") -> Trace:
    """Return the trace that `text` holds; `source` names it in errors.

    Raises TraceError for text that is not JSON, not of this format and version, or whose records do not fit their type.
    """
    try:
        file, records = _parse(text)
        state_at(records, Nsec(records[-1].t if records else 0))
    except (ValueError, KeyError, TypeError, RecursionError) as bad:
        raise TraceError(source, _first(bad), f"does not fit {FORMAT}", errno.EPROTO) from bad
    return Trace(records, MemoryMap(tuple(file.zones), Others.of(file.others)), file.meta)


def save(trace: Trace, path: Path) -> None:
    """Write `trace` to `path`."""
    data = dumps(trace).encode()
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def load(path: Path) -> Trace:
    """Read a trace from `path`. Raises TraceError for a file that is missing, cut, too large or not a trace."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            data = zlib.decompressobj(31).decompress(data, MAX_BYTES)
    except (OSError, zlib.error) as bad:
        code = bad.errno if isinstance(bad, OSError) and bad.errno else errno.EPROTO
        raise TraceError(str(path), "file", f"cannot be read: {getattr(bad, 'strerror', None) or bad}", code) from bad
    if len(data) > MAX_BYTES:
        raise TraceError(str(path), "file", f"is longer than {human_bytes(MAX_BYTES)}", errno.EFBIG)
    return loads(data, str(path))


def _parse(text: str | bytes) -> tuple[_File, tuple[Record, ...]]:
    """Return the file that `text` is, and its records. Raises ValueError, TypeError or RecursionError."""
    raw = json.loads(text)
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        msg = f"format {found!r}"
        raise ValueError(msg)
    file = TypeAdapter(_File).validate_python(raw)
    records = tuple(_record(row) for row in file.records)
    if any(rec.t > after.t for rec, after in pairwise(records)):
        msg = "time that runs backwards"
        raise ValueError(msg)
    return file, records


def _record(row: list[Any]) -> Record:
    name, *fields = row
    if name not in RECORDS:
        raise ValueError(f"record {name!r}")
    record: Record = _ADAPTERS[name].validate_python(fields, strict=False)
    lengths = [nbytes for value in record if isinstance(value, tuple) for _addr, nbytes in value]
    lengths.append(getattr(record, "len", 0))
    if not all(0 <= nbytes <= _MOST for nbytes in lengths) or not 0 <= getattr(record, "order", 0) <= PUD_ORDER:
        raise ValueError(f"{name} of a length or an order that no machine has")
    long = {at: _columns(value) for at, value in enumerate(record) if isinstance(value, tuple) and len(value) > _LONG}
    return RECORDS[name](*(long.get(at, value) for at, value in enumerate(record))) if long else record  # type: ignore[arg-type]  # fields of any type


def _columns(ranges: tuple[tuple[int, int], ...]) -> RangeArray:
    """Return many `ranges` in little memory. Raises ValueError for an address that no machine has."""
    try:
        return RangeArray.join([ranges])
    except OverflowError as bad:
        raise ValueError("an address of more than 63 bits") from bad


def _pairs(value: object) -> list[tuple[int, int]]:
    """Return a list in columns as a list of pairs. Raises TypeError for anything else that JSON does not know."""
    if not isinstance(value, RangeArray):
        raise TypeError(f"{type(value).__name__} is not for a trace")
    return list(value)


def _first(bad: Exception) -> str:
    """Return the first complaint of `bad` in one line."""
    if isinstance(bad, ValidationError):
        err = bad.errors()[0]
        where = ".".join(str(part) for part in err["loc"])
        return f"{where}: {err['msg']}" if where else str(err["msg"])
    if isinstance(bad, KeyError):
        return f"a record of {bad}, which is not there then,"
    return str(bad).splitlines()[0][:200] if str(bad) else type(bad).__name__
