"""Addresses become bytes: zero-filled memory as large as a machine, that costs what is touched of it."""

import contextlib
import errno
import mmap
from collections.abc import Callable

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


def arena_or_chunks(nbytes: int) -> memoryview | Callable[[int], memoryview]:
    """Return an arena of `nbytes`, or, where the kernel refuses one so large, what makes smaller ones: `arena`.

    It refuses under ulimit -v, and under vm.overcommit_memory=2, which counts a mapping before it is touched.
    """
    try:
        return arena(nbytes)
    except SyscallError:
        return arena


def release(whole: memoryview, at: int, nbytes: int) -> None:
    """Set bytes [at, at + nbytes) of `whole` to zero, and give the host back each of its pages that lies inside.

    A part of an arena, and any other writable memory, is filled with zeros: a view does not tell where it begins.
    """
    pages, end = whole.obj, at + nbytes
    first, last = -(-at // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if not isinstance(pages, mmap.mmap) or whole.nbytes != len(pages) or first >= last:
        whole[at:end] = bytes(nbytes)
        return
    pages.madvise(mmap.MADV_DONTNEED, first, last - first)
    whole[at:first] = bytes(first - at)
    whole[last:end] = bytes(end - last)


def _refusal(nbytes: int) -> SyscallError:
    """Return the error for a mapping of `nbytes` that the kernel does not give."""
    rule = "does not fit into the address space: lower the size, or check ulimit -v and vm.overcommit_memory"
    return SyscallError("arena", human_bytes(nbytes), rule, errno.ENOMEM)
