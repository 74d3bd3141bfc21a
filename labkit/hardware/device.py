"""What every device and every bus has in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from labkit.hardware.clock import Clock
from labkit.trace.events import Ranges
from labkit.units import Sector


class Command(NamedTuple):
    """One command for a device, as its driver leaves it.

    A controller that fetches its commands reads `slot` of its submission queue and nothing else; a device without
    one is told `write`, `sector` (512 bytes each), `nbytes` and the memory in `ranges` (bus addresses).
    `io` and `rq` name the command in the trace.
    """

    io: int
    rq: int
    slot: int
    write: bool
    sector: Sector
    nbytes: int
    ranges: Ranges


Done = Callable[[int], None]
"""Who is told of a completion: the interrupt."""


@dataclass(slots=True)
class Health:
    """What is wrong with a device. All is well by default; each model looks here where it would matter."""

    bad: list[tuple[int, int]] = field(default_factory=list)
    """Sectors [first, past the end) that the medium cannot read or write."""
    stuck: int = 0
    """Commands that it will still take and never answer, unless they are aborted; it is told by counting down."""
    losing: int = 0
    """Interrupts that get lost: the command is done and its completion written, and nobody is told."""
    short: int = 0
    """Transfers that will stop halfway: half of the bytes are moved, and an error is the answer."""
    refusing: int = 0
    """Commands for which the device's own queue will be full, and the driver has to ask again."""
    wedged: bool = False
    """It answers nothing any more, aborts and resets included."""
    gone: bool = False
    """It is unplugged: its registers read as ones, and nothing that it was given comes back."""

    def unreadable(self, sector: int, sectors: int) -> bool:
        """Return whether any of `sectors` from `sector` on is bad."""
        return any(first < sector + sectors and sector < end for first, end in self.bad) if self.bad else False


class Device(Protocol):
    """A block device."""

    nbytes: int
    """Capacity in bytes."""
    health: Health

    def submit(self, cmd: Command, done: Done) -> None:
        """Take `cmd`, and call `done(status)` when it is done: 0, or what the device has to say."""

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return the `nbytes` bytes that the medium holds at `pos`, by a way that no IO takes."""

    def poke(self, pos: int, data: bytes) -> None:
        """Set the bytes of the medium at `pos`, by a way that no IO takes."""


class Bus(Protocol):
    """How a device reaches memory."""

    def views(self, addr: int, nbytes: int, write: bool = False) -> Sequence[memoryview]:
        """Return writable views of the `nbytes` bytes at bus address `addr`; `write`: they will be written to.

        Raises BusFault where it leads nowhere, or where only the other way is allowed.
        """


class BusFault(Exception):
    """A device has put an address on the bus that nothing answers to."""

    def __init__(self, addr: int, write: bool = False) -> None:
        """`addr`: the bus address; `write`: it was to be written to."""
        super().__init__(f"no memory answers to bus address {addr:#x}")
        self.addr, self.write = addr, write


def fetch(views: Sequence[memoryview]) -> memoryview | bytes:
    """Return the bytes of `views` in one piece, whatever the bus made of them."""
    return views[0] if len(views) == 1 else b"".join(views)


def store(views: Sequence[memoryview], data: bytes) -> None:
    """Put `data` into `views`, which hold as many bytes together."""
    if len(views) == 1:
        views[0][:] = data
        return
    at = 0
    for view in views:
        view[:] = data[at : at + view.nbytes]
        at += view.nbytes


class Server:
    """A first-come, first-served resource that needs no queue: it knows when it will be free."""

    __slots__ = ("_env", "_free")

    def __init__(self, env: Clock) -> None:
        """Begin idle."""
        self._env, self._free = env, 0

    def reserve(self, service: int) -> int:
        """Take the next `service` ns of the server; return the ns until they begin. Call it at the arrival."""
        now = int(self._env.now)
        start = max(self._free, now)
        self._free = start + service
        return start - now
