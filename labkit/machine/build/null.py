"""null_blk, and the delay device: the same, with time. How a scenario maps memory does not matter here."""

from labkit.hardware.media.delay import Delay
from labkit.hardware.media.null import Null
from labkit.hardware.null_blk import NullBlk
from labkit.kernel.block.driver_limits import null_limits
from labkit.kernel.drivers.null_blk import NullBlkDriver
from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.medium import medium_of

_DELAY_SECTORS = 8192
"""Ours: 4 MiB in one request."""


def build_null(board: Board) -> Built:
    """Build null_blk, memory_backed."""
    medium = medium_of(board, DATA / "null.toml", Null)
    device = NullBlk(board.clock, board.ram, medium, board.emit)
    driver = NullBlkDriver(board.clock, board.cpu, device, board.emit, irqmode=medium.profile.irqmode)
    return Built("nullb0", device, null_limits(), driver, medium=medium)


def build_delay(board: Board) -> Built:
    """Build a device of four numbers."""
    medium = medium_of(board, DATA / "delay.toml", Delay)
    device = NullBlk(board.clock, board.ram, medium, board.emit)
    driver = NullBlkDriver(board.clock, board.cpu, device, board.emit)
    return Built("delay0", device, null_limits(_DELAY_SECTORS), driver, medium=medium)
