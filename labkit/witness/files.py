"""What a captured IO was done on, as far as the capture tells: extents, and a page cache of which nothing is known."""

import errno
from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import Any, Self, cast

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.plug import Plug
from labkit.kernel.currency.iov_iter import IovIter
from labkit.kernel.dio import File
from labkit.kernel.fs.cache.readahead import FileRa, folios_of, page_cache_async_ra, page_cache_sync_ra
from labkit.kernel.fs.ops import Iomap, IomapType
from labkit.kernel.fs.submission import Submitter
from labkit.machine.pieces import joined
from labkit.scatter.payload import cut
from labkit.scatter.phyr import phyrs_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE, Sector
from labkit.witness.layout import Layout
from labkit.witness.source import Extent

SOMEWHERE = 1 << 56
"""Physical addresses from here on stand for page cache pages that no capture tells of."""


class RecordedExtents:
    """A file whose extents were recorded, each as it stood there: neighbours are not joined."""

    ino = 0

    def __init__(self, rows: Sequence[tuple[int, int, int, list[str]]], block_size: int, isize: int) -> None:
        """Take FIEMAP's `rows` [logical, physical, bytes, flags]. Raises BadInput EINVAL where two of them overlap."""
        self.rows = sorted((row[0], row[1], row[2], tuple(row[3])) for row in rows)
        self._starts = [row[0] for row in self.rows]
        for row, following in zip(self.rows, self._starts[1:], strict=False):
            if row[0] + row[2] > following:
                what = f"extents at {row[0]} and {following}"
                raise BadInput("capture", what, "overlap", errno.EINVAL)
        self.block_size, self.i_size = block_size, isize

    def iomap_begin(self, pos: int, length: int, *, write: bool, direct: bool = True, nowait: bool = False) -> Iomap:  # noqa: ARG002
        """Return the extent of byte `pos`, or the hole. Raises SyscallError EIO for a write that would allocate."""
        i = bisect_right(self._starts, pos) - 1
        if i >= 0 and pos < self.rows[i][0] + self.rows[i][2]:
            logical, physical, nbytes, flags = self.rows[i]
            kind: IomapType = "unwritten" if "UNWRITTEN" in flags else "delalloc" if "DELALLOC" in flags else "mapped"
            kind = "inline" if "DATA_INLINE" in flags else kind
            return Iomap(kind, logical, nbytes, physical, shared="SHARED" in flags)
        if write:
            raise SyscallError(
                "iomap", f"pos={pos}", "is a hole, and where its blocks come from is not told", errno.EIO
            )
        end = self._starts[i + 1] if i + 1 < len(self.rows) else pos + length
        start = self.rows[i][0] + self.rows[i][2] if i >= 0 else 0
        return Iomap("hole", start, end - start)

    def end_io(self, pos: int, nbytes: int, *, unwritten: bool, extend: bool) -> None:
        """Do nothing: a record does not change."""


def with_new(before: Sequence[Extent], after: Sequence[Extent]) -> list[Extent]:
    """Return the extents that a file had `before` an IO, and, where those left holes, what it had `after` it."""
    found, known = list(before), joined((row[0], row[0] + row[2]) for row in before)
    for logical, physical, nbytes, words in after:
        at, end = logical, logical + nbytes
        for start, stop in [*known, (end, end)]:
            if at < min(start, end):
                found.append((at, physical + at - logical, min(start, end) - at, words))
            at = max(at, stop)
    return sorted(found)


class NoCache:
    """A page cache in which nothing is."""

    nrpages = 0

    def needs_writeback(self, _pos: int, _nbytes: int) -> bool:
        """Return that nothing is dirty."""
        return False

    def has_page(self, _pos: int, _nbytes: int) -> bool:
        """Return that nothing is cached."""
        return False

    def write_and_wait_range(self, _io: int, _pos: int, _nbytes: int) -> Steps:
        """Do nothing: nothing is dirty."""
        yield from ()

    def invalidate_range(self, _io: int, _pos: int, _nbytes: int) -> Steps:
        """Do nothing: nothing is there."""
        yield from ()

    def i_size_changed(self) -> None:
        """Do nothing: nobody maps a record."""

    def fsync(self, _io: int) -> Steps:
        """Do nothing: flushes are not predicted."""
        yield from ()


NO_CACHE = NoCache()


class UnseenCache(NoCache):
    """The page cache of a captured device: it is empty, and its pages lie where nobody was told."""

    def __init__(self, file: File, by: Submitter) -> None:
        """Send bios for `file`."""
        self._file, self._by, self._next = file, by, SOMEWHERE

    def opened(self) -> Self:
        """Return this one: it remembers no reader."""
        return self

    def read(self, io: int, pos: int, nbytes: int, user: IovIter, *, nowait: bool = False) -> Generator[Wait, Any, int]:  # noqa: ARG002
        """Read what direct IO left over, a window ahead of every mark that the reader comes to (DIO-2, BUF-1)."""
        came = cast("Layout", user.mm).reachable(cut(user.pieces, 0, nbytes))
        index, last = pos >> PAGE_SHIFT, (pos + nbytes - 1) >> PAGE_SHIFT
        seen, end = (pos + min(came, nbytes - 1)) >> PAGE_SHIFT, (self._file.i_size - 1) >> PAGE_SHIFT
        ra, window = page_cache_sync_ra(FileRa(), index, last - index + 1, 0)
        while pages := sum(1 << order for _, order, _ in folios_of(window, end)):
            yield from self._send(io, window.start << PAGE_SHIFT, pages << PAGE_SHIFT, write=False)
            if not window.start <= window.mark <= seen:
                break
            at, miss = window.mark, window.start + window.size
            ra, following = page_cache_async_ra(ra, at, 1, last - at + 1, miss)
            if following is None:
                break
            window = following._replace(order=0)
        return came

    def write(
        self, io: int, pos: int | None, user: IovIter, nbytes: int, *, nowait: bool = False  # noqa: ARG002
    ) -> Generator[Wait, Any, int]:  # fmt: skip
        """Write what direct IO left over, and let it reach the device (DIO-1)."""
        pos = self._file.i_size if pos is None else pos
        nbytes = cast("Layout", user.mm).reachable(cut(user.pieces, 0, nbytes))
        start = pos & -PAGE_SIZE
        if nbytes:
            yield from self._send(io, start, -(-(pos + nbytes - start) // PAGE_SIZE) * PAGE_SIZE, write=True)
        return nbytes

    def _send(self, io: int, pos: int, nbytes: int, *, write: bool) -> Steps:
        """Send one bio of pages that lie somewhere, each on its own, in a plug."""
        addrs = [self._next + 2 * at for at in range(0, nbytes, PAGE_SIZE)]
        self._next += 4 * nbytes
        payload = phyrs_of(addrs, [PAGE_SIZE] * len(addrs))
        bio = Bio(
            self._by.env, next(self._by.bios), io, Sector(pos >> 9), payload, write=write,
            opf=Op.SYNC if write else Op.RAHEAD,
        )  # fmt: skip
        plug = Plug()
        yield from self._file.queue.submit_bio(bio, plug)
        yield from plug.flush()
