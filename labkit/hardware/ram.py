"""Bytes by physical address: of RAM, and of what devices add above it. In a hole nothing answers."""

import errno
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.scatter.payload import Range

CHUNK = 4 << 20
"""Bytes that are made at a time where there is no arena for all: a block of the greatest order, so none is cut."""


class Piece(NamedTuple):
    """Addresses [start, end) that answer: with `whole`, whose byte 0 has address `base`."""

    start: int
    end: int
    base: int
    whole: memoryview
    name: str


_NOTHING = Piece(0, 0, 0, memoryview(b""), "")


def _zero(whole: memoryview, at: int, nbytes: int) -> None:
    whole[at : at + nbytes] = bytes(nbytes)


class RAM:
    """The bytes of the machine's memory. The piece that answered last is asked first: 4 KiB cost one slice."""

    def __init__(
        self, arena: memoryview | Callable[[int], memoryview], ranges: Iterable[Range] | None = None,
        release: Callable[[memoryview, int, int], None] = _zero,
    ) -> None:  # fmt: skip
        """Take `arena`: writable bytes whose offset is the physical address, or what makes chunks of so many bytes.

        `ranges` (physical) are RAM, in ascending order; by default the whole arena is. `release(whole, at, nbytes)`
        zeroes bytes, and may give the host their pages back.
        """
        self._release = release
        self._pieces: list[Piece] = []
        self._starts: list[int] = []
        self._devices: set[int] = set()
        self._chunked: list[Range] = []
        self.backed = tuple(ranges or ()) if ranges is not None or callable(arena) else ((0, arena.nbytes),)
        """What is RAM: physical (address, bytes), ascending."""
        if callable(arena):
            self._make, self._chunked = arena, list(self.backed)
        else:
            if arena.readonly or arena.nbytes == 0:
                raise BadInput("ram", f"arena of {arena.nbytes} bytes", "is empty or read-only", errno.EINVAL)
            for start, nbytes in self.backed:
                self._insert(Piece(start, start + nbytes, 0, arena, "System RAM"))
        self._hit(self._pieces[-1] if self._pieces else _NOTHING)

    def view(self, addr: int, nbytes: int) -> memoryview:
        """Return a writable view of `nbytes` bytes at physical `addr`.

        Raises BusFault in a hole, past the end, and for bytes that no single view holds: ask `views` for those.
        """
        if self._start <= addr and addr + nbytes <= self._end:
            addr -= self._base
            return self._whole[addr : addr + nbytes]
        piece = self._find(addr)
        if addr + nbytes > piece.end:
            raise BusFault(piece.end)
        self._hit(piece)
        return piece.whole[addr - piece.base : addr - piece.base + nbytes]

    def views(self, addr: int, nbytes: int, write: bool = False) -> tuple[memoryview, ...]:
        """Be a bus without translation: a bus address is a physical address. Several views where pieces meet."""
        if self._start <= addr and addr + nbytes <= self._end:
            addr -= self._base
            return (self._whole[addr : addr + nbytes],)
        try:
            return tuple(self._cut(addr, nbytes))
        except BusFault as bad:
            raise BusFault(bad.addr, write) from None

    def gather(self, ranges: Iterable[Range]) -> bytes:
        """Return the bytes of `ranges` (physical), in order."""
        return b"".join([view for addr, nbytes in ranges for view in self.views(addr, nbytes)])

    def scatter(self, ranges: Iterable[Range], data: bytes | memoryview) -> None:
        """Put `data` into `ranges` (physical), in order; both hold as many bytes."""
        at = 0
        for addr, nbytes in ranges:
            for view in self.views(addr, nbytes):
                view[:] = data[at : at + len(view)]
                at += len(view)

    def wipe(self, addr: int, nbytes: int) -> None:
        """Set `nbytes` bytes at physical `addr` to zero; whole pages of the host go back to it."""
        self.release(addr, nbytes)

    def release(self, addr: int, nbytes: int) -> None:
        """Forget `nbytes` bytes at physical `addr`: they read as zeros, and cost the host nothing until touched."""
        end = addr + nbytes
        if self._start <= addr and end <= self._end:
            self._release(self._whole, addr - self._base, nbytes)
            return
        while addr < end:
            piece = self._known(addr)
            stop = min(end, piece.end if piece else self._chunk_at(addr)[1])
            if piece:
                self._release(piece.whole, addr - piece.base, stop - addr)
            addr = stop

    def add(self, start: int, view: memoryview, name: str) -> None:
        """Let `view` answer at physical addresses from `start` on: GPU memory, persistent memory, foreign memory.

        Raises BadInput where something answers already, and for memory that cannot be written.
        """
        new = Piece(start, start + view.nbytes, start, view.cast("B"), name)
        if view.readonly or view.nbytes == 0:
            raise BadInput("ram", f"{name} of {view.nbytes} bytes", "is empty or read-only", errno.EINVAL)
        taken = [(p.start, p.end, p.name) for p in self._pieces] + [(a, a + n, "System RAM") for a, n in self._chunked]
        for first, end, other in taken:
            if start < end and first < new.end:
                raise BadInput("ram", f"{name} at {start:#x}", f"overlaps {other} at {first:#x}", errno.EBUSY)
        self._insert(new)
        self._devices.add(start)

    def revoke(self, start: int) -> None:
        """Let nothing answer any more where `add` put a range at `start`; views taken before stay valid.

        Raises BadInput where none was added.
        """
        if start not in self._devices:
            raise BadInput("ram", f"addr={start:#x}", "begins no range of a device", errno.ENOENT)
        self._devices.remove(start)
        self._pieces = [piece for piece in self._pieces if piece.start != start]
        self._starts = [piece.start for piece in self._pieces]
        self._hit(_NOTHING)

    def _hit(self, piece: Piece) -> None:
        self._start, self._end, self._base, self._whole, _ = piece

    def _insert(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._pieces.sort(key=lambda other: other.start)
        self._starts = [other.start for other in self._pieces]

    def _cut(self, addr: int, nbytes: int) -> Iterator[memoryview]:
        """Yield the views that make up `nbytes` bytes at `addr`."""
        end = addr + nbytes
        while addr < end:
            piece = self._find(addr)
            self._hit(piece)
            stop = min(end, piece.end)
            yield piece.whole[addr - piece.base : stop - piece.base]
            addr = stop

    def _find(self, addr: int) -> Piece:
        """Return the piece that holds `addr`, made now if it is a chunk that nobody touched. Raises BusFault."""
        piece = self._known(addr)
        if piece is None:
            start, end = self._chunk_at(addr)
            piece = Piece(start, end, start, self._make(end - start), "System RAM")
            self._insert(piece)
        return piece

    def _known(self, addr: int) -> Piece | None:
        at = bisect_right(self._starts, addr) - 1
        return self._pieces[at] if at >= 0 and addr < self._pieces[at].end else None

    def _chunk_at(self, addr: int) -> Range:
        """Return (start, end) of the chunk that `addr` belongs to. Raises BusFault where there is none."""
        for first, nbytes in self._chunked:
            if first <= addr < first + nbytes:
                chunk = addr // CHUNK * CHUNK
                return max(first, chunk), min(first + nbytes, chunk + CHUNK)
        raise BusFault(addr)
