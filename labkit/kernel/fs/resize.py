"""A file becomes longer or shorter, or gets blocks, or a hole: what is left of blocks at the edges becomes zeros."""

import errno

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.fs.cache.page_cache import PageCache
from labkit.kernel.fs.inode import Inode


class Resizer:
    """One file, alone with whoever changes it: all IO on its way is waited for (DIO-17c, inode_dio_wait)."""

    def __init__(self, env: Clock, inode: Inode, cache: PageCache) -> None:
        """Change `inode`, and zero its bytes through its `cache`."""
        self.env, self.inode, self.cache = env, inode, cache

    def truncate(self, io: int, nbytes: int) -> Steps:
        """Make the file `nbytes` long; what it held beyond that is zeros when it grows again.

        Raises SyscallError EINVAL for a negative length, EFBIG; ENOSPC and EIO where half a block cannot be zeroed.
        """
        _positive("ftruncate", nbytes)
        yield from self._alone(self._truncate(io, nbytes))

    def fallocate(self, io: int, pos: int, nbytes: int, *, keep_size: bool = False) -> Steps:
        """Allocate what is not allocated of [pos, pos + nbytes), unwritten; the file grows to it unless `keep_size`.

        Errors: Inode.fallocate.
        """
        _positive("fallocate", pos)
        yield from self._alone(self._fallocate(io, pos, nbytes, keep_size=keep_size))

    def punch_hole(self, io: int, pos: int, nbytes: int) -> Steps:
        """Let [pos, pos + nbytes) be zeros, and its whole blocks free. Errors: Inode.punch_hole, PageCache.zero_range.

        What is dirty is written out first, and dropped from the cache (xfs_flush_unmap_range).
        """
        _positive("fallocate", pos)
        yield from self._alone(self._punch(io, pos, nbytes))

    def _alone(self, work: Steps) -> Steps:
        lock = self.inode.i_rwsem
        yield from lock.down(self.env, shared=False)
        try:
            yield from lock.dio_wait(self.env)
            yield from work
        finally:
            lock.up()

    def _truncate(self, io: int, nbytes: int) -> Steps:
        inode, cache, size = self.inode, self.cache, self.inode.i_size
        if nbytes < size:
            yield from cache.zero_range(io, nbytes, -nbytes % inode.block_size)
            yield from cache.truncate(io, nbytes)
        else:
            yield from cache.from_inode(io)
        inode.truncate(nbytes, locked=True)
        yield from self._grown(io, size)

    def _fallocate(self, io: int, pos: int, nbytes: int, *, keep_size: bool) -> Steps:
        size = self.inode.i_size
        yield from self.cache.from_inode(io)
        self.inode.fallocate(pos, nbytes, keep_size=keep_size, locked=True)
        yield from self._grown(io, size)

    def _grown(self, io: int, size: int) -> Steps:
        """Zero the rest of the block that held the end of a file of `size` bytes, if it is longer now."""
        if self.inode.i_size > size:
            self.cache.i_size_changed()
            yield from self.cache.zero_range(io, size, -size % self.inode.block_size)

    def _punch(self, io: int, pos: int, nbytes: int) -> Steps:
        yield from self.cache.write_and_wait_range(io, pos, nbytes)
        yield from self.cache.invalidate_range(io, pos, nbytes)
        yield from self.cache.from_inode(io)
        for at, size in self.inode.punch_hole(pos, nbytes, locked=True):
            yield from self.cache.zero_range(io, at, size)


def _positive(call: str, value: int) -> None:
    if value < 0:
        raise SyscallError(call, str(value), "is negative", errno.EINVAL)
