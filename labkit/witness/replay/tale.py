"""What is being told: records, which of them were seen and which are inferred, and what has no record."""

from collections import Counter
from dataclasses import dataclass, field

from labkit.trace.events import Record
from labkit.witness.capture import Capture
from labkit.witness.replay.seen import Seen


@dataclass(slots=True)
class Tale:
    """The records of a capture while they are collected."""

    capture: Capture
    records: list[Record] = field(default_factory=list)
    seen: int = 0
    """Events that have a record of their own."""
    folded: Counter[str] = field(default_factory=Counter)
    """Events that one record tells of together with others, by name."""
    unshown: Counter[str] = field(default_factory=Counter)
    """Events that no record tells of, by name."""
    inferred: dict[str, str] = field(default_factory=dict)
    """What no event tells, and where it is known from."""
    last: int = 0
    """When the last event was that is told, in ns."""

    def tell(self, rec: Record) -> None:
        """Keep the record of one event."""
        self.records.append(rec)
        self.seen += 1

    def sum_up(self, rec: Record) -> None:
        """Keep the record of several events that were folded."""
        self.records.append(rec)

    def infer(self, rec: Record, why: str) -> None:
        """Keep a record that no event tells of, and the reason to believe it."""
        self.records.append(rec)
        self.inferred[type(rec).__name__] = why

    def fold(self, row: Seen) -> None:
        """Count an event that the record of another one tells of, too."""
        self.folded[row.name] += 1

    def skip(self, row: Seen) -> None:
        """Count an event that is not shown."""
        self.unshown[row.name] += 1
