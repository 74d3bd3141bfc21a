"""`labkit predict`: what a kernel makes of a captured IO, and whether that is what it was seen to do."""

import errno
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from json import dumps
from pathlib import Path
from typing import Any

from rich.console import Console

from labkit.cli.refusal import EXIT_FAILED, say
from labkit.errors import BadInput, LabkitError
from labkit.units import human_bytes
from labkit.witness.capture import Capture
from labkit.witness.check import residual, result_of
from labkit.witness.predict import Prediction, predict

_HEAD, _TAIL = 8, 2
"""Rows that are told of a long list: the first ones, and the last."""


def predict_captures(paths: Sequence[Path], *, json: bool, check: bool) -> int:
    """Predict each capture in `paths`, or below them, print it, as one object with `json`; return the exit code.

    One that cannot be predicted is told in a sentence, and the others go on: 2. With `check` 1 where one differs.
    """
    told: dict[str, Any] = {}
    code = 0
    for path in chain.from_iterable(map(_below, paths)):
        try:
            name, row, lines = _predicted(path, check=check)
            if name in told:
                raise BadInput("capture", str(path), f"has the id {name}, as another one before it", errno.EINVAL)
        except LabkitError as bad:
            say(str(bad))
            told[str(path)] = {"error": str(bad)}
            code = bad.exit_code
            continue
        told[name] = row
        if not json:
            _print(lines)
    if json:
        sys.stdout.write(dumps(told) + "\n")
    elif check:
        _print([_summary(told)])
    return code or (EXIT_FAILED if any(row.get("residual") for row in told.values()) else 0)


def _below(path: Path) -> list[Path]:
    """Return the captures in directory `path` and all below it, by name; of a file, or of an empty one, `path`."""
    return sorted([*path.rglob("*.json"), *path.rglob("*.json.gz")]) or [path]


def _predicted(path: Path, *, check: bool) -> tuple[str, dict[str, Any], list[str]]:
    """Return the id of the capture in `path`, what is predicted of it for JSON, and as lines for a reader."""
    capture = Capture.load(path)
    found = predict(capture)
    row = _row(capture, found)
    if not check:
        return capture.id, row, list(_tell(capture, found))
    row["residual"] = residual(capture, found)
    return capture.id, row, row["residual"] or [f"{capture.id}: exact"]


def _print(lines: list[str]) -> None:
    """Print `lines` as they are."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in lines:
        console.print(line)


def _summary(told: dict[str, Any]) -> str:
    """Return how many captures are exact, and how many are not."""
    refused = sum("error" in row for row in told.values())
    differ = sum(bool(row.get("residual")) for row in told.values())
    tail = f", {refused} refused" * bool(refused)
    plural = "s" * (len(told) != 1)
    return f"{len(told)} capture{plural}: {len(told) - differ - refused} exact, {differ} differ{tail}"


def _row(capture: Capture, found: Prediction) -> dict[str, Any]:
    """Return one prediction for JSON."""
    row: dict[str, Any] = {"result": result_of(capture, found), "bios": found.bios, "splits": found.splits}
    row |= {"requests": found.requests, "events": found.events, "ordered": found.ordered, "merges": found.merges}
    row |= {"kernel": found.kernel, "proven": found.proven}
    if found.nvme is not None:
        row["nvme"] = [dict(zip(("slba", "bytes", "encoding", "addrs"), each, strict=False)) for each in found.nvme]
    return row


def _tell(capture: Capture, found: Prediction) -> Iterator[str]:
    """Yield one prediction as lines for a reader."""
    unproven = "" if found.proven else f" (unproven: {capture.kernel} was never measured)"
    where = capture.device.name or "the device"
    yield f"{capture.id}: {_ios(capture)} on {where}, by kernel {found.kernel} rules{unproven}"
    results = result_of(capture, found)
    yield f"  result    {', '.join(map(str, results[:_HEAD]))}{', …' * (len(results) > _HEAD)}"
    yield from _part("bios", [_bio(*bio) for bio in found.bios])
    yield from _part("splits", [_split(at, why) for at, why in zip(found.splits, found.whys, strict=True)])
    yield from _part("requests", [f"sector {sector}, {nr} sectors" for sector, nr in found.requests])
    if found.nvme is not None:
        yield from _part("commands", [_command(*each[:4]) for each in found.nvme])
    yield from _part("events", [" ".join(map(str, event)) for event in found.events])
    if not found.ordered:
        yield "  the order of requests and events is not certain (R15, R16)" + ", nor what merges (R18)" * (
            not found.merges
        )


def _ios(capture: Capture) -> str:
    """Return what was asked for."""
    first, size = capture.io[0], sum(n for io in capture.io for _, n in io.iov)
    many = f"{len(capture.io)} x " if len(capture.io) > 1 else ""
    return f"{many}{first.api} of {human_bytes(size)} at {first.pos}"


def _bio(sector: int, vecs: list[Any]) -> str:
    size = human_bytes(sum(n for _, n in vecs))
    shown = [f"{addr:#x}+{n}" if addr is not None else f"page cache+{n}" for addr, n in vecs[:4]]
    more = f", … {len(vecs) - 4} more" if len(vecs) > 4 else ""  # noqa: PLR2004 - as many as fit a line
    return f"sector {sector}, {size} in {len(vecs)} vector{'s' * (len(vecs) != 1)}: {', '.join(shown)}{more}"


def _command(slba: int, nbytes: int, encoding: str, addrs: list[list[Any]]) -> str:
    shown = [f"{addr:#x}+{n}" if addr is not None else f"page cache+{n}" for addr, n in addrs[:4]]
    more = f", … {len(addrs) - 4} more" if len(addrs) > 4 else ""  # noqa: PLR2004 - as many as fit a line
    return f"block {slba}, {human_bytes(nbytes)}, {encoding}: {', '.join(shown)}{more}"


def _split(at: list[int], why: tuple[str, str]) -> str:
    return f"sector {at[0]} ends at {at[1]}: {why[1]} ({why[0]})"


def _part(name: str, rows: list[str]) -> Iterator[str]:
    """Yield a list under its name; of a long one the middle is left out."""
    yield f"  {name:9} {len(rows)}"
    cut = len(rows) > _HEAD + _TAIL
    for row in rows[:_HEAD] if cut else rows:
        yield f"    {row}"
    if cut:
        yield f"    … {len(rows) - _HEAD - _TAIL} more"
        for row in rows[-_TAIL:]:
            yield f"    {row}"
