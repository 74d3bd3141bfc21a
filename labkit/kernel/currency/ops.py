"""What dio asks of any currency."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.ops import NO_FLAGS, Iocb
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Payload, Range
from labkit.trace.events import Ranges


@dataclass(slots=True)
class Kiocb:
    """One IO on its way: `nbytes` at file position `pos`, from or into user memory at `buf`, or in the pieces of `iov`.

    `write` is the file's side: a pwrite. The memory is written by a pread.
    """

    io: int
    mm: Mm
    call: str
    buf: int
    nbytes: int
    pos: int
    write: bool
    limits: QueueLimits
    iov: tuple[Range, ...] = ()
    flags: Iocb = NO_FLAGS
    buf_index: int | None = None
    """Which registered buffer it is for: READ_FIXED and WRITE_FIXED (REG-4)."""
    simple: bool = False

    @property
    def pieces(self) -> tuple[Range, ...]:
        """The (user address, bytes) of each piece that is not empty."""
        return self.iov or ((self.buf, self.nbytes),)

    def at(self, start: int) -> tuple[int, int]:
        """Return the user address of byte `start`, and how many bytes its piece has from there on."""
        for addr, nbytes in self.pieces:
            if start < nbytes:
                return addr + start, nbytes - start
            start -= nbytes
        return 0, 0


class Hold(NamedTuple):
    """Memory that is pinned under `token` of the ledger: what flows on, and what taking and keeping it cost.

    `ptes`: steps of the walk; `cache_lines`: lines written to count the pin; `faults`: what was missed and came.
    """

    payload: Payload
    nbytes: int
    token: int
    handle: Any
    """What the currency needs to let go again."""
    ranges: Ranges
    ptes: int
    atomics: int
    struct_pages: int
    descriptor_bytes: int
    cache_lines: int = 0
    faults: int = 0
    dirty_first: bool = False
    """Whether the memory is marked dirty before it is sent, not when it is let go of (bio_set_pages_dirty, MM-25)."""


class Released(NamedTuple):
    """What letting go cost."""

    atomics: int
    struct_pages: int


class Currency(Protocol):
    """A way to describe the memory of an IO, from the syscall to the DMA mapping."""

    name: str
    policy: str
    """What a pin counts on: the name of a PinPolicy."""
    per_bio: bool
    """Whether a pin is taken for, and let go of with, one bio; or with the whole IO, at its start and its end."""

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:
        """Translate and pin user memory from byte `start` of the IO on, as far as this currency goes in one step.

        `nbytes`: no further than that. Raises SyscallError (EFAULT, EINVAL, ENOMEM, ...) where not one byte can be had;
        nothing is held then.
        """

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of all of `hold`; memory that the IO wrote to is dirty by then. Raises InvariantError if not held."""

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:
        """Write zeros over `nbytes` of user memory from byte `start` on; return how many could be.

        `pinned`: the same bytes, where they are pinned already.
        """

    def slots(self, iocb: Kiocb, start: int) -> int:
        """Return how many vectors the table of one bio would need for all from `start` on; 0 where it needs none."""


def wipe(iocb: Kiocb, pinned: Payload | None) -> int:
    """Write zeros over `pinned` by its physical addresses; return its bytes."""
    if pinned is None:
        return 0
    for addr, nbytes in pinned.vecs:
        iocb.mm.frames.wipe(addr, nbytes)
    return pinned.nbytes
