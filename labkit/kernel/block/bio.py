"""The block layer's unit of work: where on the device, and which memory, in whatever currency."""

from collections.abc import Callable

from simpy import Event

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.scatter.payload import Payload
from labkit.units import Sector

BIO_MAX_SIZE = (1 << 32) - 1
"""bi_size is 32 bits wide (BIO-1)."""


class Bio:
    """`payload` to or from `sector`, for bytes [start, start + nbytes) of IO `io`. Completion is left in `done`."""

    __slots__ = (
        "bio", "cls", "done", "end_io", "error", "io", "nbytes", "payload", "remaining",
        "sector", "start", "why", "write",
    )  # fmt: skip

    def __init__(self, env: Clock, bio: int, io: int, sector: Sector, payload: Payload, *, write: bool) -> None:
        """Begin unsubmitted; `remaining` counts its own submission too, so that it cannot end halfway through."""
        self.bio, self.io, self.sector, self.payload, self.write = bio, io, sector, payload, write
        self.nbytes = payload.nbytes
        self.cls = payload.cls
        """What kind of memory all of it is (D-8)."""
        self.start = 0
        self.error, self.remaining = 0, 1
        self.why: SyscallError | None = None
        self.done = Event(env)
        self.end_io: Callable[[Bio], None] | None = None
        """Called once at the end, before `done` fires (bi_end_io)."""

    def endio(self, error: int = 0, why: SyscallError | None = None) -> None:
        """Let go of one reference; the first error stays, with its reason; the last one ends the bio (bio_endio)."""
        if error and not self.error:
            self.error = error
        self.why = self.why or why
        self.remaining -= 1
        if self.remaining == 0:
            if self.end_io is not None:
                self.end_io(self)
            self.done.succeed(self.error)
