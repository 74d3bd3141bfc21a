"""The machine of a capture, simulated: user pages in the very frames, the same folios, limits, extents and calls."""

import errno
from dataclasses import replace
from typing import Any, NamedTuple

from labkit.errors import BadInput, errno_name
from labkit.machine import Machine
from labkit.machine.placed import Placed
from labkit.scenario import Scenario
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SIZE
from labkit.witness.again import Again
from labkit.witness.capture import Capture
from labkit.witness.place import placed_of

KNOBS = frozenset({
    "system", "device", "sched", "kernel", "dma", "iommu", "device_mask", "route", "acs", "sgl_threshold", "profile",
    "limits", "pin", "chunk", "seed", "check", "faults",
})  # fmt: skip
"""What may be otherwise than it was; the IO, its memory and its file are the capture's."""
_DMA = {"none": "direct", "strict": "iommu", "lazy": "iommu", "swiotlb": "swiotlb"}
_LEAST_RAM = 4 << 30


class Like(NamedTuple):
    """What came of it. `results`: bytes, or the names of errnos; `error`: the sentence behind the first of those.

    `report` is that of Machine.run: its `violations` are what the checker found, where it looked (check=True).
    """

    machine: Machine
    trace: Trace
    results: list[int | str]
    verified: bool
    error: str | None
    report: dict[str, Any]


def like(capture: Capture, **knobs: Any) -> Like:
    """Do the IO of `capture` in a machine like that in which it was captured; `knobs` (KNOBS) may be otherwise.

    Without `device` it is one of no DMA API (delay), with the driver of a loop device before it where the capture is of
    one, or NVMe for a capture of that, with the limits of the capture; another `device` has limits of its own.

    Raises BadInput for a capture that cannot be placed, and for a knob that is not to be turned; ScenarioError as
    Scenario.of; what the machine meets beside the IO.
    """
    if wrong := sorted(set(knobs) - KNOBS):
        raise BadInput("like", ", ".join(wrong), "is the capture's to say", errno.EINVAL)
    placed = placed_of(capture)
    scenario = scenario_of(capture, placed, knobs)
    if "device" not in knobs and scenario.device == _device(capture):
        placed.limits = capture.queue_limits
        if capture.device.backing_dio is not None:
            placed.loop, placed.aligned = capture.device.name or "loop0", _aligned(capture)
    again = Again(capture, placed)
    with Machine(scenario, placed=placed) as machine:
        report = machine.run(again)
    if machine.error is not None:
        raise machine.error
    meta = {**machine.trace.meta, "like": {"capture": capture.id, "kernel": capture.kernel, "date": capture.date}}
    results = [res if res >= 0 else errno_name(-res) for res in again.results]
    told = str(again.error) if again.error else None
    return Like(machine, replace(machine.trace, meta=meta), results, report["verified"], told, report)


def scenario_of(capture: Capture, placed: Placed, knobs: dict[str, Any]) -> Scenario:
    """Return the scenario that comes nearest to `capture`, with `knobs` on top. Raises BadInput, ScenarioError."""
    io, (rules, _), fixed = capture.io[0], capture.rules, any(io.buf_index is not None for io in capture.io)
    if knobs.get("device") == "loop":
        rule = "is a real device, and this one is to be simulated"
        raise BadInput("like", "device=loop", rule, errno.EINVAL)
    ring = "io_uring-fixed" if fixed else "io_uring"
    told: dict[str, Any] = {
        "system": "page", "kernel": rules.name, "device": _device(capture), "op": "read" if io.op == "r" else "write",
        "size": max(1, sum(n for _, n in io.iov)), "offset": max(0, io.pos), "sched": capture.scheduler,
        "fs": "raw" if capture.device.path == "blkdev" else capture.device.fs or "ext4", "pieces": max(1, len(io.iov)),
        "api": ring if io.uring else "pread" if len(io.iov) == 1 else "preadv",
        "ram": max(_LEAST_RAM, 1 << (placed.phys_end - 1).bit_length()),
    }  # fmt: skip
    if capture.of_nvme:
        told["sgl_threshold"] = capture.sgl_threshold
    if capture.of_nvme and not knobs.keys() & {"dma", "iommu"}:  # each says something of the other
        told |= {"dma": _DMA[capture.mode], "iommu": capture.behind_iommu or "off"}
    if knobs.get("system") == "premapped" and "device" not in knobs:
        told["device"] = "nvme"  # the only one that takes device addresses
    mdts = {"mdts": (capture.config or {}).get("mdts", 0)} if capture.of_nvme and "device" not in knobs else {}
    profile = {"nbytes": capture.device.size_bytes} | mdts | dict(knobs.get("profile") or {})
    return Scenario.of({**told, **knobs, "profile": profile})


def _aligned(capture: Capture) -> int:
    """Return the mask that the file below a loop device wants memory to be aligned to; 0 where it has a page cache."""
    return SECTOR_SIZE - 1 if capture.device.backing_dio else 0


def _device(capture: Capture) -> str:
    """Return the device that is of the kind of the captured one."""
    return "nvme" if capture.of_nvme else "delay"
