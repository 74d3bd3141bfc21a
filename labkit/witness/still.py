"""What a prediction runs on in place of hardware: a clock that stands still, tags without end, a driver that keeps."""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.sched import SCHEDULERS
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.timeouts import IO_TIMEOUT_NS
from labkit.trace.tracer import Emit
from labkit.witness.capture import Capture
from labkit.witness.commands import Commands

FREE = Cpu(**dict.fromkeys(Cpu.__dataclass_fields__, 0))
"""A CPU that takes no time."""


class Instant:
    """A clock that stands still. Jobs of other threads are kept until the submitter is through."""

    now = 0

    def __init__(self) -> None:
        """Begin with no jobs."""
        self.jobs: list[Steps] = []

    def job(self, work: Steps) -> None:
        """Keep `work` for later."""
        self.jobs.append(work)

    def later(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` when others work: all that time brings is here at once, but that nothing comes (BLK-3)."""
        if delay < IO_TIMEOUT_NS:
            self.jobs.append(_soon(call, args))

    def schedule(self, *_event: Any, **_when: Any) -> None:
        """Do nothing: nobody waits."""


def _soon(call: Callable[..., None], args: tuple[Any, ...]) -> Steps:
    call(*args)
    yield from ()


class Endless:
    """Tags that never run out: who would sleep for one is another thing (R15)."""

    def __init__(self) -> None:
        """Begin with tag 1."""
        self._next = 0
        self.free = 1

    def take(self) -> int:
        """Return one that nobody had."""
        self._next += 1
        return self._next

    def put(self, tag: int) -> None:
        """Forget `tag`."""


class KeptQueue(RequestQueue):
    """A queue that remembers its bios as they came in."""

    def __init__(self, capture: Capture, env: Instant, emit: Emit) -> None:
        """Take the limits, the scheduler and the kernel of `capture`. Raises BadInput."""
        rules, _ = capture.rules
        sched = SCHEDULERS[capture.scheduler]()
        clock = cast("Clock", env)
        commands = Commands(capture, clock, FREE, emit) if capture.of_nvme else None
        self.kept = Keeper(emit, commands, looped=bool(capture.device.backing_dio))
        super().__init__(clock, FREE, capture.queue_limits, self.kept, emit, rules, sched)
        self.tags = self.driver_tags = Endless()  # type: ignore[assignment]  # as much of Tags as is asked for here
        self.bios: list[Bio] = []

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Remember `bio`, and treat it as any queue does."""
        self.bios.append(bio)
        return super().submit_bio(bio, plug)

    def insert(self, rqs: Sequence[Request]) -> None:
        """Let a scheduler take `rqs`, and issue what it gives back: whoever unplugs runs the queue himself (R16)."""
        jobs = cast("Instant", self.env).jobs
        before = len(jobs)
        super().insert(rqs)
        if self.sched is not None:
            mine, jobs[before:] = jobs[before:], []
            for work in mine:
                deque(work, 0)


_SECTOR_MASK = 511
"""The alignment that a file below a loop device asks for, unless its own device asks for less (DIO-9)."""


class Keeper:
    """A driver that keeps requests; of an NVMe drive, as far as it maps them and writes their commands."""

    def __init__(self, emit: Emit, commands: Commands | None = None, *, looped: bool = False) -> None:
        """Tell `emit` of each. `looped`: requests are direct IO once more."""
        self._emit, self.commands, self._looped = emit, commands, looped
        self.rqs: list[Request] = []

    def queue_rq(self, rq: Request) -> Steps:
        """Keep `rq`. Raises SyscallError as the driver of the drive does."""
        if self.commands is not None and not rq.is_flush:
            self.commands.setup(rq)
        self._emit(("BlockRqIssue", 0, rq.io, rq.rq, rq.tag, rq.sector, rq.nbytes >> 9))
        self.rqs.append(rq)
        yield from ()

    def take(self) -> list[Request]:
        """Return what was kept since this was called last: it is over, and not mapped any more."""
        rqs, self.rqs = self.rqs, []
        if self.commands is not None:
            for rq in rqs:
                self.commands.end(rq)
        return rqs

    def status(self, rq: Request) -> int:
        """Return the errno that `rq` ends with, 0 for none.

        What a loop device has merged is one IO of several vectors on its file (LOOP-3), and their alignment is looked
        at there, though it was not here, where each stood alone in its bio (R8, R9).
        """
        merged = self._looped and len(rq.parts) > 1
        return errno.EINVAL if merged and any((a | n) & _SECTOR_MASK for part in rq.parts for a, n in part) else 0
