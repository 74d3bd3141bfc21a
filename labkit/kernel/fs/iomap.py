"""Direct IO on a file of extents, in the order of __iomap_dio_rw (fs/iomap/direct-io.c, DIO-10..18)."""

import errno
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import BIO_MAX_VECS, Op
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.plug import Plug
from labkit.kernel.fs.bdev import check_memory, make_coherent
from labkit.kernel.fs.ops import NO_FLAGS, Cache, DioIter, File, Iocb, Iomap, Kiocb, Taken
from labkit.kernel.fs.rwsem import InodeLock
from labkit.kernel.fs.submission import Submission, Submitter
from labkit.scatter.phyr import phyrs_of
from labkit.units import PhysAddr

IOMAP_ZERO_PAGE_SIZE = 64 << 10
"""Bytes of the static page of zeros that the rest of a new block is written from (DIO-10)."""


class IomapFile:
    """An open regular file: where its bytes lie (`inode`), its page cache, and the queue of the device below."""

    def __init__(
        self, name: str, inode: File, cache: Cache, queue: BioConsumer, by: Submitter, zeros: PhysAddr
    ) -> None:
        """Join the parts; `zeros` is the physical address of IOMAP_ZERO_PAGE_SIZE bytes of zeros."""
        self.name, self.inode, self.cache, self.queue, self.by, self._zeros = name, inode, cache, queue, by, zeros
        self.lock: InodeLock | None = getattr(inode, "i_rwsem", None)

    @property
    def i_size(self) -> int:
        """Bytes of the file."""
        return self.inode.i_size

    @property
    def dio(self) -> bool:
        """Whether direct IO can be had: not of a file inside its inode, for one (ext4_should_use_dio)."""
        return getattr(self.inode, "dio", True) and getattr(self.inode, "inline", None) is None

    def check(
        self, call: str, pos: int, nbytes: int, *, write: bool, flags: Iocb = NO_FLAGS, direct: bool = True
    ) -> int:  # fmt: skip
        """Return how many bytes the call is for: none at the end of the file or beyond, for a read."""
        del call, flags, direct  # other files look at them
        return nbytes if write or pos < self.i_size else 0

    def dio_submit(self, sub: Submission, it: DioIter) -> Steps:
        """Go through the extents, and send their bios, in one plug. Raises SyscallError where nothing may be sent.

        ENOTBLK: the page cache could not be dropped, or this file has no direct IO: the caller does it buffered. What
        ends the IO later is `sub.error`: the whole IO fails then (DIO-14). Whoever sends and goes shares the lock no
        longer than this; that the IO is on its way is counted until its end.
        """
        iocb = sub.iocb
        shared = yield from self._inode_lock(sub)
        now, sub.i_size = self.by.env.now, self.i_size
        self.by.emit(("IomapDioRwBegin", now, iocb.io, self.inode.ino, sub.i_size, iocb.pos, iocb.nbytes))
        yield from self._prepare(sub)
        own = sub.plug is None and not self._small_read(sub)
        if own:
            sub.plug = Plug()
        try:
            yield from self._extents(sub, it)
        except SyscallError as bad:
            if bad.errno != errno.ENOTBLK or not sub.bios:
                sub.error = bad  # else what came before counts, and the caller does the rest buffered
        if own and sub.plug is not None:
            yield from sub.plug.flush()
        if shared and self.lock is not None and iocb.flags & Iocb.ASYNC:
            sub.ends.remove(self.lock.up)
            self.lock.up()

    def dio_complete(self, sub: Submission) -> Generator[Wait, Any, int]:
        """Finish the IO, in the order of DIO-12, and return the bytes that were moved. Raises what the IO met."""
        bad = sub.failure(f"{self.name}, on its device,") or sub.error
        try:
            if bad is not None:
                raise bad
            if sub.iocb.write:
                yield from self._end_write(sub)
                ret = sub.size
            else:
                ret = max(0, min(sub.size, sub.i_size - sub.iocb.pos))
        except SyscallError as error:
            self._tell(sub, -error.errno, -error.errno)
            raise
        self._tell(sub, 0, ret)
        return ret

    def _end_write(self, sub: Submission) -> Steps:
        """Make the blocks written, and the file longer; drop what is cached of them, and sync where that is asked."""
        iocb = sub.iocb
        self.inode.end_io(iocb.pos, sub.size, unwritten=sub.unwritten, extend=sub.extend)
        self.cache.i_size_changed()
        with suppress(SyscallError):  # a fault has brought pages back: upstream warns that they are stale (DIO-18)
            yield from self.cache.invalidate_range(iocb.io, iocb.pos, sub.size)
        if sub.need_sync:
            yield from self.cache.fsync(iocb.io)

    def _inode_lock(self, sub: Submission) -> Generator[Wait, Any, bool]:
        """Take i_rwsem, and return whether it is shared; `sub` lets go of it in the end (DIO-17c).

        Whoever writes half a block that is not written yet, or makes the file longer, is alone, and the former waits
        for direct IO on its way: each zeroes what is not its own. An O_APPEND write learns here where the end is.
        Raises SyscallError EAGAIN where nobody may wait, or be alone.
        """
        lock, iocb = self.lock, sub.iocb
        if lock is None:
            return False
        shared = self._shares(iocb)
        if iocb.flags & Iocb.NOWAIT:
            if not (shared and lock.trylock(shared=True)):
                rule = "is locked, or would have to be for this alone (NOWAIT, DIO-17c)"
                raise SyscallError(iocb.call, self.name, rule, errno.EAGAIN)
        else:
            yield from self._down(lock, sub, shared=shared)
            if shared and not self._shares(iocb):  # the file has changed meanwhile
                lock.up()
                yield from self._down(lock, sub, shared=(shared := False))
        sub.ends.append(lock.up)
        if iocb.write and iocb.flags & Iocb.APPEND:
            iocb.pos = self.i_size
        if not shared and (iocb.pos | iocb.nbytes) % self.inode.block_size and lock.dios:
            yield from sub.asleep()
            yield from lock.dio_wait(self.by.env)
        lock.dio_begin()
        sub.ends += [lock.dio_end, partial(self._trim, sub)]
        return shared

    def _down(self, lock: InodeLock, sub: Submission, *, shared: bool) -> Steps:
        """Take the lock; whoever sleeps for it sends on first what he keeps back (MQ-1)."""
        if not lock.trylock(shared=shared):
            yield from sub.asleep()
            yield from lock.down(self.by.env, shared=shared)

    def _shares(self, iocb: Kiocb) -> bool:
        """Return whether an IO may go on beside others: a read, or what overwrites whole blocks, or written ones."""
        end, block = iocb.pos + iocb.nbytes, self.inode.block_size
        if not iocb.write or iocb.flags & Iocb.APPEND or end > self.i_size:
            return not iocb.write
        if not (iocb.pos | iocb.nbytes) % block:
            return True
        found = self.inode.iomap_begin(iocb.pos, iocb.nbytes, write=False)
        return found.type == "mapped" and found.offset + found.length >= end

    def _trim(self, sub: Submission) -> None:
        """Free what a write that should have made the file longer, and did not, took beyond its end."""
        trim = getattr(self.inode, "trim", None)
        if sub.extend and trim is not None and self.i_size < sub.iocb.pos + sub.iocb.nbytes:
            trim()

    def _prepare(self, sub: Submission) -> Steps:
        """Make the page cache agree with the device, and note what the end of a write has to do."""
        iocb = sub.iocb
        yield from make_coherent(self.cache, sub, self.name)
        if iocb.write:
            sub.need_sync = bool(iocb.flags & (Iocb.DSYNC | Iocb.SYNC))
            sub.extend = iocb.pos + iocb.nbytes > self.i_size

    def _extents(self, sub: Submission, it: DioIter) -> Steps:
        """Treat each extent as what it is."""
        iocb = sub.iocb
        pos, end, nowait = iocb.pos, iocb.pos + iocb.nbytes, bool(iocb.flags & Iocb.NOWAIT)
        through = sub.need_sync and not iocb.flags & Iocb.SYNC
        while pos < end:
            found = self.inode.iomap_begin(pos, end - pos, write=iocb.write, nowait=nowait)
            self._tell_map(iocb.io, found)
            nbytes = min(found.offset + found.length, end) - pos
            if found.type == "delalloc" or (found.type == "hole" and iocb.write):
                rule = f"is {found.type}: somebody writes through a mapping at once"
                raise SyscallError(iocb.call, f"{self.name} at {pos}", rule, errno.EIO)
            if found.type in {"hole", "inline"} or (found.type == "unwritten" and not iocb.write):
                yield from it.zero(nbytes)
                sub.size, sub.at = sub.size + nbytes, sub.at + nbytes
                self.by.emit(("IovIterZero", self.by.env.now, iocb.io, pos - iocb.pos, nbytes))
            else:
                through = (yield from self._bios(sub, it, found, pos, nbytes, through=through)) and through
            pos += nbytes
        if through and iocb.write:
            sub.need_sync = False  # every byte went with FUA: WRITE_THROUGH survived

    def _bios(
        self, sub: Submission, it: DioIter, found: Iomap, pos: int, nbytes: int, *, through: bool
    ) -> Generator[Wait, Any, bool]:
        """Send the bios of one extent (DIO-10, DIO-11); return whether they reach the medium by themselves."""
        iocb, limits, to, block = sub.iocb, self.queue.limits, found.addr - found.offset, self.inode.block_size
        self._check(iocb, it, pos, nbytes)
        fresh = iocb.write and (found.new or found.type == "unwritten")
        sub.unwritten |= iocb.write and (found.type == "unwritten" or found.shared)
        lasting = through and not fresh and not (found.shared or found.dirty)
        lasting = lasting and (limits.fua or not limits.write_cache)
        if fresh and pos % block:
            yield from self._zero(sub, to + pos - pos % block, pos % block)
        opf = _opf(iocb, fua=lasting, alone=it.npages() <= BIO_MAX_VECS)
        bad = yield from self._data(sub, it, to + pos, nbytes, opf)
        at = iocb.pos + sub.at
        if iocb.write and at % block and (fresh or at >= self.i_size):
            yield from self._zero(sub, to + at, block - at % block)
        if bad is not None:
            raise bad
        return lasting

    def _data(
        self, sub: Submission, it: DioIter, pos: int, nbytes: int, opf: Op
    ) -> Generator[Wait, Any, SyscallError | None]:
        """Send `nbytes` at byte `pos` of the device; return what ended that early."""
        end = pos + nbytes
        try:
            while pos < end:
                if sub.bad is not None:  # a bio has died already: no more are sent (dio->error)
                    return sub.failure(self.name)
                taken = yield from it.take(end - pos)
                if opf & Op.ATOMIC and taken.payload.nbytes != nbytes:
                    what = f"count={nbytes}"
                    return SyscallError(sub.iocb.call, what, "is atomic, and does not fit into one bio", errno.EINVAL)
                yield from sub.send(taken, pos, opf)
                pos += taken.payload.nbytes
        except SyscallError as bad:
            return bad
        return None

    def _check(self, iocb: Kiocb, it: DioIter, pos: int, nbytes: int) -> None:
        """Raise SyscallError EINVAL for bytes [pos, pos + nbytes) of an extent that cannot go as they are (DIO-10)."""
        lbs = self.queue.limits.logical_block_size
        if (pos | nbytes) % lbs:
            what = f"pos={pos} + count={nbytes}"
            raise SyscallError(iocb.call, what, f"is not a multiple of {lbs} (O_DIRECT, DIO-10)", errno.EINVAL)
        if iocb.flags & Iocb.ATOMIC and nbytes != iocb.nbytes:
            what = f"count={iocb.nbytes}"
            raise SyscallError(iocb.call, what, "is atomic, and lies in several extents (DIO-10)", errno.EINVAL)
        check_memory(iocb, it, self.queue.limits, self.by.rules)

    def _zero(self, sub: Submission, pos: int, nbytes: int) -> Steps:
        """Write zeros beside the data, so that nobody reads what lay there before (iomap_dio_zero)."""
        for at in range(0, nbytes, IOMAP_ZERO_PAGE_SIZE):
            size = min(IOMAP_ZERO_PAGE_SIZE, nbytes - at)
            yield from sub.zeros(Taken(phyrs_of([self._zeros], [size])), pos + at)

    def _small_read(self, sub: Submission) -> bool:
        """Return whether 7.3 takes its short way: a read in one mapped extent, a block at most (DIO-17b)."""
        iocb = sub.iocb
        inside = iocb.nbytes <= self.inode.block_size and iocb.pos + iocb.nbytes <= self.i_size
        if not self.by.rules.small_read or iocb.write or not inside:
            return False
        found = self.inode.iomap_begin(iocb.pos, iocb.nbytes, write=False)
        return found.type == "mapped" and found.offset + found.length >= iocb.pos + iocb.nbytes

    def _tell_map(self, io: int, m: Iomap) -> None:
        words = " ".join(word for word in ("new", "shared", "dirty") if getattr(m, word))
        now = self.by.env.now
        self.by.emit(("IomapIterDstmap", now, io, self.inode.ino, m.addr, m.offset, m.length, m.type, words))

    def _tell(self, sub: Submission, error: int, ret: int) -> None:
        iocb = sub.iocb
        self.by.emit(("IomapDioComplete", self.by.env.now, iocb.io, self.inode.ino, iocb.pos, error, ret))


def _opf(iocb: Kiocb, *, fua: bool, alone: bool) -> Op:
    """Return the flags of an IO's bios: FUA where they reach the medium by themselves (iomap_dio_bio_opflags).

    `alone`: one bio is enough, which may be polled for where nobody sleeps for the IO (DIO-11).
    """
    opf = Op.SYNC | Op.IDLE
    opf |= Op.POLLED if alone and iocb.flags & Iocb.HIPRI and iocb.flags & Iocb.ASYNC else Op(0)
    opf |= Op.FUA if iocb.write and fua else Op(0)
    return opf | (Op.ATOMIC if iocb.flags & Iocb.ATOMIC else Op(0))
