"""loop: a real loop device of this machine, or the driver of one before another medium."""

import errno
from typing import cast

from labkit.errors import BadInput
from labkit.hardware.loop import Loop
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.drivers.loop import FileLoopDriver, LoopDriver
from labkit.kernel.drivers.started import Resettable
from labkit.machine.build.board import Board, Built

_LOOP_BYTES = 16 << 30


def build_loop(board: Board) -> Built:
    """Attach a real loop device. Raises NotAllowed where this machine has none to give, BadInput for a profile."""
    from labkit.host.disk.loopdev import LoopDevice  # noqa: PLC0415 - the rest runs where there is no fcntl

    if board.scenario.profile:
        what = ", ".join(sorted(board.scenario.profile))[:60]
        raise BadInput("profile", what, "is no number of loop, which is a real device", errno.EINVAL)
    real = board.exit.enter_context(LoopDevice.attach(_LOOP_BYTES))
    device = Loop(board.clock, board.ram, real)
    driver = LoopDriver(board.clock, board.cpu, device, board.emit)
    name, limits = real.path.removeprefix("/dev/"), QueueLimits.from_sysfs(real.limits)
    return Built(name, device, limits, driver, real=real)


def as_loop(board: Board, built: Built, name: str, aligned: int) -> Built:
    """Return `built`, a null_blk or a delay device, as loop device `name` over a file on it.

    `aligned`: the mask of what the file wants memory to be aligned to, 0 for one that is not opened with O_DIRECT.
    """
    driver = FileLoopDriver(board.clock, board.cpu, cast("Resettable", built.device), board.emit)
    driver.aligned = aligned
    return built._replace(name=name, driver=driver)
