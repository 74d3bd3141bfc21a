"""What a loop device hands its requests to: the disk below its file, and by which way."""

import errno
import fcntl
import os
from pathlib import Path

from labkit.errors import NotAllowed, SyscallError
from labkit.host.disk.loopdev import LoopDevice

_SET_DIRECT_IO = 0x4C08
"""LOOP_SET_DIRECT_IO (uapi/linux/loop.h)."""


def kdev(device: LoopDevice) -> int:
    """Return the number of `device` as the kernel has it: major << 20 | minor."""
    return _kdev(os.fstat(device.fileno()).st_rdev)


def kdev_below(device: LoopDevice) -> int:
    """Return the number of the disk that the file of `device` lies on. Raises NotAllowed where it lies on none."""
    number = device.backing.stat().st_dev
    if not Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").exists():
        rule = "lies on no disk of its own: set TMPDIR to a directory on ext4 or xfs"
        raise NotAllowed("loop", str(device.backing.parent), rule, errno.ENODEV)
    return _kdev(number)


def set_direct_io(device: LoopDevice, on: bool) -> None:
    """Let `device` read and write its file with direct IO, or through the page cache. Raises SyscallError."""
    try:
        fcntl.ioctl(device.fileno(), _SET_DIRECT_IO, int(on))
    except OSError as no:
        rule = f"is refused: {no.strerror}"
        raise SyscallError("loop", f"direct-io={int(on)} of {device.path}", rule, no.errno or errno.EINVAL) from no


def _kdev(number: int) -> int:
    return os.major(number) << 20 | os.minor(number)
