"""The command line: options become a scenario, and a command does the work."""

import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.doctor import doctor as show_doctor
from labkit.cli.knobs import ONE_IO, with_knobs
from labkit.cli.refusal import EXIT_BAD_INPUT, refuse, say
from labkit.errors import LabkitError, errno_name
from labkit.scenario import Scenario

app = typer.Typer(
    name="labkit",
    help="Watch one direct IO travel from a user buffer to the device and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
Wanted = Callable[[], Scenario]
"""Makes the scenario that the options describe; raises BadInput for one that cannot be."""
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command(epilog="Example: labkit run --system phyr --size 1MiB --fragmentation 0.9 --iommu strict --json")
@with_knobs()
def run(
    wanted: Wanted,
    *,
    save: Annotated[Path | None, typer.Option(help="Keep the trace: FILE.json or FILE.json.gz.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="The IO of this capture, on its memory and limits, beside what was seen.")
    ] = None,
    json: Json = False,
    resident: Annotated[
        bool, typer.Option("--resident", help="With --json: what this process holds in memory.")
    ] = False,
) -> None:
    """Do one IO on a machine of your making, and tell its story."""
    from labkit.cli.like import run_like  # noqa: PLC0415 - the engine is loaded when it is needed
    from labkit.cli.run import run_scenario  # noqa: PLC0415 - the same

    def work() -> int:
        if like is not None:
            return run_like(like, wanted(), save=save, json=json)
        return run_scenario(wanted(), save=save, json=json, memory=resident)

    _leave(work, json=json)


@app.command(epilog="Example: labkit compare --size 16MiB --fragmentation 0.8 --systems page,phyr")
@with_knobs("system")
def compare(
    wanted: Wanted,
    *,
    systems: Annotated[str, typer.Option(help="Currencies, the first is the measure.")] = "page,phyr,unified",
    json: Json = False,
) -> None:
    """Do the same IO in several currencies, and set what each of them cost side by side."""
    from labkit.cli.compare import compare_systems  # noqa: PLC0415 - the same

    _leave(lambda: compare_systems(wanted(), systems, json=json), json=json)


@app.command(epilog="Example: labkit predict --check data/captures/05-1m-random-4k.json")
def predict(
    captures: Annotated[list[Path], typer.Argument(help="Captured IO: FILE.json, FILE.json.gz, or a directory.")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with what was recorded; exit 1 if it differs.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, keyed by capture.")] = False,
) -> None:
    """Predict what a kernel makes of captured IO, by the rules that the simulated machine obeys."""
    from labkit.cli.predict import predict_captures  # noqa: PLC0415 - the same

    _leave(lambda: predict_captures(captures, json=json, check=check), json=json)


@app.command(epilog="Example: labkit capture --size 1MiB --buffer 4KiB-shuffled --check -o one.json")
def capture(
    *,
    op: Annotated[str, typer.Option(help="read or write.")] = "read",
    size: Annotated[str, typer.Option(help="Bytes, such as 1MiB.")] = "64KiB",
    offset: Annotated[str, typer.Option(help="Byte of the device, or of the file.")] = "0",
    buffer: Annotated[str, typer.Option(help="What the memory is made of; every kind in turns where --count.")] = "",
    api: Annotated[str, typer.Option(help="pread, preadv, io_uring or io_uring-fixed.")] = "",
    fs: Annotated[str, typer.Option(help="raw, ext4 or xfs: the device itself, or a file on it.")] = "raw",
    count: Annotated[int, typer.Option(help="How many random IOs, instead of the one that is described.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the random IOs, and of the file's extents.")] = 1,
    sector_size: Annotated[int, typer.Option(help="Logical block; 512 and 4096 in turns where --count.")] = 0,
    max_sectors_kb: Annotated[int, typer.Option(help="Limit of one request; 0 for the device's own.")] = 0,
    nomerges: Annotated[int, typer.Option(help="0, 1 or 2, as in sysfs.")] = 0,
    bios: Annotated[bool, typer.Option("--bios", help="See the vectors of each bio, by BPF.")] = False,
    tmpfs: Annotated[bool, typer.Option("--tmpfs", help="Back the device by memory.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Predict, compare; exit 1 if it differs.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="FILE.json or FILE.json.gz; a directory where --count.")
    ] = None,
    json: Json = False,
) -> None:
    """Do real IO on a loop device of labkit's own, and write down what this kernel makes of it (needs root)."""
    from labkit.cli.capture import Wish, capture_io  # noqa: PLC0415 - the same

    wish = Wish(op, size, offset, buffer, api, fs, count, seed, sector_size, max_sectors_kb, nomerges, bios, tmpfs)
    _leave(lambda: capture_io(wish, out=out, check=check, json=json), json=json)


@app.command(epilog="Example: labkit demo registered-pins fork-copies")
def demo(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of them where none is named.")] = None,
    *,
    listed: Annotated[bool, typer.Option("--list", help="Only say what there is, and how safe it is.")] = False,
    json: Json = False,
) -> None:
    """Show what the real kernel does: asked now, or from a recording where it may not be asked."""
    from labkit.cli.demo import show_demos  # noqa: PLC0415 - the same

    _leave(lambda: show_demos(names or [], json=json, listed=listed), json=json)


@app.command(epilog="Example: labkit export -o io.html --system page --size 256KiB --fragmentation 1")
@with_knobs("count", "hazard", "at", "check", "faults")
def export(
    wanted: Wanted,
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="FILE.html, .json (Perfetto), .blkparse, .csv, .parquet, .png or .svg."),
    ],
    trace: Annotated[
        Path | None, typer.Option(help="A trace kept by run --save, or a capture, instead of a new run.")
    ] = None,
    at: Annotated[int | None, typer.Option(help="The cursor, ns; a figure is else of when most is in flight.")] = None,
) -> None:
    """Write a run as a page that works from a file, as a timeline, as text, as a table or as a figure."""
    from labkit.cli.export import export as write_export  # noqa: PLC0415 - the same

    _leave(lambda: write_export(out, trace, None if trace else wanted(), at))


@app.command(epilog="Example: labkit link --size 64KiB --system page --t 90000")
@with_knobs()
def link(
    wanted: Wanted,
    *,
    t: Annotated[int | None, typer.Option("--t", help="The cursor, ns.")] = None,
    select: Annotated[list[int] | None, typer.Option(help="A phyr that is selected; may be repeated.")] = None,
) -> None:
    """Print a scenario as one line of text, for others to open."""
    from labkit.cli.link import print_link  # noqa: PLC0415 - the same

    _leave(lambda: print_link(wanted(), t, select or []))


@app.command("open", epilog="Example: labkit open labkit:1:eNqrrgUAAXUA-Q -o run.html")
def open_(
    text: Annotated[str, typer.Argument(metavar="LINK", help="A line that labkit link, or a notebook, printed.")],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write it at its cursor, as export does, and tell nothing.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the scenario of a link, and tell its story."""
    from labkit.cli.link import open_link  # noqa: PLC0415 - the same

    _leave(lambda: open_link(text, out, json=json), json=json)


@app.command(epilog="Example: labkit load --device nvme --jobs 4 --depth 8 --read 0.7 --json")
@with_knobs(*ONE_IO)
def load(
    wanted: Wanted,
    *,
    jobs: Annotated[int, typer.Option(help="Tasks.")] = 1,
    depth: Annotated[int, typer.Option(help="IOs that each task keeps on their way, in a closed loop.")] = 1,
    count: Annotated[int, typer.Option(help="IOs of all tasks together.")] = 1000,
    read: Annotated[float, typer.Option(help="Share of reads, 0 to 1; the rest are writes.")] = 1.0,
    size: Annotated[str, typer.Option(help="Bytes of each, or several sizes with commas between.")] = "4KiB",
    span: Annotated[str, typer.Option(help="Bytes of the device that they go to, from its start; 0 for all.")] = "0",
    random: Annotated[bool, typer.Option("--random/--sequential", help="Where they go.")] = True,
    arrivals: Annotated[str, typer.Option(help="closed, poisson, uniform or bursty.")] = "closed",
    rate: Annotated[float, typer.Option(help="IOs a second, where the loop is open.")] = 0,
    burst: Annotated[int, typer.Option(help="IOs that come together, where arrivals are bursty.")] = 8,
    json: Json = False,
) -> None:
    """Do many IOs at once, and tell their rate, latencies and queue depth."""
    from labkit.cli.load import offer_load  # noqa: PLC0415 - the same
    from labkit.machine.workload import Load  # noqa: PLC0415 - the same

    def work() -> int:
        scenario = wanted()
        many = Load(jobs, depth, count, read, size, span, random, arrivals, rate, burst, scenario.seed)
        return offer_load(scenario, many, json=json)

    _leave(work, json=json)


@app.command(epilog="Example: labkit bench --device loop --rounds 4 --json")
def bench(
    *,
    device: Annotated[
        str, typer.Option(help="simulated, loop (a real one against fio, as root), kernel (as root), or all.")
    ] = "all",
    rounds: Annotated[int, typer.Option(help="How often each pair is measured in turn; the median counts.")] = 5,
    seconds: Annotated[int, typer.Option(help="How long each run on the loop device takes.")] = 2,
    json: Json = False,
) -> None:
    """Measure how fast the lab is, each thing against a yardstick."""
    from labkit.cli.bench.command import run_bench  # noqa: PLC0415 - the same

    _leave(lambda: run_bench(device, rounds=rounds, seconds=seconds, json=json), json=json)


@app.command(epilog="Example: labkit doctor --json")
def doctor(json: Json = False) -> None:
    """Say what this machine allows, and for each no the reason and the remedy."""
    raise typer.Exit(show_doctor(json))


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as bad:  # an unknown option, a missing value
        if str(bad):  # it is empty where no command was given, and the help has been shown
            say(f"labkit: {str(bad).rstrip('.')}; see labkit --help (-EINVAL)")
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except OSError as bad:
        code = _unheard(bad)
    sys.exit(code or 0)


def _unheard(bad: OSError) -> int:
    """Return the code for output that nobody takes: a full disk, a pipe whose reader has left. Raises any other."""
    if bad.filename is not None or bad.errno not in {errno.ENOSPC, errno.EPIPE, errno.EIO}:
        raise bad
    sys.stdout = None  # so that nobody tries to flush it at the exit
    say(f"labkit: standard output cannot be written: {bad.strerror} ({errno_name(bad.errno)})")
    return EXIT_BAD_INPUT


def _leave(work: Callable[[], int], *, json: bool = False) -> None:
    """Leave with the exit code of `work`; what it refuses is said in one sentence."""
    try:
        code = work()
    except LabkitError as bad:
        code = refuse(bad, json=json)
    raise typer.Exit(code)
