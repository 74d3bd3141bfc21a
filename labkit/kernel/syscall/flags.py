"""Words such as O_DIRECT and RWF_NOWAIT become the flags of an IO (include/linux/fs.h)."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.ops import NO_FLAGS, Iocb

_MODES = {"O_RDONLY", "O_WRONLY", "O_RDWR"}
_OPEN = {"O_DIRECT": Iocb(0), "O_DSYNC": Iocb.DSYNC, "O_SYNC": Iocb.DSYNC | Iocb.SYNC, "O_APPEND": Iocb.APPEND}
_RWF = {
    "RWF_NOWAIT": Iocb.NOWAIT, "RWF_DSYNC": Iocb.DSYNC, "RWF_SYNC": Iocb.DSYNC | Iocb.SYNC, "RWF_ATOMIC": Iocb.ATOMIC,
    "RWF_APPEND": Iocb.APPEND, "RWF_NOAPPEND": NO_FLAGS, "RWF_HIPRI": Iocb.HIPRI, "RWF_DONTCACHE": Iocb.DONTCACHE,
}  # fmt: skip


def open_flags(text: str) -> tuple[set[str], bool, Iocb]:
    """Return the access mode, whether O_DIRECT is there, and the flags of every IO. Raises SyscallError EINVAL."""
    words = set(text.replace(" ", "").split("|"))
    modes = words & _MODES
    if words - _MODES - set(_OPEN) or len(modes) != 1:
        rule = f"is not one of {', '.join(sorted(_MODES))}, with {', '.join(_OPEN)} or none of them"
        raise SyscallError("open", f"flags={text!r}", rule, errno.EINVAL)
    flags = Iocb(0)
    for word in words - modes:
        flags |= _OPEN[word]
    return modes, "O_DIRECT" in words, flags


def iocb_flags(call: str, text: str, opened: Iocb = NO_FLAGS, *, direct: bool = True) -> Iocb:
    """Return what one IO of a file `opened` with flags is asked for, with the RWF_* in `text` (kiocb_set_rw_flags).

    Raises SyscallError EOPNOTSUPP for a word that nobody knows, and for RWF_DONTCACHE where the page cache is used:
    no folio of the lab's is dropped by itself. EINVAL for APPEND and NOAPPEND in one call.
    """
    flags, words = opened, set(filter(None, text.replace(" ", "").split("|")))
    for word in words:
        if word not in _RWF:
            raise SyscallError(call, f"flags={text!r}", f"has more than {', '.join(_RWF)}", errno.EOPNOTSUPP)
        flags |= _RWF[word]
    if flags & Iocb.DONTCACHE and not direct:
        rule = "is not there in the page cache of this lab"
        raise SyscallError(call, "RWF_DONTCACHE", rule, errno.EOPNOTSUPP)
    if "RWF_NOAPPEND" in words:
        if "RWF_APPEND" in words:
            raise SyscallError(call, f"flags={text!r}", "asks for both, RWF_APPEND and RWF_NOAPPEND", errno.EINVAL)
        flags &= ~Iocb.APPEND
    return flags


def can_be_atomic(call: str, limits: QueueLimits, *, direct: bool) -> None:
    """Raise SyscallError EOPNOTSUPP for an atomic IO of a file that has none (FMODE_CAN_ATOMIC_WRITE)."""
    if not direct or not limits.atomic_write_unit_max:
        what = "RWF_ATOMIC"
        raise SyscallError(call, what, "needs a write with O_DIRECT to a device that can do it", errno.EOPNOTSUPP)


def may_be_atomic(call: str, pos: int, nbytes: int, limits: QueueLimits, *, direct: bool) -> None:
    """Raise SyscallError for an atomic write that cannot be one (generic_atomic_write_valid): EOPNOTSUPP, EINVAL."""
    can_be_atomic(call, limits, direct=direct)
    low, high = limits.atomic_write_unit_min, limits.atomic_write_unit_max
    if nbytes & (nbytes - 1) or not low <= nbytes <= high:
        rule = f"is not a power of two from {low} to {high} (RWF_ATOMIC)"
        raise SyscallError(call, f"count={nbytes}", rule, errno.EINVAL)
    if pos % nbytes:
        raise SyscallError(call, f"pos={pos}", f"is not a multiple of its length {nbytes} (RWF_ATOMIC)", errno.EINVAL)
