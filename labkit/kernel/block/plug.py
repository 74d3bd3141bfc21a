"""Requests that a task keeps back until it has sent all: struct blk_plug (MQ-1, R14)."""

from collections.abc import Sequence
from typing import Protocol

from labkit.hardware.clock import Steps
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.drivers.ops import Request
from labkit.kernel.version import Rules

BLK_MAX_REQUEST_COUNT = 32
"""Requests that a plug keeps back; twice as many where they are for several queues."""
BLK_PLUG_FLUSH_SIZE = 128 << 10
"""A request of so many bytes is worth sending at once."""


class Queue(Protocol):
    """What a plug knows of the queue of a request."""

    limits: QueueLimits
    rules: Rules

    def unplug(self, rqs: Sequence[Request], held: int, *, from_schedule: bool) -> Steps:
        """Take `rqs` back, which were among the `held` requests of a plug."""

    def insert(self, rqs: Sequence[Request]) -> None:
        """Take `rqs` back, and let others see to them."""


class Plug:
    """What one task keeps back, in the order that it came in, each with its queue."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        """Begin empty."""
        self.held: list[tuple[Queue, Request]] = []

    def must_flush(self, queue: Queue) -> bool:
        """Return whether all goes before one more request for `queue` comes in."""
        if not self.held:
            return False
        several = any(other is not queue for other, _ in self.held)
        if len(self.held) >= BLK_MAX_REQUEST_COUNT * (2 if several else 1):
            return True
        return queue.limits.nomerges < 2 and decides(self, queue.rules).nbytes >= BLK_PLUG_FLUSH_SIZE  # noqa: PLR2004

    def candidate(self, queue: Queue) -> Request | None:
        """Return the request that a bio for `queue` may join: the last one, or the first of its queue (MERGE-5)."""
        if not self.held:
            return None
        if self.held[-1][0] is queue:
            return self.held[-1][1]
        held = reversed(self.held) if queue.rules.plug_lifo else iter(self.held)
        return next((rq for other, rq in held if other is queue), None)

    def take(self) -> list[tuple[Queue, list[Request]]]:
        """Return all that is held, queue by queue, and hold nothing."""
        held, self.held = self.held, []
        if held and held[0][0].rules.plug_lifo:
            held.reverse()
        by_queue: dict[Queue, list[Request]] = {}
        for queue, rq in held:
            by_queue.setdefault(queue, []).append(rq)
        return list(by_queue.items())

    def flush(self, *, from_schedule: bool = False) -> Steps:
        """Send on what is held (blk_finish_plug); `from_schedule`: its task goes to sleep (MQ-1).

        If its task dies at that, the queues see to the rest.
        """
        held, batches = len(self.held), self.take()
        try:
            while batches:
                steps = batches[0][0].unplug(batches[0][1], held, from_schedule=from_schedule)
                batches.pop(0)
                yield from steps
        except BaseException:
            for queue, rqs in batches:
                queue.insert(rqs)
            raise


def decides(plug: Plug, rules: Rules) -> Request:
    """Return the request of a plug whose size tells whether it is full: upstream looks at the first, since 6.12."""
    return plug.held[-1 if rules.flush_on_last else 0][1]
