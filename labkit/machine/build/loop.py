"""loop: a real loop device of this machine."""

import errno

from labkit.errors import BadInput
from labkit.hardware.loop import Loop
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.drivers.loop import LoopDriver
from labkit.machine.build.board import Board, Built

_LOOP_BYTES = 16 << 30


def build_loop(board: Board) -> Built:
    """Attach a real loop device. Raises NotAllowed where this machine has none to give, BadInput for a profile."""
    from labkit.host.loopdev import LoopDevice  # noqa: PLC0415 - the rest runs where there is no fcntl

    if board.scenario.profile:
        what = ", ".join(sorted(board.scenario.profile))[:60]
        raise BadInput("profile", what, "is no number of loop, which is a real device", errno.EINVAL)
    real = board.exit.enter_context(LoopDevice.attach(_LOOP_BYTES))
    device = Loop(board.clock, board.ram, real)
    driver = LoopDriver(board.clock, board.cpu, device, board.emit)
    name, limits = real.path.removeprefix("/dev/"), QueueLimits.from_sysfs(real.limits)
    return Built(name, device, limits, driver, real=real)
