"""What a file has of its device: a fork of extents for its bytes, and one for copies of what it shares (as xfs has)."""

import errno
from collections.abc import Iterable, Iterator

from labkit.errors import SyscallError
from labkit.kernel.fs.extents import Extent, ExtentMap
from labkit.kernel.fs.ops import NULL_ADDR, Iomap, IomapType
from labkit.kernel.fs.space import Space


class Forks:
    """The blocks of one file, and how it gets more.

    A copy waits in the fork `cow` until what it is for has reached the device; only then does it take the place of the
    shared blocks in `data`. So a shared block is never written, and a failed write leaves the file as it was.
    """

    def __init__(self, name: str, space: Space, most: int) -> None:
        """Begin with nothing of `space`; extents are `most` bytes long at most."""
        self.name, self.space, self.block_size = name, space, space.block_size
        self.data, self.cow = ExtentMap(self.block_size, most=most), ExtentMap(self.block_size, most=most)

    def find(self, lo: int, hi: int) -> Iomap:
        """Return what lies at byte `lo` of the file, and up to `hi` at most."""
        return found_in(self.data, lo, hi)

    def take(self, lo: int, hi: int, *, whole: bool = True, nowait: bool = False) -> Iomap:
        """Return blocks that may be written now from byte `lo` on: those there are, or new ones.

        In a hole, and where blocks were promised, they are unwritten; for shared ones it is a copy. `whole`: no block
        is written in part only. Raises SyscallError ENOSPC, EAGAIN with `nowait`, ENOTBLK for a part of a shared block.
        """
        found, copy = self.find(lo, hi), found_in(self.cow, lo, hi)
        size, shared = found.length, copy.type == "mapped"
        if found.addr != NULL_ADDR and not shared:
            shared, size = self.space.shared(found.addr, found.length)
        size = min(size, copy.length)
        if shared and not whole:
            raise SyscallError("iomap", self.name, "shares a block of which this is a part (DIO-10)", errno.ENOTBLK)
        if copy.type == "mapped":
            return copy._replace(shared=True)
        if found.addr != NULL_ADDR and not shared:
            return found._replace(length=size)
        if nowait:
            raise SyscallError("iomap", self.name, "would have to allocate (NOWAIT)", errno.EAGAIN)
        extent = self.alloc(self.cow, lo, lo + size, "mapped") if shared else self.alloc(self.data, lo, lo + size)
        return told(extent)._replace(new=True, shared=shared)

    def promise(self, lo: int, hi: int) -> Iomap:
        """Promise blocks for a buffered write at byte `lo` of the file; return where its bytes lie until it has them.

        Raises SyscallError ENOSPC: what is promised is there when it is written back.
        """
        found = self.find(lo, hi)
        if found.type == "hole":
            size = self._reserve(self.data, lo, found.length)
            return Iomap("delalloc", lo, size, new=True)
        if found.type != "mapped":
            return found
        copy, (shared, size) = found_in(self.cow, lo, hi), self.space.shared(found.addr, found.length)
        size = min(size, copy.length)
        if shared and copy.type == "hole":
            size = self._reserve(self.cow, lo, size)
        return found._replace(length=size, shared=shared)

    def alloc(self, fork: ExtentMap, lo: int, hi: int, state: IomapType = "unwritten") -> Extent:
        """Allocate byte `lo` of `fork`, and what the space has up to `hi`: all a hole, or all promised. Raises ENOSPC.

        The blocks lie as far behind those of the extent before as the bytes do, if they are free.
        """
        before, here = fork.before(lo), fork.at(lo)
        goal = before.physical + lo - before.logical if before and before.physical != NULL_ADDR else 0
        promised = here is not None and here.logical <= lo and here.state == "delalloc"
        start, size = self.space.alloc(goal, min(hi - lo, fork.most), reserved=promised)
        extent = Extent(lo, start, size, state)
        fork.splice(lo, lo + size, [extent])
        return extent

    def fill(self, lo: int, hi: int) -> None:
        """Allocate, unwritten, what is not allocated in [lo, hi). Raises SyscallError ENOSPC: then nothing has been."""
        gaps = list(self.data.gaps(lo, hi))
        self.space.reserve(sum(stop - start for start, stop in gaps))
        for start, stop in gaps:
            self.data.insert(Extent(start, NULL_ADDR, stop - start, "delalloc"))
        for part in [part for part in self.data.parts(lo, hi) if part.state == "delalloc"]:
            at = part.logical
            while at < part.end:
                at = self.alloc(self.data, at, part.end).end

    def swap(self, lo: int, hi: int) -> bool:
        """Let the copies in [lo, hi) take the place of what they were made for; return whether there are any."""
        copies = self.cow.splice(lo, hi)
        for copy in copies:
            if copy.state == "delalloc":
                self._drop([copy])
            else:
                self._drop(self.data.splice(copy.logical, copy.end, [copy]))
        return bool(copies)

    def free(self, lo: int, hi: int) -> None:
        """Give back what lies in [lo, hi), whole blocks, and what was promised for it."""
        for fork in (self.data, self.cow):
            self._drop(fork.splice(lo, hi))

    def owned(self) -> Iterator[tuple[int, int]]:
        """Yield (first byte on the device, end) of each extent that the file has."""
        for fork in (self.data, self.cow):
            for extent in fork:
                if extent.state in ("mapped", "unwritten"):
                    yield extent.physical, extent.physical + extent.length

    def promised(self) -> int:
        """Return how many bytes are promised and not allocated."""
        return sum(extent.length for fork in (self.data, self.cow) for extent in fork if extent.state == "delalloc")

    def _reserve(self, fork: ExtentMap, lo: int, nbytes: int) -> int:
        """Promise up to `nbytes` bytes, a block at least, for the hole at `lo`; return how many. Raises ENOSPC."""
        size = max(self.block_size, min(nbytes, self.space.nr_free - self.space.reserved))
        self.space.reserve(size)
        fork.insert(Extent(lo, NULL_ADDR, size, "delalloc"))
        return size

    def _drop(self, extents: Iterable[Extent]) -> None:
        for extent in extents:
            if extent.state == "delalloc":
                self.space.reserved -= extent.length
            elif extent.state != "inline":
                self.space.release(extent.physical, extent.length)


def found_in(fork: ExtentMap, lo: int, hi: int) -> Iomap:
    """Return what `fork` has at byte `lo`, and up to `hi` at most: an extent, or a hole."""
    extent = fork.at(lo)
    if extent is None or extent.logical >= hi:
        return Iomap("hole", lo, hi - lo)
    return Iomap("hole", lo, extent.logical - lo) if extent.logical > lo else told(extent.part(lo, hi))


def told(extent: Extent) -> Iomap:
    """Return `extent` as an iomap."""
    return Iomap(extent.state, extent.logical, extent.length, extent.physical)
