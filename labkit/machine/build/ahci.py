"""SATA behind AHCI: a flash drive, or a disk that turns."""

from pathlib import Path

from labkit.hardware.ahci import Ahci, AhciProfile
from labkit.hardware.media.disk import Disk
from labkit.hardware.media.flash import Flash
from labkit.hardware.media.ops import Medium
from labkit.kernel.block.driver_limits import ahci_limits
from labkit.kernel.dma.ops import DmaDevice
from labkit.kernel.drivers.ahci.driver import PORT_BYTES, AhciDriver, Port
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.dma import attach
from labkit.machine.build.medium import medium_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_ORDER = (PORT_BYTES - 1).bit_length() - PAGE_SHIFT


def build_ahci(board: Board) -> Built:
    """Build a SATA flash drive."""
    path = DATA / "ahci.toml"
    return _build(board, path, medium_of(board, path, Flash))


def build_disk(board: Board) -> Built:
    """Build a rotating disk."""
    path = DATA / "disk.toml"
    return _build(board, path, medium_of(board, path, Disk))


def _build(board: Board, path: Path, medium: Medium) -> Built:
    profile = AhciProfile.load(path, board.scenario.profile)
    attached = attach(board, DmaDevice(mask=(1 << board.scenario.device_mask) - 1))
    ops, phys = attached.ops, board.alloc(_ORDER)
    port = Port(phys, ops.alloc_coherent(phys, PAGE_SIZE << _ORDER))
    hba = Ahci(board.clock, attached.bus, medium, profile, board.emit)
    hba.set_port(port.dma, port.dma + port.received)
    maps = RequestMaps(board.clock, board.cpu, ops, board.emit, attached.peers, rules=board.rules)
    driver = AhciDriver(board.clock, board.cpu, board.ram, maps, hba, port, board.emit)
    limits = ahci_limits(
        depth=profile.queue_depth, max_mapping_size=ops.max_mapping_size, write_cache=medium.volatile,
        rules=board.rules,
    )  # fmt: skip
    return Built("sda", hba, limits, driver, ops, medium)
