"""A file is read through its cache: what is missing comes from the device, with what is likely to be wanted next."""

import errno
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import PLAIN, Bio, Op
from labkit.kernel.fs.cache.bios import Part, submit
from labkit.kernel.fs.cache.completion import Completion, pieces
from labkit.kernel.fs.cache.core import Core, phys_of, start_of, would_block
from labkit.kernel.fs.cache.ops import CachedFolio, UserCopy
from labkit.kernel.fs.cache.readahead import (
    FileRa,
    Window,
    folios_of,
    page_cache_async_ra,
    page_cache_sync_ra,
)
from labkit.kernel.fs.ops import Iomap
from labkit.trace.page_flags import PG_locked, PG_readahead, PG_referenced, PG_uptodate, PG_writeback
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class Reader:
    """What one open file has of its readers: where they are (`ra`)."""

    def __init__(self, core: Core, how: Completion, ra: FileRa = FileRa()) -> None:  # noqa: B008 - it is frozen
        """Begin with no reader seen; a bio's end finds its folios as `how` says."""
        self.core, self.how, self.ra = core, how, ra

    def read(
        self, io: int, pos: int, nbytes: int, user: UserCopy, *, nowait: bool = False
    ) -> Generator[Wait, Any, int]:
        """Copy up to `nbytes` bytes at byte `pos` to `user`; return how many went: less at the end of the file.

        Raises SyscallError where not one went: EIO, ENOMEM, EFAULT, and EAGAIN where `nowait` and it is not there.
        """
        core, at, end = self.core, pos, pos + nbytes
        while at < min(end, core.file.i_size):
            try:
                folio = yield from self.uptodate(io, at, end - at, nowait=nowait)
            except SyscallError:
                if at > pos:
                    break
                raise
            take = min(end, core.file.i_size, start_of(folio) + folio.nbytes) - at
            copied = user.copy_to_iter(((phys_of(folio, at), take),)) if take > 0 else 0
            core.change(folio, PG_referenced, 0, io)
            yield from core.copied(io, at, copied, write=False)
            at += copied
            self.ra = self.ra._replace(prev=max(at - 1, 0) >> PAGE_SHIFT)
            if copied < take and at == pos:
                raise SyscallError("read", "the user's buffer", "cannot be written to", errno.EFAULT)
            if copied < take or take <= 0:
                break
        return at - pos

    def uptodate(
        self, io: int, pos: int, nbytes: int, *, nowait: bool = False, whole: bool = False
    ) -> Generator[Wait, Any, CachedFolio]:
        """Return the folio of byte `pos`, which has the file's bytes there, up to `nbytes` (filemap_get_pages).

        `whole`: all of the folio has them. Nobody promises that it stays: use it before time passes. Raises
        SyscallError EIO, ENOMEM, EAGAIN.
        """
        core, tried = self.core, False
        index, count = pos >> PAGE_SHIFT, -(-(pos + nbytes) // PAGE_SIZE) - (pos >> PAGE_SHIFT)
        while True:
            folio = core.mapping.find(index)
            if folio is None:
                yield from self._missed(io, index, count)
                continue
            if folio.flags & PG_readahead and not folio.flags & PG_writeback:
                yield from self._marked(io, folio, count)
            if folio.mapping is None:
                continue
            if self._has(folio, pos, nbytes, whole=whole):
                return folio
            if nowait:
                raise would_block(f"page {index} of {core.mapping.name}")
            yield from core.wait(folio, PG_locked)
            if folio.mapping is None or self._has(folio, pos, nbytes, whole=whole):
                continue
            if tried:
                raise SyscallError("filemap", f"page {index} of {core.mapping.name}", "could not be read", errno.EIO)
            tried = True
            yield from self._read_folio(io, folio)

    def fill(self, io: int, folios: Iterable[CachedFolio], opf: Op = PLAIN) -> Steps:
        """Send for what `folios`, which are locked, lack; each is unlocked when it has come, or has failed (BUF-2).

        Raises SyscallError where the file cannot say where it lies; all are unlocked all the same.
        """
        mine, parts, why = list(folios), list[Part](), None
        for folio in mine:
            try:
                parts += self._parts(folio)
            except SyscallError as bad:
                why = bad
        for folio in mine:
            if not self.core.blocks(folio).reading:
                self._end_folio(folio, io)
        yield from submit(self.core, io, parts, self._end_io, write=False, opf=opf)
        if why is not None:
            raise why

    def _has(self, folio: CachedFolio, pos: int, nbytes: int, *, whole: bool) -> bool:
        """Return whether `folio` has what is wanted of it (filemap_range_uptodate)."""
        if folio.flags & PG_uptodate or folio.private is None or whole:
            return bool(folio.flags & PG_uptodate)
        start = pos - start_of(folio)
        end = min(start + nbytes, folio.nbytes, self.core.file.i_size - start_of(folio))
        return start < end and self.core.blocks(folio).has(start, end - start)

    def _read_folio(self, io: int, folio: CachedFolio) -> Steps:
        """Read one folio that is there and not uptodate, and wait for it (filemap_read_folio)."""
        if not (yield from self.core.lock(folio, io)):
            return
        yield from self.fill(io, (folio,))
        yield from self.core.wait(folio, PG_locked)

    def _missed(self, io: int, index: int, count: int) -> Steps:
        """Read ahead from page `index`, which is missed (page_cache_sync_ra)."""
        mapping, before = self.core.mapping, 0
        while before < min(index, self.ra.ra_pages) and (found := mapping.find(index - 1 - before)) is not None:
            before = index - found.index
        self.ra, window = page_cache_sync_ra(self.ra, index, count, min(before, self.ra.ra_pages))
        yield from self._read_window(io, window)
        if mapping.find(index) is None:  # no memory for a window: for a page there is, or there is ENOMEM
            folio = mapping.add_folio(index, 0, PG_locked, io)
            yield from self.fill(io, () if folio is None else (folio,))

    def _marked(self, io: int, folio: CachedFolio, count: int) -> Steps:
        """Read the next window: the reader has come to the mark (page_cache_async_ra)."""
        self.core.change(folio, 0, PG_readahead, io)
        miss, limit = folio.index + 1, folio.index + 1 + self.ra.ra_pages
        while miss <= limit and (found := self.core.mapping.find(miss)) is not None:
            miss = found.index + (1 << found.order)
        pages = 1 << folio.order
        self.ra, window = page_cache_async_ra(self.ra, folio.index, pages, count, miss)
        if window is not None:
            yield from self._read_window(io, window)

    def _read_window(self, io: int, window: Window) -> Steps:
        """Add the folios of `window` to the cache, locked, and send for what they hold."""
        core, eof = self.core, (self.core.file.i_size - 1) >> PAGE_SHIFT
        added = list(self._added(io, window, eof))
        if added:
            told = (window.start, window.size, window.order, max(window.mark, -1))
            core.emit(("PageCacheRaOrder", core.env.now, io, *told))
        yield from self._quietly(io, added)

    def _quietly(self, io: int, folios: Sequence[CachedFolio]) -> Steps:
        """Send for `folios`; nobody hears of an error before he reads them himself."""
        try:
            yield from self.fill(io, folios, Op.RAHEAD)
        except SyscallError:
            return

    def _added(self, io: int, window: Window, eof: int) -> Iterator[CachedFolio]:
        """Yield folios for `window`, locked; page by page from the first on that cannot be had (do_page_cache_ra)."""
        at = window.start
        for at, order, marked in folios_of(window, eof):
            folio = self._add(io, at, order, marked=marked)
            if folio is None:
                break
            yield folio
        else:
            return
        for index in range(at, min(eof + 1, window.start + window.size)):
            folio = self._add(io, index, 0, marked=index == window.mark)
            if folio is not None:
                yield folio

    def _add(self, io: int, index: int, order: int, *, marked: bool) -> CachedFolio | None:
        try:
            return self.core.mapping.add_folio(index, order, PG_locked | (PG_readahead if marked else 0), io)
        except SyscallError:
            return None

    def _parts(self, folio: CachedFolio) -> Iterator[Part]:
        """Yield what of `folio` must come from the device; holes and what lies beyond the end are zeroed at once."""
        core, blocks = self.core, self.core.blocks(folio)
        for start, nbytes in blocks.runs(blocks.every & ~blocks.uptodate):
            pos, end = start_of(folio) + start, start_of(folio) + start + nbytes
            while pos < end:
                found = self._map(pos, end - pos)
                size = core.within(found, pos, end)
                if found.type == "mapped":
                    blocks.reading += size
                    yield Part(pos, found.addr + pos - found.offset, phys_of(folio, pos), size)
                else:
                    size = end - pos if found.type == "inline" else size
                    core.bring(found, folio, pos, size)
                    blocks.uptodate |= blocks.whole(pos - start_of(folio), size)
                pos += size

    def _map(self, pos: int, nbytes: int) -> Iomap:
        """Return where byte `pos` lies, and how far that goes on; beyond the end of the file there is a hole."""
        file = self.core.file
        size = -(-file.i_size // file.block_size) * file.block_size
        if pos >= size:
            return Iomap("hole", pos, nbytes)
        return file.iomap_begin(pos, min(nbytes, size - pos), write=False, direct=False)

    def _end_io(self, bio: Bio, _part: Part) -> None:
        """Set uptodate what has come, and unlock each folio of which nothing is on its way any more (BUF-2)."""
        for folio, start, nbytes, _ in pieces(self.core, self.how, bio):
            blocks = self.core.blocks(folio)
            blocks.reading -= nbytes
            if not bio.error:
                blocks.uptodate |= blocks.whole(start, nbytes)
            if not blocks.reading:
                self._end_folio(folio, bio.io)

    def _end_folio(self, folio: CachedFolio, io: int) -> None:
        """Unlock `folio`, uptodate if all of it is: both at once (folio_end_read)."""
        blocks = self.core.blocks(folio)
        self.core.unlock(folio, io, PG_uptodate if blocks.uptodate == blocks.every else 0)
