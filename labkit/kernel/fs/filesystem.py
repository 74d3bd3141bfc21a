"""A device becomes files: names, blocks that one file or several have, and the sum that must always be right."""

import errno
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.extents import Extent, ExtentMap, Row
from labkit.kernel.fs.inode import INLINE_BYTES, Inode
from labkit.kernel.fs.runs import FOREVER, RunMap
from labkit.kernel.fs.space import Free, Refs, Space
from labkit.units import PAGE_SIZE

Rows = Iterable[Row] | None
"""The extents of a file as FIEMAP tells them, or None where it has no say."""


class Kind(NamedTuple):
    """In what the kinds of filesystem differ here."""

    name: str
    reflink: bool
    """Whether files can share blocks; then a part of a block may not be written past the cache (DIO-8)."""
    most_blocks: int
    """Blocks of the longest extent."""
    inline: bool
    """Whether a small file may lie inside its inode."""
    first_ino: int


KINDS = {
    kind.name: kind for kind in (Kind("ext4", False, 1 << 15, True, 12), Kind("xfs", True, (1 << 21) - 1, False, 131))
}
TAKEN, _ITABLE, _INODE_SIZE, _I_BLOCK = 96 << 10, 16 << 10, 256, 40
"""Bytes at the beginning that are the filesystem's own, and in them its inodes, and in these the room for extents."""


class Align(NamedTuple):
    """What statx tells of direct IO: memory, positions of a write, positions of a read; 0 where it cannot be had."""

    mem: int
    offset: int
    read_offset: int


class Df(NamedTuple):
    """Bytes of a filesystem: all that files can have, what they have, what is free, and promised of that."""

    total: int
    used: int
    free: int
    reserved: int


class Filesystem:
    """Files on a device. Metadata has no blocks and no journal here: where the data lies is what is shown."""

    def __init__(
        self,
        nbytes: int,
        kind: str = "ext4",
        *,
        block_size: int = PAGE_SIZE,
        limits: QueueLimits | None = None,
        delalloc: bool = True,
        fragmentation: float = 0.0,
        seed: int = 0,
        taken: int = TAKEN,
    ) -> None:
        """Make a filesystem of `kind` on a device of `nbytes` bytes (mkfs); for `fragmentation` and `seed` see Space.

        Its first `taken` bytes are its own.

        Raises BadInput EINVAL for a kind, a block or a device that cannot be.
        """
        self.limits = limits or QueueLimits()
        _check_mkfs(nbytes, kind, block_size, self.limits.logical_block_size)
        self.kind, self.block_size, self.delalloc = KINDS[kind], block_size, delalloc
        nbytes -= nbytes % block_size
        self.space = Space(kind, nbytes, block_size, taken, fragmentation=fragmentation, seed=seed)
        self.files: dict[str, Inode] = {}
        self._ino = self.kind.first_ino

    def create(
        self, name: str, nbytes: int = 0, *, extents: Rows = None, inline: bool = False, dio: bool = True
    ) -> Inode:
        """Make a file of `nbytes` bytes, all of it written; or with the `extents` of FIEMAP, just where they lie.

        `inline`: inside its inode. Raises SyscallError EEXIST, ENOSPC, BadInput EINVAL: then there is no such file.
        """
        if name in self.files:
            raise SyscallError("open", name, "exists already", errno.EEXIST)
        most = self.kind.most_blocks * self.block_size
        inode = Inode(self._ino, name, self.space, most, delalloc=self.delalloc, dio=dio)
        if inline:
            self._put_inline(inode, nbytes)
        elif extents is not None:
            self._put_extents(inode, extents, nbytes)
        elif nbytes:
            inode.fallocate(0, nbytes)
            inode.end_io(0, nbytes, unwritten=True, extend=True)
        inode.i_size = nbytes or inode.i_size
        self._ino += 1
        self.files[name] = inode
        return inode

    def open(self, name: str) -> Inode:
        """Return a file. Raises SyscallError ENOENT."""
        if name not in self.files:
            raise SyscallError("open", name, "is no file here", errno.ENOENT)
        return self.files[name]

    def unlink(self, name: str) -> None:
        """Forget a file and free what it alone has; nobody may have it open. Raises SyscallError ENOENT, EBUSY."""
        self.open(name).truncate(0)
        del self.files[name]

    def reflink(self, name: str, copy: str) -> Inode:
        """Make a file `copy` that shares all blocks of `name`, which has been written back (FICLONE).

        Raises SyscallError EOPNOTSUPP where files cannot share, EBUSY for promised blocks, ENOENT, EEXIST.
        """
        source = self.open(name)
        if not self.kind.reflink:
            raise SyscallError("ioctl", self.kind.name, "cannot share blocks between files", errno.EOPNOTSUPP)
        if any(extent.state == "delalloc" for extent in source.forks.data):
            raise SyscallError("ioctl", name, "has not been written back", errno.EBUSY)
        made = self.create(copy)
        written = [extent for extent in source.forks.data if extent.state == "mapped"]
        for extent in written:
            self.space.share(extent.physical, extent.length)
        made.forks.data.splice(0, FOREVER, written)
        made.i_size, made.dirty = source.i_size, True
        return made

    def statx(self, name: str) -> Align:
        """Return the alignment that direct IO wants of a file (DIO-8)."""
        inode, limits = self.open(name), self.limits
        if not inode.dio or inode.inline:
            return Align(0, 0, 0)
        block = limits.logical_block_size
        return Align(limits.dma_alignment + 1, self.block_size if self.kind.reflink else block, block)

    def df(self) -> Df:
        """Return how full it is."""
        total = self.space.nbytes - self.space.taken
        return Df(total, total - self.space.nr_free, self.space.nr_free, self.space.reserved)

    def check(self) -> None:
        """Raise InvariantError unless each block is free or has as many owners as are counted, and all sums are right.

        A walk over all extents, as fsck does it: for tests, and for once at the end of a run.
        """
        runs = owners([*(run for file in self.files.values() for run in file.forks.owned()), (0, self.space.taken)])
        shared = [Refs(lo, hi - lo, count) for lo, hi, count in runs if count > 1]
        taken = [Free(lo, hi - lo) for lo, hi, _ in runs]
        free = [Free(lo, hi - lo) for lo, hi in RunMap(taken).gaps(0, self.space.nbytes)]
        for what, found, want in (
            ("blocks are free", list(self.space.free), free),
            ("blocks are shared", list(self.space.refs), shared),
            ("bytes are free", self.space.nr_free, sum(run.length for run in free)),
            ("bytes are promised", self.space.reserved, sum(file.forks.promised() for file in self.files.values())),
        ):
            if found != want:
                raise InvariantError(self.kind.name, f"{found} {what}", f"and the files leave {want}", errno.EUCLEAN)

    def _put_inline(self, inode: Inode, nbytes: int) -> None:
        """Put a new file inside its inode. Raises SyscallError ENOSPC where none is left, BadInput EINVAL."""
        at = _ITABLE + (inode.ino - 1) * _INODE_SIZE
        if not self.kind.inline or not 0 < nbytes <= INLINE_BYTES:
            rule = f"do not lie inside an inode: ext4 has room for 1 to {INLINE_BYTES}"
            raise BadInput("open", f"{nbytes} bytes on {self.kind.name}", rule, errno.EINVAL)
        if at + _INODE_SIZE > TAKEN:
            raise SyscallError("open", inode.name, "finds no inode", errno.ENOSPC)
        inode.forks.data.insert(Extent(0, at + _I_BLOCK, nbytes, "inline"))

    def _put_extents(self, inode: Inode, rows: Iterable[Row], nbytes: int) -> None:
        """Give a new file just these extents, as far as it goes; a size of 0 is the end of the last one.

        Raises BadInput EINVAL where they overlap, or are not free.
        """
        try:
            for extent in ExtentMap.from_rows(rows, self.block_size, size=nbytes or FOREVER):
                self._claim(extent)
                inode.forks.data.insert(extent)
                inode.i_size = extent.end
        except BadInput:
            inode.truncate(0)
            raise

    def _claim(self, extent: Extent) -> None:
        """Take the blocks of `extent`. Raises BadInput EINVAL where it cannot be had for one file alone."""
        if extent.state not in ("mapped", "unwritten") or extent.shared:
            rule = "is of several files, or of none yet: it cannot be given"
            raise BadInput("open", f"extent at {extent.logical}", rule, errno.EINVAL)
        self.space.claim(extent.physical, extent.length)


def _check_mkfs(nbytes: int, kind: str, block_size: int, least: int) -> None:
    """Raise BadInput EINVAL for a filesystem that cannot be made; `least` is the logical block of its device."""
    if kind not in KINDS:
        raise BadInput("mkfs", f"kind={kind!r}"[:60], f"is not one of {', '.join(KINDS)}", errno.EINVAL)
    if least > PAGE_SIZE:
        rule = f"is more than the largest block of a filesystem here, {PAGE_SIZE} bytes"
        raise BadInput("mkfs", f"logical_block_size={least}", rule, errno.EINVAL)
    if block_size < 1 or block_size & (block_size - 1) or not least <= block_size <= PAGE_SIZE:
        rule = f"is not a power of two from {least} to {PAGE_SIZE}"
        raise BadInput("mkfs", f"block_size={block_size}", rule, errno.EINVAL)
    if nbytes < TAKEN + block_size:
        raise BadInput("mkfs", f"{nbytes} bytes", f"are less than {TAKEN + block_size}", errno.EINVAL)


def owners(runs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return (start, end, how many of `runs` hold it), in order, as far as any does; neighbours differ in the count."""
    steps: dict[int, int] = {}
    for lo, hi in runs:
        steps[lo] = steps.get(lo, 0) + 1
        steps[hi] = steps.get(hi, 0) - 1
    out, count = [], 0
    for lo, hi in pairwise(sorted(at for at, step in steps.items() if step)):
        count += steps[lo]
        if count:
            out.append((lo, hi, count))
    return out
