"""The knobs of a scenario as options, told once for every command that runs one."""

import errno
import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ByteSize

from labkit.errors import BadInput
from labkit.scenario import Scenario
from labkit.units import human_bytes

_PANELS: dict[str, dict[str, str]] = {
    "Machine": {
        "system": "Currency: phyr, unified, premapped (all proposed) or page (upstream).",
        "kernel": "Whose rules hold: 6.1, 6.12, 6.18 or 7.3.",
        "ram": "Its memory.",
        "fragmentation": "0.0 (fresh boot) to 1.0 (in half of memory no two folios touch).",
        "seed": "The same seed, the same run.",
    },
    "Device": {
        "device": "nvme, optane, virtio, ahci, disk, pmem, null, delay (simulated), or loop (a real one, as root).",
        "dma": "How memory gets device addresses: direct, iommu, swiotlb or xen; by default as --iommu says.",
        "iommu": "off, lazy or strict.",
        "device_mask": "Bits of an address that the device can put on the bus.",
        "route": "To memory of another device: switch, bridge or none.",
        "sgl_threshold": "Average segment from which NVMe uses SGLs, in bytes; 0 for never.",
        "sched": "Scheduler of the queue: none, mq-deadline, bfq or kyber.",
        "stack": "What stands on the disk: none, partition, stripe or crypt.",
    },
    "File": {
        "fs": "raw (the device itself), or a file of ext4 or xfs on it.",
        "extents": "What the file is there: mapped, hole, unwritten, mixed, shared or inline.",
        "scatter": "0.0 (the file lies in one piece) to 1.0 (each block for itself).",
        "completion": "How the end of buffered IO finds folios: phys_to_folio (proposed) or folio_walk (upstream).",
    },
    "IO": {
        "op": "read or write.",
        "size": "Bytes of the IO, such as 4096 or 1MiB.",
        "offset": "Where on the device, or in the file, in bytes.",
        "count": "How many times it is done.",
        "api": "How the task asks: pread, preadv, io_uring, io_uring-fixed or aio.",
        "pieces": "In how many pieces the buffer is given to preadv and pwritev.",
        "flags": "RWF_* of each call, such as RWF_NOWAIT|RWF_DSYNC.",
    },
    "Buffer": {
        "folio": "Its folios, 4KiB to 2MiB, or its kind: hugetlb, file, memfd, gpu, foreign, ...",
        "buffer": "What is at its address: mapped, readonly or unmapped.",
        "skew": "Bytes into its first page at which it begins.",
        "pin": "What a pin counts on: page, folio, range, lease or none; by default as the system does.",
        "chunk": "Ranges that phyr takes at a time, such as 16 or 512; 0 for all.",
    },
    "Hazard": {
        "hazard": "What gets in the way: munmap, mprotect, migrate, fork, truncate, ksm, unplug, early-unpin, ...",
        "at": "Its moment: GupPin, BlockRqIssue, DeviceStart, DeviceDma or BlockRqComplete.",
    },
}
"""Every field that is an option with a value, in the order of the help, and under which heading."""
_TEXTS = {name: text for panel in _PANELS.values() for name, text in panel.items()}
_SWITCHES = {
    "acs": ("--acs", "Bridges of the switch redirect requests to the root (ACS).", "Device"),
    "direct": ("--direct/--buffered", "With O_DIRECT, or through the page cache.", "File"),
    "check": ("--check", "Look at every invariant after every record.", "Hazard"),
}
ONE_IO = (*_PANELS["IO"], *_PANELS["File"], *_PANELS["Hazard"], "buffer", "skew", "direct", "check")
"""Fields that are for a single IO, or for what it is done on: a load has offsets, sizes and files of its own."""
Command = Callable[..., None]


def with_knobs(*without: str) -> Callable[[Command], Command]:
    """Give a command, which takes a Scenario first, the options that make one; `without`: fields that it has not."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def taking(**options: Any) -> None:
            chosen = {name: options.pop(name, None) for name in (*_TEXTS, *_SWITCHES) if name not in without}
            named = {field: options.pop(option, None) for option, field in _NAMED.items()}
            chosen["faults"], file = options.pop("fault", None) or None, options.pop("scenario", None)
            command(lambda: scenario_of(file, named, chosen), **options)

        own = list(inspect.signature(command).parameters.values())[1:]
        knobs = [_parameter(name, _option(name)) for name in _TEXTS if name not in without]
        knobs += [_parameter(name, _switch(name)) for name in _SWITCHES if name not in without]
        knobs += [_parameter("limit", _LIMIT), _parameter("profile", _PROFILE), _parameter("scenario", _FILE)]
        knobs += [_parameter("fault", _FAULT)] if "faults" not in without else []
        taking.__signature__ = inspect.Signature([*own, *knobs])  # type: ignore[attr-defined]
        taking.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *knobs)}
        return taking

    return decorate


def scenario_of(file: Path | None, named: dict[str, list[str] | None], options: dict[str, Any]) -> Scenario:
    """Return the scenario in `file`, or the default one, with what was given on top. Raises BadInput.

    `named`: NAME=VALUE texts, by the field that they change.
    """
    base: dict[str, Any] = Scenario.load(file).model_dump(exclude_unset=True) if file else {}
    given = {name: value for name, value in options.items() if value is not None}
    for field, texts in named.items():
        if texts:
            given[field] = dict(base.get(field, {})) | dict(_number(field, text) for text in texts)
    for asked, other in (("dma", "iommu"), ("iommu", "dma")):
        if asked in given and other not in given and not _go_together(base | given):
            base.pop(other, None)
    return Scenario.of(base | given)


def _go_together(values: dict[str, Any]) -> bool:
    """Return whether `dma` and `iommu`, one of them a file's and the other an option, may stand in one scenario."""
    dma, iommu = values.get("dma"), values.get("iommu")
    return dma is None or iommu is None or (dma == "iommu") == (iommu != "off")


def _number(field: str, text: str) -> tuple[str, int | float]:
    """Return the name and the number of NAME=VALUE. Raises BadInput, in the name of `field`."""
    name, equals, value = text.partition("=")
    try:
        return name.strip(), int(value, 0)
    except ValueError:
        pass
    try:
        if field == "profile":
            return name.strip(), float(value)
    except ValueError:
        pass
    rule = f"{'is not a name and a number, such as' if equals else 'has no value, such as in'} {_EXAMPLES[field]}"
    raise BadInput(field, repr(text[:60]), rule, errno.EINVAL)


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(name: str) -> Any:
    """Return the option for field `name`; the default that the help shows is the scenario's own."""
    default = Scenario.model_fields[name].default
    shown = human_bytes(default).replace(" ", "") if isinstance(default, ByteSize) else str(default)
    panel = next(panel for panel, texts in _PANELS.items() if name in texts)
    shown_as = shown if default else False
    return Annotated[str | None, typer.Option(help=_TEXTS[name], show_default=shown_as, rich_help_panel=panel)]


def _switch(name: str) -> Any:
    flag, text, panel = _SWITCHES[name]
    return Annotated[bool | None, typer.Option(flag, help=text, show_default=False, rich_help_panel=panel)]


_EXAMPLES = {"limits": "max_segments=4", "profile": "read_ns=20000"}
_LIMIT_TEXT = f"A limit of the queue, such as {_EXAMPLES['limits']}; may be repeated."
_LIMIT = Annotated[list[str] | None, typer.Option("--limit", help=_LIMIT_TEXT, rich_help_panel="Device")]
_PROFILE_TEXT = f"A number of the device other than its profile's, such as {_EXAMPLES['profile']}; may be repeated."
_PROFILE = Annotated[list[str] | None, typer.Option("--profile", help=_PROFILE_TEXT, rich_help_panel="Device")]
_FAULT_TEXT = "What breaks, and when: KIND@EVENT, such as media-error@DeviceStart; may be repeated."
_FAULT = Annotated[list[str] | None, typer.Option("--fault", help=_FAULT_TEXT, rich_help_panel="Hazard")]
_NAMED = {"limit": "limits", "profile": "profile"}
"""Options that take NAME=VALUE, and the field of each."""
_FILE = Annotated[Path | None, typer.Option("--scenario", help="A TOML or JSON file; options go on top of it.")]
