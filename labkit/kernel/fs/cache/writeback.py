"""Dirty folios go out to the device, and whoever must know waits for them (iomap_writepages, filemap_fdatawait)."""

import errno
from collections.abc import Iterator

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps
from labkit.kernel.block.bio import Bio
from labkit.kernel.fs.cache.bios import Part, submit
from labkit.kernel.fs.cache.completion import Completion, pieces
from labkit.kernel.fs.cache.core import Core, phys_of, start_of
from labkit.kernel.fs.cache.ops import CachedFolio
from labkit.kernel.fs.ops import Iomap
from labkit.trace.page_flags import PG_dirty, PG_locked, PG_writeback

_EVERYTHING = 1 << 63


class Writeback:
    """Writing back one file."""

    def __init__(self, core: Core, how: Completion) -> None:
        """Write back; the end of a bio finds its folios as `how` says."""
        self.core, self.how = core, how

    def writepages(self, io: int, pos: int = 0, nbytes: int = _EVERYTHING) -> Steps:
        """Send the dirty folios that have a byte of [pos, pos + nbytes) on their way.

        What fails on the way is kept for who asks next (Core.check). It is a job of its own: who waits for it may be
        given up (Ctrl-C), and what was dirty goes out all the same.
        """
        dirty = self.core.in_range(pos, nbytes, PG_dirty)
        if dirty:
            yield self.core.env.job(self._writepages(io, dirty))

    def _writepages(self, io: int, dirty: list[CachedFolio]) -> Steps:
        core, ready = self.core, list[Part]()
        for folio in dirty:
            if folio.flags & (PG_locked | PG_writeback):  # who waits sends on first what others may wait for
                batch, ready = ready, []
                yield from self._send(io, batch)
            if not (yield from core.lock(folio, io)):
                continue
            yield from core.wait(folio, PG_writeback)
            if folio.mapping is not None and folio.flags & PG_dirty:
                ready += self._start(folio, io)
            else:
                core.unlock(folio, io)
        yield from self._send(io, ready)

    def fdatawait(self, pos: int = 0, nbytes: int = _EVERYTHING) -> Steps:
        """Wait until nothing of [pos, pos + nbytes) is on its way to the device (filemap_fdatawait_range)."""
        for folio in self.core.in_range(pos, nbytes, PG_writeback):
            yield from self.core.wait(folio, PG_writeback)

    def _send(self, io: int, parts: list[Part]) -> Steps:
        yield from submit(self.core, io, parts, self._end_io, write=True)

    def _start(self, folio: CachedFolio, io: int) -> list[Part]:
        """Turn dirty `folio`, which is locked, into parts under writeback; one without any is clean at once.

        Its entries are made read-only first, so that a store from now on makes it dirty again (folio_mkclean).
        """
        core, blocks, parts = self.core, self.core.blocks(folio), list[Part]()
        core.mapping.mkclean(folio.index)
        core.change(folio, PG_writeback, PG_dirty | PG_locked, io)
        bits, blocks.dirty = blocks.dirty, 0
        try:
            parts.extend(self._parts(folio, bits))
        except SyscallError as bad:
            core.fail(bad.errno)
        blocks.writing = sum(part.nbytes for part in parts)
        if not parts:
            core.change(folio, 0, PG_writeback, io)
        return parts

    def _parts(self, folio: CachedFolio, bits: int) -> Iterator[Part]:
        """Yield where the dirty blocks `bits` of `folio` go; what lies beyond the end of the file goes as zeros."""
        core, size = self.core, self.core.file.i_size
        block = core.file.block_size
        first, last = start_of(folio), start_of(folio) + folio.nbytes
        if first < size < last:
            core.mapping.wipe(phys_of(folio, size), last - size)
        for start, nbytes in core.blocks(folio).runs(bits):
            pos, end = first + start, min(first + start + nbytes, -(-size // block) * block)
            while pos < end:
                found = self._map_blocks(pos, end - pos)
                if found.type == "inline":
                    self._drain(folio, pos)
                    return
                part = core.within(found, pos, end)
                yield self._part(folio, found, pos, part)
                pos += part

    def _drain(self, folio: CachedFolio, pos: int) -> None:
        """Put what a file has inside its inode back there, from byte `pos` on: it goes with the inode."""
        mapping, left = self.core.mapping, self.core.file.i_size - pos
        if mapping.drain is not None and left > 0:
            mapping.drain(pos, ((phys_of(folio, pos), left),))

    def _map_blocks(self, pos: int, nbytes: int) -> Iomap:
        """Return where byte `pos` goes; a file that promised blocks finds them now."""
        file = self.core.file
        find = getattr(file, "map_blocks", None)
        found: Iomap = find(pos, nbytes) if find else file.iomap_begin(pos, nbytes, write=True, direct=False)
        if found.type not in {"mapped", "unwritten", "inline"}:
            raise SyscallError("writeback", f"byte {pos} of {self.core.mapping.name}", f"is {found.type}", errno.EIO)
        return found

    @staticmethod
    def _part(folio: CachedFolio, found: Iomap, pos: int, nbytes: int) -> Part:
        dev = found.addr + pos - found.offset
        return Part(pos, dev, phys_of(folio, pos), nbytes, found.type == "unwritten" or found.shared)

    def _end_io(self, bio: Bio, part: Part) -> None:
        """Let the file know what has reached the device, and end the writeback of each folio that is done (BUF-3)."""
        core = self.core
        if bio.error:
            core.fail(bio.error)
        else:
            self._written(part)
        for folio, _, nbytes, _ in pieces(core, self.how, bio):
            blocks = core.blocks(folio)
            blocks.writing -= nbytes
            if not blocks.writing:
                core.change(folio, 0, PG_writeback, bio.io)

    def _written(self, part: Part) -> None:
        """Make the blocks written that were not, up to the end of the file (iomap_finish_ioend)."""
        file = self.core.file
        nbytes = min(part.nbytes, file.i_size - part.pos)
        try:
            if nbytes > 0:
                extend = part.pos + nbytes == file.i_size
                file.end_io(part.pos, nbytes, unwritten=part.unwritten, extend=extend)
        except SyscallError as bad:
            self.core.fail(bad.errno)
