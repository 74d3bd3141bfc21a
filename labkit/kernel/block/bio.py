"""The block layer's unit of work: where on the device, and which memory, in whatever currency."""

from collections.abc import Callable
from enum import IntFlag
from functools import cache
from typing import TYPE_CHECKING

from simpy import Event

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.kernel.drivers.ops import REQ_FUA
from labkit.scatter.payload import Payload
from labkit.units import Sector

BIO_MAX_SIZE = (1 << 32) - 1
"""bi_size is 32 bits wide (BIO-1)."""
BIO_MAX_VECS = 256
"""Vectors of one bio at most (BIO-1)."""


NOT_OF_THE_IO = -1
"""Where a bio's bytes are in its IO, when they are not of it: zeros beside it, or the page cache's."""


class Op(IntFlag):
    """How a bio, and the request that it becomes, is to be treated (enum req_flag_bits)."""

    SYNC = 1
    IDLE = 2
    FUA = REQ_FUA
    PREFLUSH = 8
    NOMERGE = 16
    NOWAIT = 32
    ATOMIC = 64
    RAHEAD = 128
    POLLED = 256

    if not TYPE_CHECKING:  # IntFlag's own take ten times as long; a plain int comes of these
        __and__ = __rand__ = int.__and__
        __or__ = __ror__ = int.__or__


PLAIN = Op(0)
NOMERGE_FLAGS = Op.NOMERGE | Op.PREFLUSH | Op.FUA
"""What keeps a bio from being merged (MERGE-1)."""


class Bio:
    """`payload` to or from `sector`, for bytes [start, start + nbytes) of IO `io`. Completion is left in `done`."""

    __slots__ = (
        "bio", "cls", "done", "end_io", "error", "io", "nbytes", "opf", "payload", "remaining",
        "sector", "start", "task", "unaccounted", "why", "write",
    )  # fmt: skip

    def __init__(
        self, env: Clock, bio: int, io: int, sector: Sector, payload: Payload, *, write: bool, opf: Op = PLAIN
    ) -> None:
        """Begin unsubmitted; `remaining` counts its own submission too, so that it cannot end halfway through."""
        self.bio, self.io, self.sector, self.payload, self.write, self.opf = bio, io, sector, payload, write, opf
        self.nbytes = payload.nbytes
        self.cls = payload.cls
        """What kind of memory all of it is (D-8)."""
        if self.cls.kind == "mmio" and payload.struct_pages:
            self.opf |= Op.NOMERGE  # upstream never merges a peer's pages (P2P-5)
        self.start = self.task = 0
        self.error, self.remaining = 0, 1
        self.unaccounted: tuple[Sector, int, int] | None = None
        """(sector, sectors, errno) of a part that died before it was a request, until the bio ends."""
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
            end_io, self.end_io = self.end_io, None  # whoever waits has the bio, and the bio has nobody: no cycle
            try:
                if end_io is not None:
                    end_io(self)
            finally:
                self.done.succeed(self.error)


@cache
def rwbs(write: bool, opf: Op) -> str:
    """Return what a bio with these flags does in the letters of blktrace: RS, WFS, RA, ..."""
    text = "F" if opf & Op.PREFLUSH else ""
    text += "W" if write else "R"
    text += "F" if opf & Op.FUA else ""
    text += "A" if opf & Op.RAHEAD else ""
    return text + ("S" if opf & Op.SYNC else "")
