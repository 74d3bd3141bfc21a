"""The device side of a machine, built bottom-up: medium, bus, device, driver, queue limits."""

import errno
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Device
from labkit.hardware.iommu import Iommu
from labkit.hardware.loop import Loop, RealDevice
from labkit.hardware.nvme_ssd import NvmeSsd, Profile
from labkit.hardware.ram import RAM
from labkit.host.arena import arena
from labkit.kernel.block.limits import QueueLimits, nvme_limits
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaMapOps
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.loop import LoopDriver
from labkit.kernel.drivers.nvme import NvmeDriver, Queues
from labkit.kernel.drivers.ops import BlkMqOps
from labkit.kernel.version import rules_of
from labkit.scenario import Scenario
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE, SECTOR_SHIFT, DmaAddr, PhysAddr

_HERE = Path(__file__).parent.parent
DATA = next(path for path in (_HERE / "data", _HERE.parent / "data") if path.is_dir())
"""Device profiles and cost tables: inside an installed package, beside it in a checkout."""
_LOOP_BYTES = 16 << 30


class Board(NamedTuple):
    """What a device is plugged into."""

    scenario: Scenario
    clock: Clock
    cpu: Cpu
    ram: RAM
    emit: Emit
    alloc: Callable[[int], PhysAddr]
    """Memory of 2**order pages that driver and device share for good."""
    exit: ExitStack


class Built(NamedTuple):
    """A device with all that is between it and the block layer."""

    name: str
    device: Device
    limits: QueueLimits
    driver: BlkMqOps
    dma: DmaMapOps
    nvme: NvmeDriver | None = None
    real: RealDevice | None = None


def build_nvme(board: Board) -> Built:
    """Build a simulated NVMe drive, behind an IOMMU unless the scenario's is off."""
    profile, mode = Profile.load(DATA / "nvme.toml"), board.scenario.iommu
    iommu, clock = Iommu(board.ram), board.clock

    def flushed(syncs: int) -> None:
        board.emit(("IotlbFlush", clock.now, 0, syncs))

    dma = DirectMap() if mode == "off" else IommuMap(iommu, clock.later, flushed, strict=mode == "strict")
    bus = board.ram if mode == "off" else iommu
    ssd = NvmeSsd(clock, bus, arena(profile.nbytes), profile, board.emit)

    def shared(order: int) -> tuple[PhysAddr, DmaAddr]:
        phys = board.alloc(order)
        return phys, dma.alloc_coherent(phys, PAGE_SIZE << order)

    (sq, sq_dma), (cq, cq_dma), pool = shared(4), shared(2), shared(10)
    ssd.create_queues(sq_dma, cq_dma)
    queues = Queues(sq, sq_dma, cq, cq_dma, profile.queue_depth)
    lists = DmaPool(*pool, PAGE_SIZE << 10)
    driver = NvmeDriver(clock, board.cpu, board.ram, dma, ssd, queues, lists, board.emit)
    rules, _ = rules_of(board.scenario.kernel)
    limits = nvme_limits(profile.mdts_bytes, iommu=mode != "off", depth=profile.queue_depth, rules=rules)
    return Built("nvme0n1", ssd, limits, driver, dma, nvme=driver)


def build_loop(board: Board) -> Built:
    """Attach a real loop device. Raises NotAllowed where this machine has none to give."""
    from labkit.host.loopdev import LoopDevice  # noqa: PLC0415 - the rest runs where there is no fcntl

    real = board.exit.enter_context(LoopDevice.attach(_LOOP_BYTES))
    device = Loop(board.clock, board.ram, real)
    driver = LoopDriver(board.clock, board.cpu, device, board.emit)
    name, limits = real.path.removeprefix("/dev/"), QueueLimits.from_sysfs(real.limits)
    return Built(name, device, limits, driver, DirectMap(), real=real)


BUILD: dict[str, Callable[[Board], Built]] = {"nvme": build_nvme, "loop": build_loop}


_SECTORS = {"max_sectors", "max_hw_sectors", "max_user_sectors"}
_ATOMIC = {"atomic_write_unit_min", "atomic_write_unit_max", "atomic_write_boundary"}


def overridden(limits: QueueLimits, values: dict[str, int]) -> QueueLimits:
    """Return `limits` with other `values`, by name, or max_sectors_kb; 0 is the kernel's own default.

    Raises BadInput EINVAL for a name that is none, a mask that is none, and what the kernel refuses (LIM-1..LIM-4).
    """
    known = {field.name for field in fields(QueueLimits)}
    new = {name: value for name, value in values.items() if name != "max_sectors_kb"}
    if "max_sectors_kb" in values:
        new["max_sectors"] = values["max_sectors_kb"] * 2
    for name in new:
        if name not in known:
            raise BadInput("limits", f"{name!r}"[:60], f"is not one of {', '.join(sorted(known))}", errno.EINVAL)
    if not new:
        return limits
    _check_limits(limits, new)
    if "logical_block_size" in new:
        new.setdefault("physical_block_size", max(limits.physical_block_size, new["logical_block_size"]))
    return replace(limits, **new)  # type: ignore[arg-type]  # flags of a queue are given as 0 and 1


def _check_limits(limits: QueueLimits, new: dict[str, int]) -> None:
    """Raise BadInput EINVAL for a limit that no device like this one has, whose own are `limits`."""
    block = new.get("logical_block_size") or limits.logical_block_size
    for name, value in new.items():
        rule = _wrong(limits, name, value)
        if name == "chunk_sectors" and 0 < block < 1 << 32 and (value << SECTOR_SHIFT) % block:
            rule = f"is no whole number of logical blocks of {block} bytes (LIM-1)"
        if rule:
            raise BadInput("limits", f"{name}={value}", rule, errno.EINVAL)


def _wrong(limits: QueueLimits, name: str, value: int) -> str:
    """Return the rule that `value` breaks, "" for none; QueueLimits looks at what no device has."""
    if name in _SECTORS and limits.max_hw_sectors < value < 1 << 32:
        return f"is more than the {limits.max_hw_sectors} that the device takes in one command (LIM-2)"
    if name in _ATOMIC and 0 < value < 1 << 32 and value & (value - 1):
        return "is not a power of two (SPLIT-2)"
    own = limits.virt_boundary_mask if name == "virt_boundary_mask" else 0
    if value >= 0 and own & ~value:
        return f"is looser than the device's own {own}, whose lists cannot tell of gaps (NVME-2)"
    if name == "nr_requests" and value > limits.nr_requests:
        return f"is more than the {limits.nr_requests} that the queue of the device has (MQ-2)"
    if name == "max_segment_size" and 0 < value < PAGE_SIZE:  # the kernel lets a stack of devices have that
        return "is less than a page (LIM-3)"
    return ""
