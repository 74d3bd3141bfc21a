"""Addresses become bytes: zero-filled memory as large as a machine, that costs what is touched of it."""

import contextlib
import errno
import mmap

from labkit.errors import BadInput, SyscallError
from labkit.units import human_bytes

MAP_NORESERVE = 0x4000
"""Promise no swap for the mapping (uapi/asm-generic/mman.h); the mmap module of Python 3.11 lacks the name."""


def arena(nbytes: int) -> memoryview:
    """Return `nbytes` of zeros, page-aligned, writable and sparse: an untouched page costs nothing.

    The pages live as long as the view or a slice of it. MADV_NOHUGEPAGE keeps the price of the first touch at one
    page. Raises BadInput for a size below 1, SyscallError ENOMEM when the kernel refuses the mapping.
    """
    if nbytes <= 0:
        raise BadInput("arena", f"{nbytes} bytes", "is no size: at least 1 byte is needed", errno.EINVAL)
    try:
        pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    except (OSError, OverflowError) as error:
        raise _refusal(nbytes) from error
    with contextlib.suppress(OSError):  # EINVAL: a kernel without huge pages needs no such advice
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return memoryview(pages)


def _refusal(nbytes: int) -> SyscallError:
    """Return the error for a mapping of `nbytes` that the kernel does not give."""
    rule = "does not fit into the address space: lower the size, or check ulimit -v and vm.overcommit_memory"
    return SyscallError("arena", human_bytes(nbytes), rule, errno.ENOMEM)
