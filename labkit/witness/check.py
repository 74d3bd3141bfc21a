"""Predicted against recorded: what a kernel was seen to do, and every line in which the prediction differs."""

import errno
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from labkit.errors import BadInput, errno_name
from labkit.witness.capture import Capture
from labkit.witness.check_nvme import Seen, comparable, seen
from labkit.witness.predict import Prediction

_FIELDS: dict[str, tuple[str, ...]] = {
    "block_bio_queue": ("sector", "nr_sector"), "block_split": ("sector", "new_sector"),
    "block_getrq": ("sector", "nr_sector"), "block_bio_backmerge": ("sector", "nr_sector"),
    "block_bio_frontmerge": ("sector", "nr_sector"), "block_plug": (), "block_unplug": ("nr_rq",),
    "block_rq_issue": ("sector", "nr_sector"), "block_rq_insert": ("sector", "nr_sector"),
    "block_bio_complete": ("sector", "nr_sector", "error"),
}  # fmt: skip
"""The tracepoints that are compared, and the fields of each."""
MOST = 8
"""Lines of residual that one part of a capture gives at most; how many more there are is the last one."""


FOREIGN = "foreign"
"""`by` of an event that belongs to somebody else's IO on the same device: it is not compared."""


class Recorded(NamedTuple):
    """What a capture has of an IO, as Prediction has it; None for what was not recorded.

    `queued`: sector and sectors of each bio, which tracepoints tell. `cut`: by sector, how many vectors were recorded
    of a bio that has more.
    """

    result: list[int | str] | None
    bios: list[list[Any]] | None
    queued: list[list[int]] | None
    splits: list[list[int]] | None
    requests: list[list[int]] | None
    events: list[list[Any]] | None
    cut: dict[int, int]
    nvme: list[Seen] | None


def recorded(capture: Capture) -> Recorded:
    """Return what was recorded. Raises BadInput ENODATA where nothing was, EINVAL where it makes no sense."""
    if capture.result is None and capture.bios is None and capture.events is None:
        raise BadInput("capture", capture.id, "has nothing recorded to compare with", errno.ENODATA)
    try:
        bios = [bio for bio in capture.bios or () if "queue" in {bio.get("kind"), bio.get("event")}]
        vecs: list[list[Any]] = [
            [int(bio["sector"]), [[int(addr), int(n)] for addr, n in bio["bvecs"]]] for bio in bios
        ]
        events = [(_name(event), event) for event in capture.events or () if _is_compared(event)]
        told: list[tuple[Any, list[Any]]] = [
            (event.get("by"), [name, *(int(event[key]) for key in _FIELDS[name])]) for name, event in events
        ]
        nvme = seen(capture.nvme) if capture.nvme is not None else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as bad:
        what = f"has a broken record: {type(bad).__name__} {bad}".splitlines()[0]
        raise BadInput("capture", capture.id, what, errno.EINVAL) from None
    watched = capture.events is not None
    return Recorded(
        capture.result,
        vecs if capture.bios or (capture.bios is not None and not watched) else None,
        _figures(told, "block_bio_queue") if watched else None,
        _figures(told, "block_split") if watched else None,
        _figures(told, "block_rq_issue") if watched else None,
        [row for by, row in told if by == "submitter"] if watched else None,
        {sector: len(rows) for (sector, rows), bio in zip(vecs, bios, strict=True) if bio.get("bvecs_truncated")},
        nvme,
    )


def residual(capture: Capture, predicted: Prediction) -> list[str]:
    """Return a line for everything that is predicted and was not recorded so, or the other way round.

    Raises BadInput as `recorded` does.
    """
    return [line for lines in parts(capture, predicted).values() for line in lines]


def parts(capture: Capture, predicted: Prediction) -> dict[str, list[str]]:
    """Return the lines of `residual` by part: result, bios, splits, requests, events, nvme; [] for one that is exact.

    What was not recorded is no part. Where the order is not certain, requests, splits and the bios of a ring are
    compared as sets, and events are no part; where merges are not, bios and requests are compared by the sectors that
    they cover: what waits half done is sent again (R18). Raises BadInput as `recorded` does.
    """
    found, loose = recorded(capture), not predicted.ordered
    pairs = {"result": (result_of(capture, predicted), _spelled(capture, found.result))} | {
        name: (getattr(predicted, name), getattr(found, name)) for name in ("splits", "requests", "events")
    }
    pairs["bios"] = _bios(predicted, found)
    if loose:
        del pairs["events"]
        for name in ("splits", "requests", "bios") if capture.io[0].uring else ("splits", "requests"):
            mine, theirs = pairs[name]
            pairs[name] = sorted(mine, key=repr), None if theirs is None else sorted(theirs, key=repr)
    for name, once in () if predicted.merges else (("bios", _covered), ("splits", _once), ("requests", _covered)):
        mine, theirs = pairs[name]
        pairs[name] = once(mine), None if theirs is None else once(theirs)
    if predicted.nvme is not None:
        pairs["nvme"] = _commands(predicted, found)
    told = [name for name in _PARTS if pairs.get(name, (None, None))[1] is not None]
    return {name: _differ(capture.id, name, *pairs[name]) for name in told}


_PARTS = ("result", "bios", "splits", "requests", "events", "nvme")


def _once(rows: list[list[Any]]) -> list[list[Any]]:
    """Return `rows` in order, each once."""
    return [list(row) for row in sorted(set(map(tuple, rows)))]


def _covered(rows: list[list[Any]]) -> list[list[Any]]:
    """Return [sector, sectors] rows in the order of sectors, those that touch as one; bios with vectors each once."""
    found: list[list[Any]] = []
    for sector, what in sorted(rows, key=lambda row: (row[0], repr(row[1]))):
        if isinstance(what, list):
            found += [[sector, what]] if [sector, what] not in found[-1:] else []
        elif found and sum(found[-1]) >= sector:
            found[-1][1] = max(found[-1][1], sector + what - found[-1][0])
        else:
            found.append([sector, what])
    return found


def _is_compared(event: dict[str, Any]) -> bool:
    """Return whether `event` is of a tracepoint that is predicted, and of this IO."""
    return _name(event) in _FIELDS and event.get("by") != FOREIGN


def _figures(told: list[tuple[Any, list[Any]]], name: str) -> list[list[Any]]:
    """Return the figures of every event `name`, whoever did it."""
    return [row[1:] for _, row in told if row[0] == name]


def _bios(predicted: Prediction, found: Recorded) -> tuple[list[Any], list[Any] | None]:
    """Return predicted and recorded bios to compare: by their vectors, or, where those were not seen, by sectors."""
    if found.bios is not None:
        return _comparable(predicted.bios, found), found.bios
    return [[sector, sum(n for _, n in vecs) >> 9] for sector, vecs in predicted.bios], found.queued


def _commands(predicted: Prediction, found: Recorded) -> tuple[list[Any], list[Any] | None]:
    """Return predicted and recorded commands to compare: by their blocks, where their order is not certain."""
    mine, theirs = predicted.nvme or [], found.nvme
    if not predicted.ordered:
        mine = sorted(mine, key=lambda row: row[:2])
        theirs = sorted(theirs, key=lambda row: row[:2]) if theirs is not None else None
    return comparable(mine, theirs)


def result_of(capture: Capture, predicted: Prediction) -> list[int | str]:
    """Return the predicted result as the capture's format spells it: an errno is '-EINVAL', or -22 (+nvme)."""
    if capture.of_nvme:
        return list(predicted.result)
    return [value if value >= 0 else errno_name(-value) for value in predicted.result]


def _spelled(capture: Capture, result: list[int | str] | None) -> list[int | str] | None:
    """Return a recorded result in the spelling of its format: real ones have both."""
    if result is None or capture.of_nvme:
        return result
    return [errno_name(-value) if isinstance(value, int) and value < 0 else value for value in result]


def _name(event: dict[str, Any]) -> str:
    """Return the tracepoint without its group."""
    return str(event["event"]).rpartition(":")[2]


def _comparable(bios: list[list[Any]], seen: Recorded) -> list[list[Any]]:
    """Return predicted bios as far as recorded ones go: the first vectors, and any address where none is known."""
    theirs = [vecs for _, vecs in seen.bios or ()]
    theirs += [[]] * (len(bios) - len(theirs))
    return [
        [sector, _as_known(vecs[: seen.cut.get(sector)], other)]
        for (sector, vecs), other in zip(bios, theirs, strict=False)
    ]


def _as_known(vecs: list[Any], theirs: list[Any]) -> list[list[Any]]:
    """Return `vecs` with the recorded address where none is predicted, and the length is right."""
    if all(addr is not None for addr, _ in vecs):
        return vecs
    theirs = theirs + [[None, -1]] * (len(vecs) - len(theirs))
    return [
        [other[0] if addr is None and other[1] == n else addr, n]
        for (addr, n), other in zip(vecs, theirs, strict=False)
    ]


def _differ(name: str, part: str, mine: Sequence[Any], theirs: Sequence[Any] | None) -> list[str]:
    """Return a line for each row of `part` that differs; none where nothing was recorded."""
    if theirs is None or list(mine) == list(theirs):
        return []
    rows = enumerate(zip_longest(mine, theirs, fillvalue=None))
    lines = [f"{name}: {part}[{at}]: predicted {_text(a)}, recorded {_text(b)}" for at, (a, b) in rows if a != b]
    more = [f"{name}: {part}: {len(lines) - MOST} more differ"] if len(lines) > MOST else []
    return lines[:MOST] + more


def _text(row: Any) -> str:
    """Return a request as 8+16, a bio with its first vectors, anything else as it is."""
    if row is None:
        return "nothing"
    if isinstance(row, list) and len(row) == 2 and isinstance(row[1], list):  # noqa: PLR2004 - a bio
        vecs = ", ".join(f"{addr:#x}+{n}" if addr is not None else f"?+{n}" for addr, n in row[1][:4])
        return f"sector {row[0]}: {len(row[1])} vectors {vecs}{', ...' * (len(row[1]) > 4)}"  # noqa: PLR2004
    if isinstance(row, list) and isinstance(row[-1], list):  # a command
        pieces = ", ".join(f"{addr:#x}+{n}" if addr is not None else f"?+{n}" for addr, n in row[3][:4])
        return f"{row[0]}+{row[1] >> 9} {row[2]}: {len(row[3])} pieces {pieces}{', ...' * (len(row[3]) > 4)}"  # noqa: PLR2004
    return "+".join(map(str, row)) if isinstance(row, list) else str(row)
