"""A file is written through its cache: bytes become dirty folios, as large as the write is (iomap_write_iter)."""

import errno
from collections.abc import Generator, Iterator
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import Bio
from labkit.kernel.fs.cache.bios import Part, submit
from labkit.kernel.fs.cache.completion import Completion, pieces
from labkit.kernel.fs.cache.core import Core, phys_of, start_of, would_block
from labkit.kernel.fs.cache.ops import CachedFolio, Mapping, UserCopy
from labkit.kernel.fs.cache.read import Reader
from labkit.kernel.fs.ops import Iomap
from labkit.scatter.payload import Ranges
from labkit.trace.page_flags import PG_dirty, PG_locked, PG_uptodate
from labkit.units import PAGE_SHIFT, PMD_ORDER


class Zeros:
    """A user who has zeros, and as many as are wanted."""

    def __init__(self, mapping: Mapping) -> None:
        """Zero memory as `mapping` does."""
        self._mapping = mapping

    def copy_to_iter(self, ranges: Ranges) -> int:
        """Take what is read, and forget it."""
        return sum(nbytes for _, nbytes in ranges)

    def copy_from_iter(self, ranges: Ranges) -> int:
        """Fill `ranges` (physical) with zeros."""
        for addr, nbytes in ranges:
            self._mapping.wipe(addr, nbytes)
        return sum(nbytes for _, nbytes in ranges)


class Writer:
    """Buffered writes to one file."""

    def __init__(self, core: Core, how: Completion, reader: Reader) -> None:
        """Write; `reader` brings what is overwritten in part; the end of a bio finds its folios as `how` says."""
        self.core, self.how, self.reader = core, how, reader

    def write(
        self, io: int, pos: int, data: UserCopy, nbytes: int, *, nowait: bool = False
    ) -> Generator[Wait, Any, int]:
        """Copy `nbytes` bytes of the user into the cache at byte `pos`; return how many went. The file grows to them.

        Raises SyscallError where not one went: ENOSPC, ENOMEM, EIO where half a block had to be read first, EFAULT,
        EAGAIN where `nowait` and somebody would have to wait.
        """
        core, at, end, stop = self.core, pos, pos + nbytes, pos
        try:
            self._zero_gap(pos)
            yield from self.from_inode(io)
            while at < end:
                if at >= stop:
                    found = core.file.iomap_begin(at, end - at, write=True, direct=False, nowait=nowait)
                    stop = at + core.within(found, at, end, errno.ENOSPC)
                went, wanted = yield from self._some(io, found, at, stop - at, data, nowait=nowait)
                at += went
                if went < wanted:
                    break
        except SyscallError:
            if at == pos:
                raise
        if at == pos and nbytes:
            raise SyscallError("write", "the user's buffer", "cannot be read", errno.EFAULT)
        return at - pos

    def from_inode(self, io: int) -> Steps:
        """Bring a file that lies inside its inode into the cache, dirty: it may grow out of that."""
        file = self.core.file
        if file.i_size and file.iomap_begin(0, 1, write=False, direct=False).type == "inline":
            folio = yield from self.reader.uptodate(io, 0, 1)
            self.core.blocks(folio).dirty |= 1
            self.core.change(folio, PG_dirty, 0, io)

    def _some(
        self, io: int, found: Iomap, pos: int, nbytes: int, data: UserCopy, *, nowait: bool
    ) -> Generator[Wait, Any, tuple[int, int]]:
        """Write what one folio holds of [pos, pos + nbytes); return how many bytes went, of how many."""
        core = self.core
        folio = yield from self._get_folio(io, pos, nbytes, nowait=nowait)
        put = went = 0
        try:
            want = min(nbytes, start_of(folio) + folio.nbytes - pos)
            yield from self._begin(io, folio, found, pos, want, nowait=nowait)
            copied = data.copy_from_iter(((phys_of(folio, pos), want),))
            went = self._end(folio, pos, copied, want)
            blocks = core.blocks(folio)
            put = (PG_dirty if went else 0) | (PG_uptodate if blocks.uptodate == blocks.every else 0)
        finally:
            core.unlock(folio, io, put)
        yield from core.copied(io, pos, went, write=True)
        return went, want

    def _get_folio(self, io: int, pos: int, nbytes: int, *, nowait: bool) -> Generator[Wait, Any, CachedFolio]:
        """Return the folio of byte `pos`, locked; a new one is as large as what is written (FGP_WRITEBEGIN)."""
        mapping, index = self.core.mapping, pos >> PAGE_SHIFT
        while True:
            folio = mapping.find(index)
            if folio is None and (folio := self._new(io, index, nbytes)) is not None:
                return folio
            if folio is None:
                continue
            if nowait and folio.flags & PG_locked:
                raise would_block(f"page {index} of {mapping.name}")
            if (yield from self.core.lock(folio, io)):
                return folio

    def _new(self, io: int, index: int, nbytes: int) -> CachedFolio | None:
        """Add a locked folio at page `index` for a write of `nbytes`: the largest that fits there, and is to be had.

        Raises SyscallError ENOMEM where not even a page is.
        """
        order = min(PMD_ORDER, max(0, nbytes.bit_length() - 1 - PAGE_SHIFT))
        order = min(order, (index & -index).bit_length() - 1) if index else order
        while order > 0:
            try:
                folio = self.core.mapping.add_folio(index, order, PG_locked, io)
            except SyscallError:
                folio = None
            if folio is not None:
                return folio
            order -= 1
        return self.core.mapping.add_folio(index, 0, PG_locked, io)

    def _begin(self, io: int, folio: CachedFolio, found: Iomap, pos: int, nbytes: int, *, nowait: bool) -> Steps:
        """Make the blocks uptodate that are written in part: zeroed where the file has nothing, else read first."""
        core, blocks, parts = self.core, self.core.blocks(folio), list[Part]()
        start = pos - start_of(folio)
        half = blocks.touched(start, nbytes) & ~blocks.whole(start, nbytes) & ~blocks.uptodate
        for at, size in blocks.runs(half):
            for bit in range(at, at + size, 1 << blocks.shift):
                if self._fresh(found, start_of(folio) + bit):
                    core.bring(found, folio, start_of(folio) + bit, 1 << blocks.shift)
                    blocks.uptodate |= blocks.whole(bit, 1 << blocks.shift)
                else:
                    parts += self._old(folio, bit, 1 << blocks.shift)
        if parts and nowait:
            raise would_block(f"half a block at {pos} of {core.mapping.name}")
        if parts:
            yield from self._read(io, folio, parts)
        if half & ~blocks.uptodate:
            raise SyscallError("write", f"half a block at {pos} of {core.mapping.name}", "could not be read", errno.EIO)

    def _fresh(self, found: Iomap, pos: int) -> bool:
        """Return whether the file has nothing in the block at byte `pos` yet (iomap_block_needs_zeroing)."""
        return found.type != "mapped" or found.new or pos >= self.core.file.i_size

    def _old(self, folio: CachedFolio, start: int, nbytes: int) -> Iterator[Part]:
        """Yield where the device has the block at byte `start` of `folio` (IOMAP source: what is shared is there)."""
        pos = start_of(folio) + start
        found = self.core.file.iomap_begin(pos, nbytes, write=False, direct=False)
        yield Part(pos, found.addr + pos - found.offset, phys_of(folio, pos), nbytes)

    def _read(self, io: int, folio: CachedFolio, parts: list[Part]) -> Steps:
        """Read `parts` of a folio that is locked, and wait; it stays locked (iomap_read_folio_range)."""
        done = self.core.env.event()
        self.core.blocks(folio).reading = sum(part.nbytes for part in parts)

        def end_io(bio: Bio, _part: Part) -> None:
            for other, start, nbytes, _ in pieces(self.core, self.how, bio):
                blocks = self.core.blocks(other)
                blocks.reading -= nbytes
                blocks.uptodate |= 0 if bio.error else blocks.whole(start, nbytes)
                if not blocks.reading:
                    done.succeed()

        yield from submit(self.core, io, parts, end_io, write=False)
        yield done

    def _end(self, folio: CachedFolio, pos: int, copied: int, wanted: int) -> int:
        """Account `copied` bytes of `wanted` as dirty; return how many count (iomap_write_end).

        A copy that ended early leaves a block half written: where the rest of it is not known, it does not count.
        """
        core, blocks, start = self.core, self.core.blocks(folio), pos - start_of(folio)
        if copied < wanted and not blocks.uptodate & blocks.touched(start + copied, 1):
            edge = start + copied >> blocks.shift << blocks.shift
            copied = max(0, edge - start)
        if copied:
            blocks.uptodate |= blocks.touched(start, copied)
            blocks.dirty |= blocks.touched(start, copied)
            core.file.i_size = max(core.file.i_size, pos + copied)
            core.mapping.nbytes = max(core.mapping.nbytes, core.file.i_size)
        return copied

    def _zero_gap(self, pos: int) -> None:
        """Zero what the last folio holds beyond the end of the file, where a write begins beyond it."""
        size = self.core.file.i_size
        folio = self.core.mapping.find(size >> PAGE_SHIFT) if pos > size else None
        if folio is not None and size > start_of(folio):
            self.core.mapping.wipe(phys_of(folio, size), min(start_of(folio) + folio.nbytes, pos) - size)
