"""The raw block device file: block/fops.c, where a file position is a device position (DIO-1..9)."""

import errno
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import BIO_MAX_VECS, PLAIN, Op
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug
from labkit.kernel.fs.ops import NO_FLAGS, Cache, DioIter, Iocb, Iomap, Kiocb
from labkit.kernel.fs.submission import Submission, Submitter
from labkit.kernel.version import Rules
from labkit.units import PAGE_SIZE, human_bytes


class BlockDeviceFile:
    """An open block device: what lies at which byte is itself, and DIO-4 chooses one of three ways."""

    ino = 0
    dio = True

    def __init__(self, name: str, nbytes: int, queue: BioConsumer, by: Submitter) -> None:
        """Open device `name` of `nbytes` bytes, whose requests go into `queue`."""
        self.name, self.i_size, self.queue, self.by = name, nbytes, queue, by
        self.block_size = max(queue.limits.logical_block_size, min(PAGE_SIZE, nbytes & -nbytes))
        """Bytes of a block of its page cache: as many as divide the device, up to a page (set_init_blocksize)."""
        self.cache: Cache | None = None
        """Its page cache, where somebody reads or writes it without O_DIRECT."""

    def check(
        self, call: str, pos: int, nbytes: int, *, write: bool, flags: Iocb = NO_FLAGS, direct: bool = True
    ) -> int:
        """Return how many bytes at `pos` the device has for `call`: 0 at its end, less across it (R1).

        Raises SyscallError ENOSPC for a write at the end (DIO-1), EINVAL for a position or length that is not a
        multiple of the logical block (DIO-3), and for an atomic write that does not fit, EOPNOTSUPP for NOWAIT without
        O_DIRECT (DIO-1).
        """
        if not nbytes:
            return 0
        if pos >= self.i_size:
            if not write:
                return 0
            what = f"pos={pos}"
            raise SyscallError(call, what, f"lies beyond the {human_bytes(self.i_size)} of {self.name}", errno.ENOSPC)
        if flags & Iocb.NOWAIT and write and not direct:
            raise SyscallError(call, "RWF_NOWAIT", "needs O_DIRECT on a block device (DIO-1)", errno.EOPNOTSUPP)
        if flags & Iocb.ATOMIC and pos + nbytes > self.i_size:
            what = f"pos={pos} + count={nbytes}"
            raise SyscallError(call, what, f"is atomic, and reaches beyond {self.name} (DIO-1)", errno.EINVAL)
        nbytes = min(nbytes, self.i_size - pos)
        lbs = self.queue.limits.logical_block_size
        for name, value in (("pos", pos), ("count", nbytes)):
            if value % lbs and direct:
                raise SyscallError(
                    call, f"{name}={value}", f"is not a multiple of {lbs} (O_DIRECT, DIO-3)", errno.EINVAL
                )
        return nbytes

    def iomap_begin(self, pos: int, length: int, *, write: bool, direct: bool = True, nowait: bool = False) -> Iomap:  # noqa: ARG002
        """Return that byte `pos` of the file is byte `pos` of the device (blkdev_iomap_begin)."""
        return Iomap("mapped", pos, min(length, self.i_size - pos), pos)

    def end_io(self, pos: int, nbytes: int, *, unwritten: bool, extend: bool) -> None:
        """Do nothing: every byte of a device is there from the start."""

    def dio_submit(self, sub: Submission, it: DioIter) -> Steps:
        """Send the bios of one IO (blkdev_direct_IO). Raises SyscallError where nothing may be sent at all.

        One bio, without a plug, up to 256 pages; several inside one plug above (R7). A page that cannot be had ends
        the IO there: `sub.error` (R6).
        """
        iocb = sub.iocb
        sub.multi = it.npages() > BIO_MAX_VECS
        path = "multi" if sub.multi else "async" if iocb.flags & Iocb.ASYNC else "simple"
        iocb.simple = path == "simple"
        self.by.emit(("BlkdevDirectIO", self.by.env.now, iocb.io, iocb.pos, iocb.nbytes, path))
        self._check(iocb, it, multi=sub.multi)
        if self.cache is not None and self.cache.nrpages:
            yield from make_coherent(self.cache, sub, self.name)
        own = sub.plug is None and (sub.multi or (self.by.rules.write_plug and iocb.write))
        if own:
            sub.plug = Plug()
        yield from self._send_all(sub, it, _opf(iocb, path))
        if own and sub.plug is not None:
            asleep = self.by.rules.write_plug and iocb.write and not iocb.flags & Iocb.ASYNC
            yield from sub.plug.flush(from_schedule=asleep)

    def dio_complete(self, sub: Submission) -> Generator[Wait, Any, int]:
        """Return the bytes that were moved, now that every bio is over.

        Raises SyscallError: what the first failed bio says (DIO-14), or what ended the IO early, where nothing was sent
        or the IO was of several bios, some of which are done (R6).
        """
        bad = sub.failure(self.name)
        if bad is None and sub.error is not None and (sub.multi or not sub.size):
            bad = sub.error
        if bad is not None:
            raise bad
        iocb = sub.iocb
        if iocb.write and self.cache is not None and self.cache.nrpages:
            with suppress(SyscallError):  # who has brought pages back meanwhile reads what is stale (DIO-18)
                yield from self.cache.invalidate_range(iocb.io, iocb.pos, sub.size)
        return sub.size

    def _send_all(self, sub: Submission, it: DioIter, opf: Op) -> Steps:
        """Take memory, and send it, until none is left or none can be had."""
        pos = sub.iocb.pos
        while it.left:
            try:
                taken = yield from it.take(it.left)
            except SyscallError as bad:
                sub.error = bad
                return
            if sub.multi and sub.iocb.flags & Iocb.NOWAIT and it.left:
                rule = "needs a second bio, and nobody may wait for it (DIO-5, R18)"
                raise SyscallError(sub.iocb.call, f"count={sub.iocb.nbytes}", rule, errno.EAGAIN)
            yield from sub.send(taken, pos, opf)
            pos += taken.payload.nbytes
            if not (sub.multi or it.in_parts):
                return

    def _check(self, iocb: Kiocb, it: DioIter, *, multi: bool) -> None:
        if multi and iocb.flags & Iocb.ATOMIC:
            what = f"count={iocb.nbytes}"
            raise SyscallError(iocb.call, what, "is atomic, and does not fit into one bio (DIO-4)", errno.EINVAL)
        check_memory(iocb, it, self.queue.limits, self.by.rules)


def make_coherent(cache: Cache, sub: Submission, name: str) -> Steps:
    """Let the page cache agree with the device: write out before a read, drop before a write (DIO-1, DIO-2, DIO-18).

    Raises SyscallError EAGAIN where nobody may wait, or an atomic write meets pages in use; ENOTBLK where pages cannot
    be dropped: the caller goes through the cache then. Where nobody may wait, a write meets no cached page at all.
    """
    iocb = sub.iocb
    late = cache.needs_writeback(iocb.pos, iocb.nbytes)
    if iocb.flags & Iocb.NOWAIT and (late or (iocb.write and cache.has_page(iocb.pos, iocb.nbytes))):
        rule = f"is {'dirty in' if late else 'in'} the page cache, and nobody may wait (RWF_NOWAIT)"
        raise SyscallError(iocb.call, f"{name} at {iocb.pos}", rule, errno.EAGAIN)
    if late:
        yield from sub.asleep()
    yield from cache.write_and_wait_range(iocb.io, iocb.pos, iocb.nbytes)
    if not iocb.write:
        return
    try:
        yield from cache.invalidate_range(iocb.io, iocb.pos, iocb.nbytes)
    except SyscallError as bad:
        code = errno.EAGAIN if bad.errno == errno.EAGAIN or iocb.flags & Iocb.ATOMIC else errno.ENOTBLK
        raise SyscallError(iocb.call, name, "keeps pages in the cache that cannot be dropped (DIO-18)", code) from bad


def check_memory(iocb: Kiocb, it: DioIter, limits: QueueLimits, rules: Rules) -> None:
    """Raise SyscallError EINVAL where the kernel looks at memory here, and it is not aligned: 6.1 and 6.12 (R8, R1)."""
    blocks = limits.logical_block_size - 1 if rules.iovec_blocks else limits.dma_alignment
    if rules.aligned == "entry" and not it.aligned(limits.dma_alignment, blocks):
        rule = f"begins or ends off {limits.dma_alignment + 1} or {blocks + 1} bytes (R8)"
        raise SyscallError(iocb.call, "a piece of memory", rule, errno.EINVAL)


def _opf(iocb: Kiocb, path: str) -> Op:
    """Return the flags of the IO's bios (DIO-6): FUA where the caller wants it to last (dio_bio_write_op)."""
    opf = Op.SYNC if path == "simple" else PLAIN
    if iocb.write:
        opf = Op.SYNC | Op.IDLE | (Op.FUA if iocb.flags & (Iocb.DSYNC | Iocb.SYNC) else PLAIN)
    opf |= Op.POLLED if iocb.flags & Iocb.HIPRI and path == "async" else PLAIN
    opf |= Op.NOWAIT if iocb.flags & Iocb.NOWAIT else PLAIN  # here alone: a file's bios may be split (R18)
    return opf | (Op.ATOMIC if iocb.flags & Iocb.ATOMIC else PLAIN)
