"""Where a file lies on its device: FS_IOC_FIEMAP (uapi/linux/fiemap.h), extent by extent."""

import errno
import fcntl
import os
import struct

from labkit.errors import SyscallError

Extent = tuple[int, int, int, list[str]]
"""Byte of the file, byte of the device, bytes, flag words."""

_FS_IOC_FIEMAP = 0xC020660B
_FLAG_SYNC = 1
_HEAD = struct.Struct("=QQIIII")
"""fm_start, fm_length, fm_flags, fm_mapped_extents, fm_extent_count, fm_reserved."""
_EXTENT = struct.Struct("=QQQ16xI12x")
"""fe_logical, fe_physical, fe_length, fe_flags."""
_WORDS = {
    0x1: "LAST", 0x2: "UNKNOWN", 0x4: "DELALLOC", 0x8: "ENCODED", 0x80: "DATA_ENCRYPTED", 0x100: "NOT_ALIGNED",
    0x200: "DATA_INLINE", 0x400: "DATA_TAIL", 0x800: "UNWRITTEN", 0x1000: "MERGED", 0x2000: "SHARED",
}  # fmt: skip
_LAST = 0x1
_ROOM = 256


def extents(fd: int) -> list[Extent]:
    """Return the extents of the file `fd` in order, synced and clipped to its size; what lies between is a hole.

    What is DATA_INLINE lies in the inode, at no place of its own. Raises SyscallError EOPNOTSUPP where the filesystem
    does not tell.
    """
    size, start, found = os.fstat(fd).st_size, 0, list[Extent]()
    last = size == 0
    while not last:
        some = _asked(fd, start, size - start)
        for logical, physical, nbytes, flags in some:
            words = [word for bit, word in _WORDS.items() if flags & bit]
            found.append((logical, physical, min(nbytes, size - logical), words))
            start = logical + nbytes
        last = not some or bool(some[-1][3] & _LAST) or start >= size
    return found


def _asked(fd: int, start: int, nbytes: int) -> list[tuple[int, int, int, int]]:
    """Return up to _ROOM extents from byte `start`. Raises SyscallError."""
    page = bytearray(_HEAD.size + _ROOM * _EXTENT.size)
    _HEAD.pack_into(page, 0, start, nbytes, _FLAG_SYNC, 0, _ROOM, 0)
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, page)
    except OSError as no:
        number = no.errno or errno.EIO
        raise SyscallError("fiemap", f"the file at byte {start}", f"fails: {os.strerror(number)}", number) from no
    count = int(_HEAD.unpack_from(page)[3])
    return list(_EXTENT.iter_unpack(page[_HEAD.size : _HEAD.size + count * _EXTENT.size]))
