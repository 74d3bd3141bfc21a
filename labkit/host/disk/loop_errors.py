"""Refusals of the loop driver become sentences."""

import errno
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from labkit.errors import BadInput, SyscallError
from labkit.host import refusal
from labkit.units import PAGE_SIZE, SECTOR_SIZE

CONTROL = "/dev/loop-control"
INSTEAD = "or simulate one: labkit run --device nvme"
IOV_MAX = 1024


def check_sizes(nbytes: int, block_size: int) -> None:
    """Raise BadInput unless the block size is a power of two of 512 to 4096 bytes, and divides `nbytes`."""
    if not SECTOR_SIZE <= block_size <= PAGE_SIZE or block_size & (block_size - 1):
        rule = f"is no power of two from {SECTOR_SIZE} to {PAGE_SIZE}"
        raise BadInput("loop", f"logical_block_size={block_size}", rule, errno.EINVAL)
    if nbytes <= 0 or nbytes % block_size:
        rule = f"is no positive multiple of the logical block, {block_size}"
        raise BadInput("loop", f"nbytes={nbytes}", rule, errno.EINVAL)


def speaking(what: str, remedy: str) -> AbstractContextManager[None]:
    """Turn an OSError within it into a sentence about `what`: NotAllowed with the `remedy`, or SyscallError."""
    missing = f"is not there: load the module (modprobe loop), {INSTEAD}"
    lacking = dict.fromkeys((errno.ENOENT, errno.ENXIO, errno.ENODEV), missing) if what == CONTROL else {}
    return refusal.speaking("loop", what, {errno.EPERM: remedy, errno.EACCES: remedy, **lacking})


def failed(call: str, views: Sequence[memoryview], pos: int, where: tuple[str, int], error: OSError) -> SyscallError:
    """Return the error of `call` as a sentence: what was asked `where` (path, logical block), and the rule."""
    number = error.errno or errno.EIO
    path, block_size = where
    rule = f"fails: {os.strerror(number)}"
    if len(views) > IOV_MAX:
        rule = f"has more than {IOV_MAX} iovecs (IOV_MAX)"
    elif number == errno.EINVAL:
        rule = f"wants position, length and addresses in multiples of {block_size} (O_DIRECT)"
    what = f"{len(views)} iovecs of {sum(view.nbytes for view in views)} B at {pos} of {path}"
    return SyscallError(call, what, rule, number)
