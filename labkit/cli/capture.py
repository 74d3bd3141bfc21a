"""`labkit capture`: real IO in this machine's kernel, written down, and held against its prediction."""

import errno
import json as json_module
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from labkit.cli.refusal import EXIT_FAILED
from labkit.errors import BadInput
from labkit.host.memory.buffer import KINDS
from labkit.scenario import parse_bytes
from labkit.witness.asking import SETTLED, ask
from labkit.witness.capture import Capture
from labkit.witness.host_source import HostSource
from labkit.witness.outcome import Outcome, Rates, fits, unproven
from labkit.witness.source import Asked, AskedIo

APIS = ("pread", "preadv", "io_uring", "io_uring-fixed")
_SECTOR_SIZES = (512, 4096)
_PER_DEVICE = 5 * SETTLED
"""IOs on one device before the next one, of another logical block, takes its place."""
_MOST = 100_000
_KEPT = 400
"""Captures that are kept in memory: other kernels' rules are tried on those."""
_OF_ONE = ("op", "size", "offset", "max_sectors_kb", "nomerges")
"""Options that describe the one IO."""
_ALLOWED: dict[str, tuple[str | int, ...]] = {
    "op": ("read", "write"), "buffer": ("", *KINDS), "api": ("", *APIS), "fs": ("raw", "ext4", "xfs"),
    "sector_size": (0, 512, 1024, 2048, 4096), "nomerges": (0, 1, 2),
}  # fmt: skip
"""What each option may be; "" and 0 where nobody asks."""
_FIGURES = ("sector", "nr_sector", "new_sector", "nr_rq", "error", "ret")
_TOLD = 20
"""Events of one capture that are printed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options of the command say."""

    op: str = "read"
    size: str = "64KiB"
    offset: str = "0"
    buffer: str = ""
    api: str = ""
    fs: str = "raw"
    count: int = 1
    seed: int = 1
    sector_size: int = 0
    """0 for 512, or for both in turns where there are many."""
    max_sectors_kb: int = 0
    nomerges: int = 0
    bios: bool = False
    tmpfs: bool = False


def capture_io(wish: Wish, *, out: Path | None, check: bool, json: bool) -> int:
    """Do what `wish` says, keep the captures in `out`, predict them with `check`; return the exit code.

    1 where something differs. Raises BadInput, NotAllowed: exit codes 2 and 3; nothing is left in any case.
    """
    _check(wish, out)
    captures, outcomes = list[Capture](), list[Outcome]()
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with bar as progress, closing(_captured(wish)) as found:
        for asked, capture in progress.track(found, total=wish.count, description="capturing"):
            if out is not None:
                _write(out, capture, many=wish.count > 1)
            if len(captures) < _KEPT:
                captures.append(capture)
            if check:
                outcomes.append(Outcome.of(asked, capture))
    told = _report(wish, captures, outcomes)
    if json:
        sys.stdout.write(json_module.dumps(told) + "\n")
    else:
        _print(captures, outcomes, told)
    return EXIT_FAILED if any(not each.exact for each in outcomes) else 0


def _check(wish: Wish, out: Path | None) -> None:
    """Raise BadInput for a wish that cannot be, before anything is made."""
    for what, rule in _misfits(wish):
        raise BadInput("capture", what, rule, errno.EINVAL)
    if out is not None and wish.count == 1 and not _is_json(out):
        raise BadInput("capture", f"out={str(out)!r}", "ends neither in .json nor in .json.gz", errno.EINVAL)
    if out is not None and not out.parent.is_dir():
        raise BadInput("capture", str(out), "lies in a directory that is not there", errno.ENOENT)


def _misfits(wish: Wish) -> Iterator[tuple[str, str]]:
    """Yield what is none of what it may be, and what does not go together: (what, rule)."""
    for name, allowed in _ALLOWED.items():
        if (value := getattr(wish, name)) not in allowed:
            yield (
                f"{name.replace('_', '-')}={value!r}",
                f"is none of {', '.join(str(word) for word in allowed if word != '')}",
            )
    if not 0 < wish.count <= _MOST:
        yield f"count={wish.count}", f"is no number from 1 to {_MOST}"
    if wish.max_sectors_kb < 0:
        yield f"max-sectors-kb={wish.max_sectors_kb}", "is no number of KiB"
    for name in _OF_ONE if wish.count > 1 else ():
        if getattr(wish, name) != getattr(Wish(), name):
            what = f"{name.replace('_', '-')}={getattr(wish, name)}"
            yield what, f"is for one IO, and count={wish.count} asks for random ones"


def _is_json(path: Path) -> bool:
    return path.name.endswith((".json", ".json.gz"))


def _captured(wish: Wish) -> Generator[tuple[Asked, Capture], None, None]:
    """Yield what was asked and what was seen, with one device after the other; each is gone when the next one comes."""
    if wish.count == 1:
        with HostSource(fs=wish.fs, logical_block_size=wish.sector_size or 512, seed=wish.seed, pins=True,
                        bios=wish.bios, directory=_place(wish)) as source:  # fmt: skip
            asked = _one(wish)
            yield asked, source.capture(asked)
        return
    sizes = (wish.sector_size,) if wish.sector_size else _SECTOR_SIZES
    for at, first in enumerate(range(0, wish.count, _PER_DEVICE)):
        yield from _on_one_device(
            wish, sizes[at % len(sizes)], wish.seed * _MOST + at, min(_PER_DEVICE, wish.count - first)
        )


def _on_one_device(wish: Wish, sector_size: int, seed: int, count: int) -> Iterator[tuple[Asked, Capture]]:
    """Yield `count` random IOs on a device of one's own."""
    with HostSource(fs=wish.fs, logical_block_size=sector_size, seed=seed, told=False, bios=wish.bios,
                    directory=_place(wish)) as source:  # fmt: skip
        for asked in ask(seed, count, source.space, wish.api, wish.buffer):
            yield asked, source.capture(asked)


def _place(wish: Wish) -> Path | None:
    return Path("/dev/shm") if wish.tmpfs else None  # noqa: S108 - a private directory is made in it


def _one(wish: Wish) -> Asked:
    """Return the one IO that the options describe."""
    size, offset = parse_bytes("capture", "size", wish.size), parse_bytes("capture", "offset", wish.offset)
    api, op = wish.api or "pread", wish.op[0]
    knobs: dict[str, int | str] = {"nomerges": wish.nomerges}
    if wish.max_sectors_kb:
        knobs["max_sectors_kb"] = wish.max_sectors_kb
    kind = wish.buffer or "4KiB-shuffled"
    region = (0, max(size, 1)) if api == "io_uring-fixed" else None
    name = f"{wish.op}-{size}-at-{offset}-{kind}-{api}"
    return Asked(name, kind, api, (AskedIo(op, offset, ((0, size),)),), region, knobs)


def _write(out: Path, capture: Capture, *, many: bool) -> None:
    """Keep `capture` in the file `out`, or, one of `many`, in a directory of that name. Raises BadInput."""
    try:
        if many:
            out.mkdir(exist_ok=True)
        capture.save(out / f"{capture.id}.json" if many else out)
    except OSError as bad:
        raise BadInput("capture", str(out), f"cannot be written: {bad.strerror}", bad.errno or errno.EIO) from None


def _report(wish: Wish, captures: list[Capture], outcomes: list[Outcome]) -> dict[str, Any]:
    """Return what is printed with --json."""
    first = captures[0]
    told: dict[str, Any] = {"kernel": first.kernel, "count": wish.count, "seed": wish.seed, "fs": wish.fs}
    _, told["proven"] = first.rules
    if wish.count == 1:
        told["capture"] = first.model_dump(mode="json")
    if outcomes:
        rates = Rates.of(outcomes)
        told |= {"exact": rates.exact, "rates": rates.parts, "starved": rates.starved, "foreign": rates.foreign}
        told["differ"] = [{"id": each.id, "lines": each.lines} for each in outcomes if not each.exact]
        told["outcomes"] = [each._asdict() | {"exact": each.exact} for each in outcomes]
    if outcomes and not told["proven"]:
        told |= {"unproven": unproven(first.kernel), "fits": [fit._asdict() for fit in fits(captures)]}
    return told


def _print(captures: list[Capture], outcomes: list[Outcome], told: dict[str, Any]) -> None:
    """Print what was seen for a reader."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if len(captures) == 1:
        for line in _told(captures[0]):
            console.print(line)
    if not outcomes:
        return
    console.print(_rates(told))
    loose = f"{told['starved']} without a certain order (R15, R16, R18)"
    foreign = f"{told['foreign']} events of others' IO left aside"
    console.print(f"{told['exact']} of {told['count']} IOs exact; {loose}; {foreign}")
    for each in islice((each for each in outcomes if not each.exact), 1):
        console.print(f"the first that differs: {each.api} of {each.size} B, {each.buffer} buffer, {each.limits}")
        for line in each.lines:
            console.print(f"  {line}")
    for line in _unproven(told):
        console.print(line)


def _told(capture: Capture) -> Iterator[str]:
    """Yield one capture as lines: what came of it, and the events as they came."""
    result = ", ".join(map(str, capture.result or []))
    pins = capture.pins or {}
    yield f"{capture.id} on {capture.device.name}, Linux {capture.kernel}: {result} in {capture.duration_ns} ns"
    yield f"  pages pinned {pins.get('acquired', '?')}, unpinned {pins.get('released', '?')}"
    for event in (capture.events or [])[:_TOLD]:
        told = " ".join(f"{name}={event[name]}" for name in _FIGURES if name in event)
        yield f"  {event['t_ns']:>9} ns  {event['by']:9}  {event['event'].rpartition(':')[2]} {told}"
    if len(capture.events or []) > _TOLD:
        yield f"  … {len(capture.events or []) - _TOLD} more events"


def _rates(told: dict[str, Any]) -> Table:
    table = Table(title=f"Predicted and seen, Linux {told['kernel']}")
    for heading in ("part", "exact", "of", ""):
        table.add_column(heading)
    for name, (exact, of) in told["rates"].items():
        table.add_row(name, str(exact), str(of), f"{100 * exact / of:.1f} %" if of else "–")
    return table


def _unproven(told: dict[str, Any]) -> Iterator[str]:
    """Yield what nobody measured on this kernel, and what this run measured."""
    if told.get("unproven"):
        yield f"Linux {told['kernel']} is none of the kernels that the rules were proven on; they differ in:"
        for name, values in told["unproven"].items():
            yield f"  {name}: " + ", ".join(f"{kernel} {value}" for kernel, value in values.items())
    for fit in told.get("fits", ()):
        yield f"  by the rules of {fit['kernel']}: {fit['exact']} of {fit['ios']} exact"
