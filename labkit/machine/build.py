"""The device side of a machine, built bottom-up: medium, bus, device, driver, queue limits."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

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
from labkit.scenario import Scenario
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE, DmaAddr, PhysAddr

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
    limits = nvme_limits(profile.mdts_bytes, iommu=mode != "off", depth=profile.queue_depth)
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
