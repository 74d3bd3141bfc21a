"""The command line: options become a scenario, and a command does the work."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ByteSize

from labkit.cli.doctor import doctor as show_doctor
from labkit.cli.refusal import EXIT_BAD_INPUT, refuse, say
from labkit.errors import LabkitError
from labkit.scenario import Scenario
from labkit.units import human_bytes

app = typer.Typer(
    name="labkit",
    help="Watch one direct IO travel from a user buffer to the device and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _knob(name: str, text: str) -> Any:
    """Return the option for field `name` of a scenario; the default that the help shows is the scenario's own."""
    default = Scenario.model_fields[name].default
    shown = human_bytes(default).replace(" ", "") if isinstance(default, ByteSize) else str(default)
    return typer.Option(help=text, show_default=shown if default is not None else False)


System = Annotated[str | None, _knob("system", "Currency: phyr (proposed) or page (Linux 6.18).")]
Device = Annotated[str | None, _knob("device", "nvme (simulated) or loop (a real loop device, as root).")]
Op = Annotated[str | None, _knob("op", "read or write.")]
Size = Annotated[str | None, _knob("size", "Bytes of the IO, such as 4096 or 1MiB.")]
Offset = Annotated[str | None, _knob("offset", "Where on the device, in bytes.")]
Folio = Annotated[
    str | None,
    _knob("folio", "Folios of the buffer, 4KiB to 2MiB, or its kind: hugetlb, file, memfd, gpu, foreign, ..."),
]
Fragmentation = Annotated[
    str | None, _knob("fragmentation", "0.0 (fresh boot) to 1.0 (in half of memory no two folios touch).")
]
Iommu = Annotated[str | None, _knob("iommu", "off, lazy or strict.")]
Ram = Annotated[str | None, _knob("ram", "Memory of the machine.")]
Seed = Annotated[str | None, _knob("seed", "The same seed, the same run.")]
Buffer = Annotated[str | None, _knob("buffer", "What is at the buffer's address: mapped, readonly or unmapped.")]
Skew = Annotated[str | None, _knob("skew", "Bytes into its first page at which the buffer begins.")]
Count = Annotated[str | None, _knob("count", "How many times the IO is done.")]
_PIN = "What a pin counts on: page, folio, range, lease or none; by default as the system does."
Pin = Annotated[str | None, _knob("pin", _PIN)]
Chunk = Annotated[str | None, _knob("chunk", "Ranges that phyr takes at a time, such as 16 or 512; 0 for all.")]
Hazard = Annotated[
    str | None,
    _knob("hazard", "What gets in the way: munmap, mprotect, migrate, fork, truncate, ksm, unplug, early-unpin, ..."),
]
At = Annotated[str | None, _knob("at", "Its moment: GupPin, BlockRqIssue, DeviceStart, DeviceDma or BlockRqComplete.")]
Check = Annotated[bool | None, typer.Option("--check", help="Look at every invariant after every record.")]
ScenarioFile = Annotated[Path | None, typer.Option("--scenario", help="A TOML or JSON file; options go on top of it.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def scenario_of(file: Path | None, **options: str | bool | None) -> Scenario:
    """Return the scenario in `file`, or the default one, with the options that were given on top."""
    base: dict[str, Any] = Scenario.load(file).model_dump(exclude_unset=True) if file else {}
    return Scenario.of(base | {name: value for name, value in options.items() if value is not None})


@app.command(epilog="Example: labkit run --system phyr --size 1MiB --fragmentation 0.9 --iommu strict --json")
def run(
    system: System = None, device: Device = None, op: Op = None, size: Size = None, offset: Offset = None,
    folio: Folio = None, fragmentation: Fragmentation = None, iommu: Iommu = None, ram: Ram = None, seed: Seed = None,
    buffer: Buffer = None, skew: Skew = None, count: Count = None, pin: Pin = None, chunk: Chunk = None,
    hazard: Hazard = None, at: At = None, check: Check = None, scenario: ScenarioFile = None,
    save: Annotated[Path | None, typer.Option(help="Keep the trace: FILE.json or FILE.json.gz.")] = None,
    json: Json = False,
    resident: Annotated[bool, typer.Option(help="With --json: tell what this process holds in memory.")] = False,
) -> None:  # fmt: skip
    """Do one IO on a machine of your making, and tell its story."""
    from labkit.cli.run import run_scenario  # noqa: PLC0415 - the engine is loaded when it is needed

    options = {
        "system": system, "device": device, "op": op, "size": size, "offset": offset, "folio": folio,
        "fragmentation": fragmentation, "iommu": iommu, "ram": ram, "seed": seed, "buffer": buffer, "skew": skew,
        "count": count, "pin": pin, "chunk": chunk, "hazard": hazard, "at": at, "check": check,
    }  # fmt: skip
    try:
        code = run_scenario(scenario_of(scenario, **options), save=save, json=json, memory=resident)
    except LabkitError as bad:
        code = refuse(bad, json=json)
    raise typer.Exit(code)


@app.command(epilog="Example: labkit export -o io.html --system page --size 256KiB --fragmentation 1")
def export(
    out: Annotated[Path, typer.Option("-o", "--out", help="The page to write: FILE.html.")],
    trace: Annotated[Path | None, typer.Option(help="A trace kept by run --save, instead of a new run.")] = None,
    system: System = None, device: Device = None, op: Op = None, size: Size = None, offset: Offset = None,
    folio: Folio = None, fragmentation: Fragmentation = None, iommu: Iommu = None, ram: Ram = None, seed: Seed = None,
    buffer: Buffer = None, skew: Skew = None, pin: Pin = None, chunk: Chunk = None, scenario: ScenarioFile = None,
) -> None:  # fmt: skip
    """Write the Explorer of a run as a page that works from a file, with no network."""
    from labkit.cli.run import export_page  # noqa: PLC0415 - the same

    options = {
        "system": system, "device": device, "op": op, "size": size, "offset": offset, "folio": folio,
        "fragmentation": fragmentation, "iommu": iommu, "ram": ram, "seed": seed, "buffer": buffer, "skew": skew,
        "pin": pin, "chunk": chunk,
    }  # fmt: skip
    try:
        code = export_page(out, trace, None if trace else scenario_of(scenario, **options))
    except LabkitError as bad:
        code = refuse(bad)
    raise typer.Exit(code)


@app.command(epilog="Example: labkit doctor --json")
def doctor(json: Json = False) -> None:
    """Say what this machine allows, and for each no the reason and the remedy."""
    raise typer.Exit(show_doctor(json))


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as bad:  # an unknown option, a missing value
        if str(bad):  # it is empty where no command was given, and the help has been shown
            say(f"labkit: {str(bad).rstrip('.')}; see labkit --help (-EINVAL)")
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code or 0)
