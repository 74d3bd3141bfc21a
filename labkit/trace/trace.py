"""The whole story of a run, as a value: what the machine was, and every record in the order of time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from labkit.trace.events import Record
from labkit.trace.meters import Meters, meters
from labkit.trace.snapshot import MemoryMap, Snapshot
from labkit.trace.state import state_at
from labkit.units import Nsec, human_ns

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, repr=False)
class Trace:
    """`meta` (the scenario and where its numbers come from), `memory` (the lie of the land) and `records`."""

    records: tuple[Record, ...]
    memory: MemoryMap = field(default_factory=MemoryMap)
    meta: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return how many records it has, and of how long a time; they themselves may be millions."""
        knobs = self.meta.get("scenario")
        what = f", {knobs.get('system')} on {knobs.get('device')}" if isinstance(knobs, dict) else ""
        return f"<Trace of {len(self):,} records, {human_ns(self.end)}{what}>"

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        """Iterate over the records in the order of time."""
        return iter(self.records)

    def of(self, kind: type[R]) -> tuple[R, ...]:
        """Return the records of one type."""
        return tuple(rec for rec in self.records if isinstance(rec, kind))

    @property
    def end(self) -> Nsec:
        """The time of the last record, in ns."""
        return Nsec(self.records[-1].t if self.records else 0)

    def state_at(self, t: Nsec) -> Snapshot:
        """Return the machine as it was at `t` ns."""
        return state_at(self.records, t)

    def meters(self) -> Meters:
        """Return what the whole run cost."""
        return meters(self.records)
