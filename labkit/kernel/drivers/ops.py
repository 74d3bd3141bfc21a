"""What the block layer asks of any driver, and the request that it hands over."""

from collections.abc import Callable
from typing import Any, Protocol

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import Range, Ranges, join
from labkit.units import Sector

EndIo = Callable[[int, SyscallError | None], None]
"""Called once with an errno, or 0, and the reason if one is known, when a part of a request is over."""
REQ_FUA = 4
"""The bit of Request.opf that asks for what is written to be on the medium when the request ends."""


class Request:
    """Sectors that go to the device in one command, under one tag: a part of a bio that fits the queue, or several."""

    __slots__ = (
        "blocks", "cls", "conversions", "deadline", "end_io", "ends", "internal_tag", "io", "nbytes", "nomerge", "opf",
        "parts", "rq", "sector", "segments", "stats", "tag", "task", "why", "write",
    )  # fmt: skip

    def __init__(
        self, rq: int, io: int, tag: int, sector: Sector, piece: tuple[Ranges, int, int], cls: MemoryClass = RAM, *,
        write: bool,
    ) -> None:  # fmt: skip
        """Describe `piece` (vectors, bytes, segments) of a bio of IO `io` at `sector`; its memory is of class `cls`."""
        self.rq, self.io, self.tag, self.sector, self.write = rq, io, tag, sector, write
        self.cls = cls
        self.internal_tag = -1
        """The scheduler's tag; -1 where there is none. With one, `tag` is -1 but while the driver has the request."""
        self.task = 0
        """Who sent it, as far as a scheduler is to know."""
        self.parts = [piece[0]]
        self.nbytes, self.segments = piece[1], piece[2]
        self.opf = 0
        """enum req_flag_bits, as the first bio has them."""
        self.nomerge = False
        """Whether nothing may join it any more (REQ_NOMERGE)."""
        self.conversions = 0
        """Vectors that had to be turned into physical addresses, a struct page read for each."""
        self.blocks: tuple[Any, ...] = ()
        """Memory that the driver took for its lists."""
        self.end_io: Callable[[Request, int], None] = _nobody
        """Called once with (request, errno or 0) when the request is over."""
        self.ends: list[EndIo] = []
        """The bios that it is made of, each to be told."""
        self.stats: dict[str, int] = {}
        """What a scheduler notes for itself."""
        self.deadline = 0
        """When it has been with its driver for too long, in ns; 0 while nobody looks at the time (BLK-3)."""
        self.why: SyscallError | None = None
        """The reason for its error, where somebody gave one."""

    @property
    def is_flush(self) -> bool:
        """Whether it moves nothing, and asks the device to write its cache back (REQ_OP_FLUSH)."""
        return self.nbytes == 0

    @property
    def vecs(self) -> Ranges:
        """The (physical address, bytes) of every vector, bio after bio."""
        return self.parts[0] if len(self.parts) == 1 else join(self.parts)

    @property
    def first_vec(self) -> Range:
        """The vector of its first byte."""
        return self.parts[0][0]

    @property
    def last_vec(self) -> Range:
        """The vector of its last byte."""
        return self.parts[-1][-1]

    def add(self, vecs: Ranges, nbytes: int, segments: int, *, front: bool) -> None:
        """Take `nbytes` in `vecs` in, before the first byte or behind the last."""
        self.parts.insert(0 if front else len(self.parts), vecs)
        self.nbytes, self.segments = self.nbytes + nbytes, self.segments + segments
        if front:
            self.sector = Sector(self.sector - (nbytes >> 9))

    def absorb(self, other: "Request") -> None:
        """Take all of `other` in, which lies behind the last byte."""
        self.parts += other.parts
        self.nbytes, self.segments = self.nbytes + other.nbytes, self.segments + other.segments
        self.conversions += other.conversions
        self.ends += other.ends


class BlkMqOps(Protocol):
    """A driver."""

    def queue_rq(self, rq: Request) -> Steps:
        """Map `rq`, write its command, tell the device; `rq.end_io` follows.

        A SyscallError raised instead means that the device was not told, and that nothing of `rq` is held.
        """


def _nobody(_rq: Request, _error: int) -> None:
    """Stand in for a completion that nobody waits for."""
