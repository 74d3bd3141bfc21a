"""What the block layer asks of any driver, and the request that it hands over."""

from collections.abc import Callable
from typing import Any, Protocol

from labkit.hardware.clock import Steps
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.trace.events import Ranges
from labkit.units import Sector

Fitting = tuple[Ranges, int, int]
"""Vectors (physical address, bytes), their bytes in all, and the segments that were counted for them."""


class Request:
    """A part of a bio that fits the queue: one command's worth of sectors, under one tag."""

    __slots__ = (
        "blocks", "cls", "conversions", "end_io", "io", "nbytes", "rq", "sector", "segments", "tag", "vecs", "write",
    )  # fmt: skip

    def __init__(
        self, rq: int, io: int, tag: int, sector: Sector, piece: Fitting, cls: MemoryClass = RAM, *, write: bool
    ) -> None:
        """Describe `piece` of a bio of IO `io`, that fits the queue, at `sector`; its memory is of class `cls`."""
        self.rq, self.io, self.tag, self.sector, self.write = rq, io, tag, sector, write
        self.cls = cls
        self.vecs, self.nbytes, self.segments = piece
        self.conversions = 0
        """Vectors that had to be turned into physical addresses, a struct page read for each."""
        self.blocks: tuple[Any, ...] = ()
        """Memory that the driver took for its lists."""
        self.end_io: Callable[[Request, int], None] = _nobody
        """Called once with (request, errno or 0) when the request is over."""


class BlkMqOps(Protocol):
    """A driver."""

    def queue_rq(self, rq: Request) -> Steps:
        """Map `rq`, write its command, tell the device; `rq.end_io` follows.

        A SyscallError raised instead means that the device was not told, and that nothing of `rq` is held.
        """


def _nobody(_rq: Request, _error: int) -> None:
    """Stand in for a completion that nobody waits for."""
