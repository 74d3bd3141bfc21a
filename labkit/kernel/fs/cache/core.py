"""What reading, writing and writing back share: the file, its folios, their locks, and who waits for them."""

import errno
from collections.abc import Generator, Iterator
from itertools import count
from typing import Any

from simpy import Event

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.fs.cache.blocks import Blocks, blocks_of
from labkit.kernel.fs.cache.ops import CachedFolio, Mapping
from labkit.kernel.fs.ops import File, Iomap
from labkit.trace.page_flags import PG_locked
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class Core:
    """One file and its cache. PG_locked and PG_writeback keep a folio where it is; no pin does (BUF-4)."""

    def __init__(
        self, env: Clock, cpu: Cpu, mapping: Mapping, file: File, queue: BioConsumer, emit: Emit,
        bios: Iterator[int] | None = None,
    ) -> None:  # fmt: skip
        """Join the parts; `bios` numbers bios."""
        self.env, self.cpu, self.mapping, self.file, self.queue, self.emit = env, cpu, mapping, file, queue, emit
        self.bios = count(1) if bios is None else bios
        self.error = 0
        """The errno of a write that failed since somebody asked (AS_EIO, AS_ENOSPC)."""
        self._waiting: dict[int, Event] = {}

    def change(self, folio: CachedFolio, put: int, take: int = 0, io: int = 0) -> None:
        """Set the flags `put` of `folio`, clear `take`, tell the trace if that changes any, and wake who waits."""
        new = (folio.flags | put) & ~take
        if new != folio.flags:
            gained, lost, folio.flags = new & ~folio.flags, folio.flags & ~new, new
            self.emit(("FolioFlags", self.env.now, io, ((folio.pfn << PAGE_SHIFT, folio.nbytes),), gained, lost))
            if folio.mapping is None:
                self.mapping.release_orphans()
        woken = self._waiting.pop(id(folio), None) if take else None
        if woken is not None:
            woken.succeed()

    def wait(self, folio: CachedFolio, flags: int) -> Steps:
        """Sleep until `folio` has none of `flags` (folio_wait_bit)."""
        while folio.flags & flags:
            if id(folio) not in self._waiting:
                self._waiting[id(folio)] = Event(self.env)
            yield self._waiting[id(folio)]
            yield self.cpu.wakeup

    def lock(self, folio: CachedFolio, io: int) -> Generator[Wait, Any, bool]:
        """Sleep until `folio` is nobody's, and lock it (folio_lock); False: it has left the file meanwhile."""
        yield from self.wait(folio, PG_locked)
        if folio.mapping is None:
            return False
        self.change(folio, PG_locked, 0, io)
        return True

    def unlock(self, folio: CachedFolio, io: int, put: int = 0) -> None:
        """Unlock `folio`, with the flags `put` from then on (folio_unlock)."""
        self.change(folio, put, PG_locked, io)

    def blocks(self, folio: CachedFolio) -> Blocks:
        """Return the blocks of `folio`."""
        return blocks_of(folio, self.file.block_size)

    def in_range(self, pos: int, nbytes: int, flags: int = -1) -> list[CachedFolio]:
        """Return the folios that have a byte of [pos, pos + nbytes), those with one of `flags`."""
        found = self.mapping.folios(pos >> PAGE_SHIFT, -(-(pos + nbytes) >> PAGE_SHIFT)) if nbytes > 0 else ()
        return [folio for folio in found if folio.flags & flags or flags == -1]

    def within(self, found: Iomap, pos: int, end: int, error: int = errno.EIO) -> int:
        """Return how many bytes of [pos, end) the mapping `found` holds. Raises SyscallError `error` for none."""
        nbytes = min(end, found.offset + found.length) - pos
        if nbytes <= 0:
            raise SyscallError("iomap", f"byte {pos} of {self.mapping.name}", "lies nowhere", error)
        return nbytes

    def bring(self, found: Iomap, folio: CachedFolio, pos: int, nbytes: int) -> None:
        """Fill `nbytes` at byte `pos` without a device: with zeros, or with what `found` has inside the inode."""
        self.mapping.wipe(phys_of(folio, pos), nbytes)
        size = min(found.offset + found.length, self.file.i_size, pos + nbytes) - pos
        if found.type == "inline" and size > 0 and self.mapping.fill is not None:
            self.mapping.fill(pos, ((phys_of(folio, pos), size),))

    def copied(self, io: int, pos: int, nbytes: int, *, write: bool) -> Steps:
        """Account a copy of `nbytes` bytes at byte `pos` of the file, and the time that it took."""
        self.emit(("CopyFolio", self.env.now, io, pos, nbytes, write))
        yield -(-self.cpu.copy_page * nbytes // PAGE_SIZE)

    def fail(self, error: int) -> None:
        """Keep the errno of a write that failed, for who asks next (mapping_set_error)."""
        self.error = self.error or error

    def check(self) -> None:
        """Raise SyscallError, once, for what failed since the last time (filemap_check_errors)."""
        error, self.error = self.error, 0
        if error:
            raise SyscallError("filemap", self.mapping.name, "lost a write: its device failed", error)


def start_of(folio: CachedFolio) -> int:
    """Return which byte of the file is the first of `folio` (folio_pos)."""
    return folio.index << PAGE_SHIFT


def phys_of(folio: CachedFolio, pos: int) -> int:
    """Return where in memory byte `pos` of the file is, which `folio` holds (physical)."""
    return (folio.pfn << PAGE_SHIFT) + pos - start_of(folio)


def would_block(what: str) -> SyscallError:
    """Return the error for `what` where nobody may wait (IOCB_NOWAIT)."""
    return SyscallError("filemap", what, "would have to be waited for (RWF_NOWAIT)", errno.EAGAIN)
