"""One file of the lab's filesystem: what lies where, what is allocated for a write, and what its end makes of that."""

import errno
from typing import Any

from labkit.errors import SyscallError
from labkit.kernel.fs.extents import Extent
from labkit.kernel.fs.forks import Forks, told
from labkit.kernel.fs.ops import NULL_ADDR, Iomap
from labkit.kernel.fs.runs import FOREVER
from labkit.kernel.fs.rwsem import InodeLock
from labkit.kernel.fs.space import Space

MAX_LFS_FILESIZE = (1 << 63) - 1
"""No file is longer, in bytes (include/linux/fs.h)."""
INLINE_BYTES = 60
"""What the inode itself can hold of a small file: the room for its extents (ext4's i_block)."""
Edges = list[tuple[int, int]]
"""(position, bytes) of parts of blocks that stay, and that whoever moves bytes must zero."""


class Inode:
    """A regular file: it says where bytes lie, and never moves one.

    A block that a write takes is unwritten until end_io: whoever reads meanwhile, or after a failure, finds zeros. What
    a write took and did not use stays the file's, for the next one, and so does a copy of shared blocks; but not what
    lies beyond the end (trim).
    """

    def __init__(
        self, ino: int, name: str, space: Space, most: int, *, delalloc: bool = True, dio: bool = True
    ) -> None:
        """Open an empty file in `space`, with extents of `most` bytes at most.

        `delalloc`: buffered writes get their blocks at writeback; `dio`: direct IO can be had here at all.
        """
        self.ino, self.name, self.delalloc, self.dio = ino, name, delalloc, dio
        self.forks = Forks(name, space, most)
        self.i_rwsem = InodeLock()
        self.block_size = space.block_size
        self.i_size = 0
        self.dirty = False
        """Whether a change of metadata is not on the device yet."""

    @property
    def inline(self) -> Extent | None:
        """The extent inside the inode that holds all of a small file, if it is such a file."""
        first = self.forks.data.at(0)
        return first if first and first.state == "inline" else None

    def iomap_begin(self, pos: int, length: int, *, write: bool, direct: bool = True, nowait: bool = False) -> Iomap:
        """Return the mapping that holds byte `pos`: whole blocks, the last one that of the last of `length` bytes.

        A direct write into a hole, or over what a buffered one is promised, allocates unwritten blocks; over shared
        blocks it allocates a copy, which takes their place in end_io. A buffered write is promised blocks, and told
        where its bytes lie until it has them (map_blocks): for a shared block that is the old one. Raises SyscallError:
        EINVAL for no range of bytes, EFBIG, ENOSPC, EAGAIN for `nowait` where it would allocate, ENOTBLK where direct
        IO cannot be had (DIO-10).
        """
        _check("iomap", pos, length)
        if direct and (not self.dio or self.inline):
            raise SyscallError("iomap", self.name, "cannot do direct IO (DIO-17)", errno.ENOTBLK)
        if self.inline and (not write or pos + length <= INLINE_BYTES):
            return self._inline(pos, length, write=write)
        lo, hi = self._blocks(pos, pos + length)
        if not write:
            return self.forks.find(lo, hi)
        self._outgrow()
        if direct or (not self.delalloc and self.forks.find(lo, hi).type == "hole"):
            whole = (pos | length) % self.block_size == 0
            found = self.forks.take(lo, hi, whole=whole, nowait=nowait)
        else:
            found = self.forks.promise(lo, hi)
        self.dirty |= found.new
        return found._replace(dirty=self.dirty or found.shared or pos + length > self.i_size)

    def map_blocks(self, pos: int, length: int) -> Iomap:
        """Return where writeback puts byte `pos`, in whole blocks: what was promised is allocated now (ENOSPC if not).

        The file stays as it is until end_io.
        """
        _check("iomap", pos, length)
        if self.inline:
            return told(self.inline)
        self.dirty = True
        return self.forks.take(*self._blocks(pos, pos + length))

    def end_io(self, pos: int, nbytes: int, *, unwritten: bool, extend: bool) -> None:
        """Note that bytes [pos, pos + nbytes) have reached the device (DIO-12).

        Copies take the place of what was shared; `unwritten` blocks are written; with `extend` the file grows.
        """
        if not nbytes:
            return
        lo, hi = self._blocks(pos, pos + nbytes)
        self.dirty |= self.forks.swap(lo, hi)
        if unwritten:
            self.dirty |= self.forks.data.convert(lo, hi) > 0
        if extend and pos + nbytes > self.i_size:
            self.i_size, self.dirty = pos + nbytes, True

    def truncate(self, nbytes: int, *, locked: bool = False) -> Edges:
        """Make the file `nbytes` long; return what is left of the last block, to be zeroed.

        Raises SyscallError EINVAL for a negative length, EFBIG for more than a file can have, ENOSPC for more than
        the inode can hold, EBUSY while an IO is on its way to it: nobody can wait here.
        """
        _check("ftruncate", nbytes, 0)
        self._alone("ftruncate", locked=locked)
        if self.inline and nbytes <= INLINE_BYTES:
            self._resize(nbytes)
            edges: Edges = []
        else:
            self._outgrow()
            end = -(-nbytes // self.block_size) * self.block_size
            self.forks.free(end, FOREVER)
            edges = self._edge(nbytes, end) if nbytes < self.i_size else []
        self.i_size, self.dirty = nbytes, True
        return edges

    def trim(self) -> None:
        """Free the blocks beyond the end, which a write took that failed (ext4_truncate_failed_write)."""
        if not self.inline:
            self.forks.free(-(-self.i_size // self.block_size) * self.block_size, FOREVER)

    def fallocate(self, pos: int, length: int, *, keep_size: bool = False, locked: bool = False) -> None:
        """Allocate what is not allocated of [pos, pos + length), unwritten; the file grows to it unless `keep_size`.

        Raises SyscallError EINVAL, EFBIG, EBUSY as truncate, and ENOSPC: then nothing has been allocated.
        """
        _check("fallocate", pos, length)
        self._alone("fallocate", locked=locked)
        self._outgrow()
        self.forks.fill(*self._blocks(pos, pos + length))
        self.i_size, self.dirty = self.i_size if keep_size else max(self.i_size, pos + length), True

    def punch_hole(self, pos: int, length: int, *, locked: bool = False) -> Edges:
        """Free the whole blocks of [pos, pos + length); return the parts of blocks at its edges, to be zeroed.

        Raises SyscallError EINVAL, EFBIG, EBUSY as truncate, and ENOSPC for a file inside its inode.
        """
        _check("fallocate", pos, length)
        self._alone("fallocate", locked=locked)
        self._outgrow()
        end, size = pos + length, self.block_size
        lo, hi = -(-pos // size) * size, end // size * size
        if lo > hi:
            return self._edge(pos, end)
        if lo < hi:
            self.forks.free(lo, hi)
            self.dirty = True
        return self._edge(pos, lo) + self._edge(hi, end)

    def commit(self) -> None:
        """Take the metadata as having reached the device: what fsync does besides the data."""
        self.dirty = False

    def fiemap(self) -> list[list[Any]]:
        """Return the extents as FIEMAP tells them: rows [logical, physical, length, [flags]]."""
        rows: list[list[Any]] = []
        for extent in self.forks.data:
            at = extent.logical
            while at < extent.end:
                part = extent.part(at, extent.end)
                shared, size = (False, part.length)
                if part.state in ("mapped", "unwritten"):
                    shared, size = self.forks.space.shared(part.physical, part.length)
                rows.append(part._replace(length=size, shared=shared).row())
                at += size
        if rows:
            rows[-1][3].append("LAST")
        return rows

    def _alone(self, call: str, *, locked: bool) -> None:
        """Raise SyscallError EBUSY while somebody reads or writes, unless the caller waited and has it `locked`."""
        if self.i_rwsem.busy and not locked:
            raise SyscallError(call, self.name, "has IO on its way, and nobody can wait for it here", errno.EBUSY)

    def _inline(self, pos: int, length: int, *, write: bool) -> Iomap:
        """Return the mapping of a file inside its inode, which a write may make longer."""
        if write and self.inline and pos + length > self.inline.length:
            self._resize(pos + length)
        inline = self.inline
        return told(inline) if inline and pos < inline.length else Iomap("hole", pos, length)

    def _resize(self, nbytes: int) -> None:
        """Let `nbytes` of the inode be the file's; none, and it may have blocks from now on."""
        self.forks.data.splice(0, FOREVER, [self.inline._replace(length=nbytes)] if self.inline and nbytes else [])

    def _outgrow(self) -> None:
        """Let a file inside its inode have a block, if it is one. Its bytes are in the cache by then.

        Raises SyscallError ENOSPC.
        """
        if self.inline:
            self.forks.space.reserve(self.block_size)
            self.forks.data.splice(0, self.block_size, [Extent(0, NULL_ADDR, self.block_size, "delalloc")])

    def _edge(self, start: int, stop: int) -> Edges:
        """Return [start, stop), inside one block, if it holds what must be zeroed."""
        held = start < stop and self.forks.find(start, stop).type not in ("hole", "unwritten")
        return [(start, stop - start)] if held else []

    def _blocks(self, start: int, stop: int) -> tuple[int, int]:
        """Return [start, stop) widened to whole blocks."""
        return start // self.block_size * self.block_size, -(-stop // self.block_size) * self.block_size


def _check(call: str, pos: int, length: int) -> None:
    """Raise SyscallError EINVAL for what is no range of bytes, EFBIG for one beyond what a file can have.

    A length of 0 stands for a position alone.
    """
    if pos < 0 or length < 0 or (call != "ftruncate" and not length):
        raise SyscallError(call, f"pos={pos}, length={length}", "is not a range of bytes", errno.EINVAL)
    if pos + length > MAX_LFS_FILESIZE:
        raise SyscallError(call, f"pos={pos}, length={length}", "is more than a file can have", errno.EFBIG)
