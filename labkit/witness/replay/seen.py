"""Events of a capture, whatever wrote them, become plain rows: when, who, what."""

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

from labkit.witness.capture import Capture
from labkit.witness.check import FOREIGN

_WORKER = "iou-wrk"
"""What the threads of a ring are called, with the number of its owner behind it."""
_LONGEST = 1 << 40
"""The longest that an IO may take, in ns: 18 minutes, and every watchdog has barked."""
_DMA = ("dma_addr", "phys_addr")


class Seen(NamedTuple):
    """One event: `t` ns since just before the call, the thread `pid` it ran in, and its fields.

    `ours`: the submitter did it, or a worker of its ring. `foreign`: it belongs to an IO of somebody else's.
    """

    t: int
    name: str
    pid: int
    ours: bool
    foreign: bool
    worker: bool
    fields: dict[str, Any]

    def number(self, name: str) -> int:
        """Return a field as a number; what a kernel has as -1 of 64 bits is -1. Raises KeyError, ValueError."""
        value = self.fields[name]
        found = int(value, 16 if name in _DMA else 0) if isinstance(value, str) else int(value)
        return found - (1 << 64) if found >= 1 << 63 else found

    def text(self, name: str) -> str:
        """Return a field as text; "" where it is not there."""
        return str(self.fields.get(name, ""))


def seen(capture: Capture) -> list[Seen]:
    """Return the events of `capture` in the order of time. Raises KeyError, TypeError, ValueError for a broken one."""
    events = capture.events or []
    workers = {event["common_pid"] for event in events if str(event.get("comm", "")).startswith(_WORKER)}
    return sorted((_row(event, workers) for event in events), key=lambda row: row.t)


def _row(event: dict[str, Any], workers: Container[int]) -> Seen:
    """Return an event; a thread that was a worker once is one throughout, since not every event says its name."""
    pid, by = int(event["common_pid"]), event.get("by")
    worker = by == "other" and pid in workers
    name = str(event["event"]).rpartition(":")[2]
    return Seen(when(event["t_ns"]), name, pid, by == "submitter" or worker, by == FOREIGN, worker, event)


def when(ns: int) -> int:
    """Return a time since the call began, in ns: 0 for a moment before it. Raises ValueError for one far beyond it."""
    if int(ns) > _LONGEST:
        raise ValueError(f"of {ns} ns")
    return max(0, int(ns))


def own(capture: Capture, rows: Sequence[Seen]) -> str:
    """Return the device that the capture was taken on, as its events name it; "" where none does.

    A capture keeps the events of its own device; where a filter let others in, it is the one that the submitter used.
    """
    told = [row.text("dev") for row in rows if "dev" in row.fields and row.ours] if capture.events else []
    return max(set(told), key=told.count) if told else ""
