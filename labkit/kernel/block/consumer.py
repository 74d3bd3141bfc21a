"""What takes bios: a queue, a partition, a device made of devices. Those above do not care which."""

from typing import Protocol

from labkit.hardware.clock import Steps
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug


class BioConsumer(Protocol):
    """A block device as those above it see it (struct block_device)."""

    limits: QueueLimits
    needs_cpu_access: bool = False
    """Whether the CPU reads or writes the data on its way, so that it must be mapped (D-14)."""

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Take `bio`; whatever happens, it ends, and its error is in it."""

    def flush(self, plug: Plug, *, from_schedule: bool = False) -> Steps:
        """Send on what `plug` holds; the queues in it are those at the bottom, wherever its bios came in."""
        yield from plug.flush(from_schedule=from_schedule)
