"""The block devices of the machine that the lab itself runs on: their limits, as the model understands them."""

from labkit.errors import BadInput
from labkit.host.queue_sysfs import queues
from labkit.kernel.block.limits import QueueLimits


def own_queues() -> dict[str, QueueLimits]:
    """Return the limits of each block device of this machine that the model can be given, by its name; {} for none."""
    found = {}
    for name, values in queues().items():
        try:
            found[name] = QueueLimits.from_sysfs(values)
        except BadInput:  # an older kernel does not tell all that is needed
            continue
    return found
