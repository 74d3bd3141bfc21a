"""The raw block device file: block/fops.c, where a file position is a device position (DIO-1..4)."""

import errno
from collections.abc import Iterator
from itertools import count

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.kernel.block.bio import BIO_MAX_SIZE, Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.scatter.payload import Payload
from labkit.units import PAGE_SIZE, SECTOR_SHIFT, Sector, human_bytes

BIO_MAX_VECS = 256


class BlockDeviceFile:
    """An open block device."""

    def __init__(self, env: Clock, name: str, nbytes: int, limits: QueueLimits) -> None:
        """Open device `name` of `nbytes` bytes."""
        self.env, self.name, self.nbytes, self.limits = env, name, nbytes, limits
        self._bios = count(1)

    def check(self, call: str, pos: int, nbytes: int, *, write: bool) -> int:
        """Return how many bytes at `pos` the device has for `call`: 0 at its end, less across it (R1).

        Raises SyscallError ENOSPC for a write at the end (DIO-1), EINVAL for a position or length that is not a
        multiple of the logical block (DIO-3).
        """
        if not nbytes:
            return 0
        if pos >= self.nbytes:
            if not write:
                return 0
            what = f"pos={pos}"
            raise SyscallError(call, what, f"lies beyond the {human_bytes(self.nbytes)} of {self.name}", errno.ENOSPC)
        nbytes = min(nbytes, self.nbytes - pos)
        lbs = self.limits.logical_block_size
        for name, value in (("pos", pos), ("count", nbytes)):
            if value % lbs:
                raise SyscallError(
                    call, f"{name}={value}", f"is not a multiple of {lbs} (O_DIRECT, DIO-3)", errno.EINVAL
                )
        return nbytes

    @staticmethod
    def path(buf: int, nbytes: int) -> str:
        """Return which way the kernel takes: 'simple' up to 256 pages spanned, 'multi' above (DIO-4, R7)."""
        pages = (buf % PAGE_SIZE + nbytes + PAGE_SIZE - 1) // PAGE_SIZE
        return "simple" if pages <= BIO_MAX_VECS else "multi"

    def bios(self, io: int, pos: int, payload: Payload, *, write: bool) -> list[Bio]:
        """Return the bios for `payload` at byte `pos`: one, unless it is of two classes, or more than 32 bits of bytes.

        A bio never mixes two classes (D-8). Raises SyscallError EINVAL, before any bio is submitted, where a class
        ends inside a logical block (D-9).
        """
        if payload.nbytes <= BIO_MAX_SIZE and len(payload.classes) <= 1:
            return [Bio(self.env, next(self._bios), io, Sector(pos >> SECTOR_SHIFT), payload, write=write)]
        parts = [(Sector((pos + at) >> SECTOR_SHIFT), payload.slice(at, size)) for at, size in self._parts(payload)]
        return [Bio(self.env, next(self._bios), io, sector, part, write=write) for sector, part in parts]

    def _parts(self, payload: Payload) -> Iterator[tuple[int, int]]:
        """Yield (first byte, bytes) of what one bio may carry: one class (D-8), and what 32 bits can count (D-11)."""
        at, lbs = 0, self.limits.logical_block_size
        most = BIO_MAX_SIZE // lbs * lbs
        for cls, nbytes in payload.classes:
            if nbytes % lbs:
                what = f"{nbytes} bytes of {cls.kind} memory"
                raise SyscallError(self.name, what, f"are not a multiple of {lbs} (D-8, D-9)", errno.EINVAL)
            yield from ((at + start, min(most, nbytes - start)) for start in range(0, nbytes, most))
            at += nbytes
