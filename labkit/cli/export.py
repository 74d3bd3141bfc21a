"""`labkit export`: a trace becomes a file, by the end of its name: a page, a timeline, a table, a figure."""

import errno
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from labkit.cli.refusal import say
from labkit.errors import BadInput
from labkit.host.calls import chromium
from labkit.machine import Machine
from labkit.scenario import Scenario
from labkit.trace.store import load
from labkit.trace.trace import Trace
from labkit.units import human_bytes
from labkit.views.export.blkparse import blkparse
from labkit.views.export.moment import busiest
from labkit.views.export.parquet import to_parquet
from labkit.views.export.perfetto import perfetto
from labkit.views.export.table import to_csv
from labkit.witness.capture import Capture
from labkit.witness.replay import story as replayed

_HEAD = 4096
"""Bytes of a file in which it says what it is."""
_LARGE = 32 << 20
"""Bytes from which on it is said beforehand how large a file becomes."""
At = int | None


class Format(NamedTuple):
    """What makes a file of a trace, and about how many bytes it has: that many at least, and for each record."""

    make: Callable[[Trace, At], bytes]
    least: int
    each: int


def _page(trace: Trace, at: At) -> bytes:
    from labkit.widgets.page import standalone  # noqa: PLC0415 - Bokeh takes a second to import

    return standalone(trace, at=at).encode()


def _png(trace: Trace, at: At) -> bytes:
    from labkit.widgets.figure import HEIGHT, WIDTH  # noqa: PLC0415 - the same
    from labkit.widgets.page import standalone  # noqa: PLC0415 - the same

    return chromium.screenshot(standalone(_drawn(trace), "light", _moment(trace, at)), WIDTH, HEIGHT)


def _svg(trace: Trace, at: At) -> bytes:
    from labkit.widgets.figure import HEIGHT, WIDTH, figure  # noqa: PLC0415 - the same

    return chromium.figure(figure(_drawn(trace), "light", _moment(trace, at)), WIDTH, HEIGHT).encode()


def _drawn(trace: Trace) -> Trace:
    if not trace.records:
        raise BadInput("export", "a trace without records", "has nothing to draw", errno.ENODATA)
    return trace


def _moment(trace: Trace, at: At) -> At:
    return busiest(trace) if at is None else at


FORMATS = {
    ".html": Format(_page, 1_600_000, 700),
    ".json": Format(lambda trace, _: perfetto(trace).encode(), 2000, 320),
    ".blkparse": Format(lambda trace, _: blkparse(trace).encode(), 0, 70),
    ".csv": Format(lambda trace, _: to_csv(trace).encode(), 200, 150),
    ".parquet": Format(lambda trace, _: to_parquet(trace), 8000, 40),
    ".png": Format(_png, 500_000, 0),
    ".svg": Format(_svg, 1_500_000, 0),
}
"""By the end of a file's name: the Explorer as a page, Perfetto, blkparse's text, two kinds of table, two of figure."""


def export(out: Path, trace: Path | None, scenario: Scenario | None, at: At = None) -> int:
    """Write the trace in file `trace`, or a run of `scenario`, to `out`; `at`: the cursor, ns. Return the exit code.

    Raises BadInput for a name that no format has, or for a file that cannot be written.
    """
    asked(out, at)
    if trace is not None:
        return write(_kept(trace), out, at)
    with Machine(scenario) as machine:
        machine.run()
        return write(machine.trace, out, at)


def asked(out: Path, at: At = None) -> Format:
    """Return the format that the name of `out` asks for. Raises BadInput for none, and for a time before the start."""
    if out.suffix not in FORMATS:
        raise BadInput("export", f"out={str(out)!r}", f"does not end in one of {' '.join(FORMATS)}", errno.EINVAL)
    if at is not None and at < 0:
        raise BadInput("export", f"at={at}", "is before the start of the run", errno.EINVAL)
    return FORMATS[out.suffix]


def write(trace: Trace, out: Path, at: At = None) -> int:
    """Write `trace` to `out`; of a large file it is said beforehand how large. Errors: as `export`."""
    format_ = asked(out, at)
    ranges = sum(len(getattr(rec, "ranges", ())) for rec in trace.records)
    about = format_.least + format_.each * (len(trace) + ranges // 8)
    if about > _LARGE:
        say(f"export: {len(trace):,} records become about {human_bytes(about >> 20 << 20)} in {out}")
    data = format_.make(trace, at)
    try:
        out.write_bytes(data)
    except OSError as bad:
        raise BadInput("file", str(out), f"cannot be written: {bad.strerror}", bad.errno or errno.EIO) from None
    return 0


def _kept(path: Path) -> Trace:
    """Return the trace that is in `path`, or that the capture there becomes. Raises TraceError, BadInput."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            captured = b'"labkit-capture-1' in file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        captured = False
    return replayed(Capture.load(path)) if captured else load(path)
