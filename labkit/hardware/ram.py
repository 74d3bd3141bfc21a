"""Bytes by physical address."""

import errno

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.scatter.payload import Range


class RAM:
    """The bytes of the machine's memory, over a sparse arena whose offset is the physical address."""

    def __init__(self, arena: memoryview) -> None:
        """Take `arena`: writable bytes, as many as the highest physical address."""
        if arena.readonly or arena.nbytes == 0:
            raise BadInput("ram", f"arena of {arena.nbytes} bytes", "is empty or read-only", errno.EINVAL)
        self.arena = arena

    def view(self, addr: int, nbytes: int) -> memoryview:
        """Return a writable view of `nbytes` bytes at physical `addr`. Raises BusFault beyond the end."""
        if addr < 0 or addr + nbytes > self.arena.nbytes:
            raise BusFault(addr)
        return self.arena[addr : addr + nbytes]

    def views(self, addr: int, nbytes: int) -> tuple[memoryview]:
        """Be a bus without translation: a bus address is a physical address."""
        return (self.view(addr, nbytes),)

    def gather(self, ranges: tuple[Range, ...]) -> bytes:
        """Return the bytes of `ranges` (physical), in order."""
        return b"".join(self.view(addr, nbytes) for addr, nbytes in ranges)

    def scatter(self, ranges: tuple[Range, ...], data: bytes) -> None:
        """Put `data` into `ranges` (physical), in order; both hold as many bytes."""
        at = 0
        for addr, nbytes in ranges:
            self.view(addr, nbytes)[:] = data[at : at + nbytes]
            at += nbytes

    def wipe(self, addr: int, nbytes: int) -> None:
        """Set `nbytes` bytes at physical `addr` to zero."""
        self.view(addr, nbytes)[:] = bytes(nbytes)
