"""What a device is plugged into, and what comes of plugging it in."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Device
from labkit.hardware.loop import RealDevice
from labkit.hardware.media.ops import Medium
from labkit.hardware.pcie import Pcie
from labkit.hardware.ram import RAM
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.dma.ops import DmaMapOps
from labkit.kernel.drivers.ops import BlkMqOps
from labkit.kernel.version import Rules
from labkit.scenario import Scenario
from labkit.trace.tracer import Emit
from labkit.units import PhysAddr

_HERE = Path(__file__).parent.parent.parent
DATA = next(path for path in (_HERE / "data", _HERE.parent / "data") if path.is_dir())
"""Device profiles and cost tables: inside an installed package, beside it in a checkout."""


class Board(NamedTuple):
    """What a device is plugged into."""

    scenario: Scenario
    rules: Rules
    clock: Clock
    cpu: Cpu
    ram: RAM
    pcie: Pcie
    emit: Emit
    alloc: Callable[..., PhysAddr]
    """alloc(order, below=0): memory of 2**order pages that driver and device share for good, where that reaches."""
    exit: ExitStack


class Built(NamedTuple):
    """A device with all that is between it and the block layer."""

    name: str
    device: Device
    limits: QueueLimits
    driver: BlkMqOps
    dma: DmaMapOps | None = None
    """None where nothing is mapped: loop, pmem, null."""
    medium: Medium | None = None
    real: RealDevice | None = None


class Builder(Protocol):
    """One kind of device."""

    def __call__(self, board: Board) -> Built:
        """Build it. Raises BadInput for a profile that makes no sense, NotAllowed where this machine has none."""
