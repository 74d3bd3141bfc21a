"""pmem: persistent memory beside RAM. How a scenario maps memory for devices does not matter here."""

from labkit.hardware.media.pmem import Pmem
from labkit.hardware.pmem import PmemDevice
from labkit.kernel.block.driver_limits import pmem_limits
from labkit.kernel.drivers.pmem import PmemDriver
from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.medium import medium_of


def build_pmem(board: Board) -> Built:
    """Build a namespace of persistent memory."""
    medium = medium_of(board, DATA / "pmem.toml", Pmem)
    device = PmemDevice(board.clock, board.ram, medium, board.emit)
    driver = PmemDriver(board.clock, board.cpu, device, board.emit)
    return Built("pmem0", device, pmem_limits(), driver, medium=medium)
