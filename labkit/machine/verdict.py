"""What became of a run that was watched, or that somebody got in the way of: its violations, from the trace."""

from collections.abc import Sequence
from typing import Any

from labkit.trace.events import DeviceDma, DmaMap, Hazard, Record, Violation


def moved_by(records: Sequence[Record], addr: int) -> int:
    """Return the number of the record that moved the byte at physical `addr`; of the hazard, where none did."""
    requests = {
        rec.rq for rec in records if isinstance(rec, DmaMap) and any(a <= addr < a + n for a, n in rec.phys)
    }  # fmt: skip
    for number, rec in enumerate(records):
        if isinstance(rec, DeviceDma) and rec.rq in requests:
            return number
    return next((number for number, rec in enumerate(records) if isinstance(rec, Hazard)), 0)


def violations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return every Violation of `records` as `labkit run --json` prints it."""
    return [
        {
            "invariant": rec.name, "at": rec.at, "record": type(records[rec.at]).__name__, "text": rec.text,
            "addr": rec.addr, "expected": rec.expected, "found": rec.found,
        }
        for rec in records
        if isinstance(rec, Violation)
    ]  # fmt: skip
