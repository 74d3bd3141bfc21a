"""What a driver does about a request that takes too long (blk_mq_ops.timeout)."""

from enum import Enum

IO_TIMEOUT_NS = 30_000_000_000
"""How long a request may be with its driver: io_timeout of sysfs, 30 s by default."""


class EhReturn(Enum):
    """enum blk_eh_timer_return: the driver is done with the request, or it wants to be asked again later."""

    BLK_EH_DONE = "done"
    BLK_EH_RESET_TIMER = "reset timer"
