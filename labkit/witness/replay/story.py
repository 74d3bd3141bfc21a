"""A capture becomes a trace."""

import errno
from collections.abc import Sequence
from functools import partial
from typing import Any

from labkit.errors import BadInput
from labkit.trace.trace import Trace
from labkit.witness.capture import Capture
from labkit.witness.replay import land
from labkit.witness.replay.blocks import Blocks
from labkit.witness.replay.bus import Bus
from labkit.witness.replay.calls import Calls
from labkit.witness.replay.hold import Hold
from labkit.witness.replay.seen import Seen, own, seen, when
from labkit.witness.replay.tale import Tale

_CALLER = "from the caller's own clock"
_LAND = "from pagemap and kpageflags, read around the call"
_COUNTS = (
    "vectors, segments and rules of splits are as bpf read them, where it did; else as the kernel's rules have them"
)


def story(capture: Capture) -> Trace:
    """Return what `capture` saw, as a trace: records of its events at their own ns, in memory as pagemap told of it.

    Bios, requests, tags and IOs have numbers here, which no tracepoint tells: they are told apart by sectors, threads
    and time; tags are the lowest free ones. `meta["inferred"]` names the records that no event stands behind, and why
    they are true; `meta["unshown"]` counts events that no record tells of, `meta["folded"]` those that share one;
    `meta["unfinished"]` are requests that had not ended. Raises BadInput EINVAL for events that are broken.
    """
    tale = Tale(capture)
    try:
        rows = seen(capture)
        calls, blocks = _tell(tale, rows)
        _ends(tale, calls, rows)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as bad:
        what = f"has a broken record: {type(bad).__name__} {bad}".splitlines()[0]
        raise BadInput("capture", capture.id, what, errno.EINVAL) from None
    tale.records.sort(key=lambda rec: rec.t)
    return Trace(tuple(tale.records), land.memory(capture), _meta(tale, list(blocks.left())))


def _tell(tale: Tale, rows: Sequence[Seen]) -> tuple[Calls, Blocks]:
    """Tell of every event of the device that the capture is of."""
    capture = tale.capture
    for rec in land.before(capture):
        tale.infer(rec, _LAND)
    calls, hold, bus = Calls(tale), Hold(tale), Bus(tale)
    hold.register()
    blocks = Blocks(tale, calls, hold, bus.ended)
    bus.blocks = blocks
    if land.later(capture):
        blocks.first = partial(_came, tale)
    here = own(capture, rows)
    for row in rows:
        mine = row.fields.get("dev") is None or row.text("dev") == here
        if not (mine and (bus.take(row) or blocks.take(row) or calls.take(row))):
            tale.skip(row)
    if blocks.first:
        blocks.first(rows[-1].t if rows else 0)
    return calls, blocks


def _came(tale: Tale, t: int) -> None:
    """Tell of the pages that pagemap had afterwards alone."""
    for rec in land.meanwhile(tale.capture, t):
        tale.infer(rec, _LAND)


def _ends(tale: Tale, calls: Calls, rows: Sequence[Seen]) -> None:
    """Tell of the IOs themselves, where their tracepoints were off."""
    last = max([when(tale.capture.duration_ns or 0), *(row.t for row in rows[-1:])])
    first = next((at for at, rec in enumerate(tale.records) if rec.t > 0), len(tale.records))
    begins, ends = calls.untold(last)
    for rec in (*begins, *ends):
        tale.infer(rec, _CALLER)
    late = tale.records[first : len(tale.records) - len(begins) - len(ends)]
    tale.records[first:] = [*begins, *late, *ends]


def _meta(tale: Tale, unfinished: list[int]) -> dict[str, Any]:
    """Return where the trace is from, and what in it was not seen."""
    capture = tale.capture
    kernel = capture.kernel.split("-")[0].split("+")[0]
    return {
        "device": {"name": capture.device.name, "nbytes": capture.device.size_bytes, "clock": "measured"},
        "kernel": kernel,
        "recorded": {"kernel": kernel, "date": (capture.date or "")[:10]},
        "origin": {"records": f"upstream {kernel}, observed", "inferred": f"upstream {kernel}, inferred"},
        "capture": {"id": capture.id, "format": capture.format, "note": capture.note},
        "inferred": tale.inferred,
        "counts": _COUNTS,
        "elsewhere": "not looked at",
        "folded": dict(tale.folded),
        "unshown": dict(tale.unshown),
        "unfinished": unfinished,
        "pins": capture.pins,
        "error": None,
        "verified": None,
    }
