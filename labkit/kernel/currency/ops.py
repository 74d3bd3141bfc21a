"""What dio asks of any currency."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Payload
from labkit.trace.events import Ranges


@dataclass(slots=True)
class Kiocb:
    """One IO on its way: `nbytes` at file position `pos`, from or into user memory at `buf`.

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
    """Whether a pin is let go of with its bio, or with the whole IO."""

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Translate and pin user memory from byte `start` of the IO on, as far as this currency goes in one step.

        Raises SyscallError (EFAULT, EINVAL, ENOMEM, ...) where not one byte can be had; nothing is held then.
        """

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of all of `hold`; memory that the IO wrote to is dirty by then. Raises InvariantError if not held."""
