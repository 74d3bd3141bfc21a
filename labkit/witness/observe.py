"""Events of a trace instance become the events of a capture: since when, by whom, and what is somebody else's."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from labkit.host.watch.tracefs.formats import Event
from labkit.machine.pieces import joined
from labkit.witness.check import FOREIGN

_POINTERS = ("ctx", "req", "ops", "caller")
"""Fields that are addresses of the kernel: kept only as far as they tell one thing from another."""


def rows(events: Sequence[Event], began: int, tid: int) -> list[dict[str, Any]]:
    """Return `events` in the format labkit-capture-1: `t_ns` since `began` (CLOCK_MONOTONIC, ns), `by` whom.

    The thread `tid` is the submitter. Others are its ring's workers, and whoever issues or ends its requests. What
    touches sectors that neither of them asked for is foreign: a filesystem's journal, its lazy initialisation; so is
    what somebody does who sends bios of his own to the same sectors.
    """
    names: dict[tuple[str, int], int] = {}
    return [
        {"t_ns": event.t - began, "cpu": event.cpu, "event": event.name, "by": by, "common_pid": event.pid}
        | {name: _plain(names, name, value) for name, value in event.fields.items()}
        for event, by in zip(events, _owners(events, tid), strict=True)
    ]


def _plain(names: dict[tuple[str, int], int], name: str, value: int | str) -> int | str:
    """Return `value`; for a pointer of the kernel a small number, the same for the same pointer."""
    if name not in _POINTERS or isinstance(value, str):
        return value
    return names.setdefault((name, value), len(names) + 1)


def is_mine(pid: int, comm: Any, tid: int) -> bool:
    """Return whether thread `pid` is the submitter `tid`, or a worker of its ring, which is named after it."""
    return pid == tid or comm == f"iou-wrk-{tid}"


def _owners(events: Sequence[Event], tid: int) -> Iterator[str]:
    """Yield submitter, other or foreign for each event."""
    bios = [event for event in events if event.name == "block:block_bio_queue"]
    mine = [event for event in bios if is_mine(event.pid, event.fields.get("comm"), tid)]
    strangers = {event.pid for event in bios} - {event.pid for event in mine}
    asked = joined(_sectors(event) for event in mine)
    theirs = joined(_sectors(event) for event in bios if event.pid in strangers)
    for event in events:
        sector = event.fields.get("sector")
        if event.pid == tid:
            yield "submitter"
        elif is_mine(event.pid, event.fields.get("comm"), tid) or not isinstance(sector, int):
            yield "other"
        elif not event.fields.get("nr_sector", 1):  # it carries nothing: a flush, or what is left of a request
            yield FOREIGN if str(event.fields.get("rwbs")).startswith("F") else "other"
        else:
            by_stranger = event.pid in strangers and _holds(
                theirs, sector
            )  # else he may issue what waits of ours (R15)
            yield FOREIGN if by_stranger or not _holds(asked, sector) else "other"


def _sectors(event: Event) -> tuple[int, int]:
    """Return the first sector of a bio, and the one past its end."""
    start = int(event.fields["sector"])
    return start, start + max(int(event.fields["nr_sector"]), 1)


def _holds(spans: Sequence[tuple[int, int]], sector: int) -> bool:
    """Return whether one of `spans`, sorted and apart, holds `sector`."""
    i = bisect_right(spans, sector, key=itemgetter(0)) - 1
    return i >= 0 and sector < spans[i][1]
