"""The schedulers of a queue, by the names that /sys/block/*/queue/scheduler has for them (MQ-5)."""

from collections.abc import Callable

from labkit.kernel.block.elevator import Elevator
from labkit.kernel.block.sched.bfq import Bfq
from labkit.kernel.block.sched.kyber import Kyber
from labkit.kernel.block.sched.mq_deadline import MqDeadline

SCHEDULERS: dict[str, Callable[[], Elevator | None]] = {
    "none": lambda: None,
    "mq-deadline": MqDeadline,
    "bfq": Bfq,
    "kyber": Kyber,
}
"""What makes each of them; none is none: requests go to the driver as they come."""
