"""The cache of one file, as system calls, direct IO and the flusher see it."""

import errno
from collections.abc import Generator, Iterator
from copy import copy
from typing import Any

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Clock, Steps, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.flush import blkdev_issue_flush
from labkit.kernel.fs.cache.completion import WAYS, Completion
from labkit.kernel.fs.cache.core import Core, would_block
from labkit.kernel.fs.cache.ops import Mapping, UserCopy
from labkit.kernel.fs.cache.read import Reader
from labkit.kernel.fs.cache.readahead import FileRa
from labkit.kernel.fs.cache.write import Writer, Zeros
from labkit.kernel.fs.cache.writeback import Writeback
from labkit.kernel.fs.ops import File
from labkit.kernel.fs.rwsem import InodeLock
from labkit.trace.page_flags import PG_dirty, PG_locked, PG_writeback
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class PageCache:
    """Buffered IO of one file, and what keeps direct IO to the same file and its mappings coherent (DIO-18).

    A device has one too: its file is one extent. `completion` chooses how the end of a bio finds its folios again, as
    proposed ("phys_to_folio") or as upstream ("folio_walk"); what the cache holds is the same.
    """

    def __init__(
        self, env: Clock, cpu: Cpu, mapping: Mapping, file: File, queue: BioConsumer, emit: Emit,
        completion: Completion = "phys_to_folio", bios: Iterator[int] | None = None,
    ) -> None:  # fmt: skip
        """Join the parts; `bios` numbers bios. Raises BadInput EINVAL for a completion that is none."""
        if completion not in WAYS:
            rule = f"is none of {', '.join(WAYS)}"
            raise BadInput("page cache", f"completion={completion!r}", rule, errno.EINVAL)
        self._core = Core(env, cpu, mapping, file, queue, emit, bios)
        self._reader = Reader(self._core, completion)
        self._writer = Writer(self._core, completion, self._reader)
        self._writeback = Writeback(self._core, completion)
        self.mapping, self.completion = mapping, completion
        self._lock: InodeLock | None = getattr(file, "i_rwsem", None)

    @property
    def nrpages(self) -> int:
        """Pages that are cached."""
        return self.mapping.nrpages

    @property
    def ra(self) -> FileRa:
        """What is known of the reader."""
        return self._reader.ra

    @ra.setter
    def ra(self, ra: FileRa) -> None:
        """Let another open file read, or the same one with a window of `ra_pages`."""
        self._reader.ra = ra

    def read(
        self, io: int, pos: int, nbytes: int, user: UserCopy, *, nowait: bool = False
    ) -> Generator[Wait, Any, int]:
        """Copy up to `nbytes` bytes at byte `pos` to `user`; return how many went: less at the end of the file.

        Raises SyscallError where not one went: EIO, ENOMEM, EFAULT, and EAGAIN where `nowait` and it is not there.
        """
        return (yield from self._reader.read(io, pos, nbytes, user, nowait=nowait))

    def write(
        self, io: int, pos: int | None, data: UserCopy, nbytes: int, *, nowait: bool = False, dsync: bool = False
    ) -> Generator[Wait, Any, int]:
        """Copy `nbytes` bytes of the user into the cache at byte `pos`; return how many went. The file grows to them.

        None for `pos` is its end (O_APPEND): the bytes are the last ones of the file at the time it returns. `dsync`:
        they are on the medium when it returns (O_DSYNC). Raises SyscallError where not one went: ENOSPC, ENOMEM, EIO,
        EFAULT, EAGAIN; and EIO where `dsync` and the device failed.
        """
        core, lock = self._core, self._lock
        if lock is not None and nowait and not lock.trylock(shared=False):
            raise would_block(f"{core.mapping.name}, which others write to,")
        if lock is not None and not nowait:
            yield from lock.down(core.env, shared=False)
        try:
            pos = core.file.i_size if pos is None else pos
            went: int = yield from self._writer.write(io, pos, data, nbytes, nowait=nowait)
        finally:
            if lock is not None:
                self._trim((pos or 0) + nbytes)
                lock.up()
        if dsync and went:
            yield from self.write_and_wait_range(io, pos, went)
            yield from self._flush(io)
        return went

    def fault(self, io: int, index: int, pages: int = 1) -> Steps:
        """Bring pages [index, index + pages) into the cache, for who wants to map them, and may wait (filemap_fault).

        Raises SyscallError EIO, ENOMEM; what lies beyond the end of the file is passed over.
        """
        pos, end = index << PAGE_SHIFT, (index + pages) << PAGE_SHIFT
        while pos < min(end, self._core.file.i_size):
            folio = yield from self._reader.uptodate(io, pos, PAGE_SIZE, whole=True)
            pos = (folio.index + (1 << folio.order)) << PAGE_SHIFT

    def needs_writeback(self, pos: int, nbytes: int) -> bool:
        """Return whether whoever may not wait finds something to wait for (filemap_range_needs_writeback)."""
        return bool(self._core.in_range(pos, nbytes, PG_dirty | PG_writeback | PG_locked))

    def has_page(self, pos: int, nbytes: int) -> bool:
        """Return whether a page of the range is cached (filemap_range_has_page)."""
        return bool(self._core.in_range(pos, nbytes))

    def opened(self) -> "PageCache":
        """Return the same cache for one more open file, which has readahead of its own (struct file_ra_state)."""
        other = copy(self)
        other._reader = Reader(self._core, self.completion, FileRa(ra_pages=self.ra.ra_pages))  # noqa: SLF001 - it is one of these
        return other

    def write_and_wait_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Let what is dirty of [pos, pos + nbytes) reach the device. Raises SyscallError EIO, ENOSPC: once (AS_EIO)."""
        yield from self._writeback.writepages(io, pos, nbytes)
        yield from self._writeback.fdatawait(pos, nbytes)
        self._core.check()

    def fsync(self, io: int) -> Steps:
        """Let all that is dirty reach the medium, the device's own cache too. Raises SyscallError as above.

        A file has no metadata left to write then: its next O_DSYNC write may go with FUA alone (DIO-10).
        """
        yield from self._writeback.writepages(io)
        yield from self._writeback.fdatawait()
        self._core.check()
        yield from self._flush(io)
        commit = getattr(self._core.file, "commit", None)
        if commit is not None:
            commit()

    def i_size_changed(self) -> None:
        """Let mappings reach as far as the file does now, when direct IO has made it longer."""
        self.mapping.nbytes = max(self.mapping.nbytes, self._core.file.i_size)

    def flusher(self, io: int = 0) -> Steps:
        """Send all that is dirty on its way, and wait for nothing (wb_workfn): a job for the background."""
        yield from self._writeback.writepages(io)

    def invalidate_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Drop the folios of [pos, pos + nbytes), mapped ones too (invalidate_inode_pages2_range, DIO-18).

        What is dirty again stays, and is EBUSY in the end. A pin is no reason to stay: whoever holds it keeps
        the folio, which is in no file from then on (DIO-19).
        """
        core, busy = self._core, 0
        for folio in core.in_range(pos, nbytes):
            core.mapping.unmap(folio.index)
            if not (yield from core.lock(folio, io)):
                continue
            yield from core.wait(folio, PG_writeback)
            core.mapping.unmap(folio.index)
            busy += bool(folio.flags & PG_dirty)
            core.unlock(folio, io)
            if not folio.flags & PG_dirty:
                core.mapping.remove(folio.index)
        if busy:
            what = f"{busy} folios of {core.mapping.name}"
            raise SyscallError("filemap", what, "are dirty again, and stay in the cache (DIO-18)", errno.EBUSY)

    def from_inode(self, io: int) -> Steps:
        """Bring a file that lies inside its inode into the cache, dirty: it is about to grow out of that."""
        yield from self._writer.from_inode(io)

    def zero_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Write zeros over what the file has of [pos, pos + nbytes), up to its end; holes stay holes.

        It is iomap_zero_range, for the parts of blocks that truncate and fallocate leave. Raises as `write` does.
        """
        core, end = self._core, min(pos + nbytes, self._core.file.i_size)
        while pos < end:
            found = core.file.iomap_begin(pos, end - pos, write=False, direct=False)
            part = core.within(found, pos, end)
            if found.type not in {"hole", "unwritten"} or core.in_range(pos, part, PG_dirty):
                yield from self._writer.write(io, pos, Zeros(core.mapping), part)
            pos += part

    def truncate(self, io: int, nbytes: int) -> Steps:
        """Forget all beyond byte `nbytes`: it waits for IO on the way, and for no pin (BUF-4, MM-24)."""
        core = self._core
        for folio in core.in_range(nbytes, 1 << 62):
            if (yield from core.lock(folio, io)):
                yield from core.wait(folio, PG_writeback)
                core.unlock(folio, io)
        core.mapping.truncate(nbytes)

    def _trim(self, end: int) -> None:
        """Free what a write took beyond the end of the file, which it should have moved to `end`, and did not."""
        trim = getattr(self._core.file, "trim", None)
        if trim is not None and self._core.file.i_size < end:
            trim()

    def _flush(self, io: int) -> Steps:
        """Let the device write its own cache to the medium (blkdev_issue_flush)."""
        yield from blkdev_issue_flush(self._core.queue, self._core.env, io, next(self._core.bios))
