"""Addresses of one's own: reserved once, mapped piece by piece, touched, and gone as a whole."""

import ctypes
import errno
import mmap
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory.arena import MAP_NORESERVE
from labkit.units import PAGE_SIZE, human_bytes

HUGEPAGE, NOHUGEPAGE, _POPULATE_WRITE = mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE, 23
"""Advice by number (uapi/asm-generic/mman-common.h); the mmap module of Python 3.11 lacks the last (Linux 5.14)."""
_FIXED, _PROT = 0x10, mmap.PROT_READ | mmap.PROT_WRITE
_MEMINFO = Path("/proc/meminfo")
IN_PIECES = "are not to be had: free memory is in pieces, try: echo 1 > /proc/sys/vm/compact_memory"
"""What is the matter, and what helps, where there are no folios of a size."""

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Space:
    """`nbytes` of anonymous memory from `address` on, untouched, or what `place` puts over it. A context manager.

    Where somebody holds a slice of a view still, all stays until that is gone: no view ever leads to nowhere.
    """

    def __init__(self, nbytes: int, align: int) -> None:
        """Reserve them from a multiple of `align` bytes on. Raises SyscallError ENOMEM."""
        self.nbytes = nbytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        try:
            self._pages = mmap.mmap(-1, nbytes + align - PAGE_SIZE, flags=flags)
        except (OSError, OverflowError) as bad:
            raise _refusal("mmap", nbytes, errno.ENOMEM) from bad
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        self.address = -(-start // align) * align
        self._skip = self.address - start

    def view(self, nbytes: int) -> memoryview:
        """Return the first `nbytes`, writable."""
        return memoryview(self._pages)[self._skip : self._skip + nbytes]

    def place(self, fd: int, flags: int, at: int = 0, nbytes: int = 0, pos: int = 0) -> None:
        """Map `nbytes` (all, if 0) of file `fd` from byte `pos` over what is at byte `at`; `flags` are those of mmap.

        Raises SyscallError, such as ENOMEM beyond vm.max_map_count.
        """
        nbytes = nbytes or self.nbytes
        if _libc.mmap(self.address + at, nbytes, _PROT, flags | _FIXED, fd, pos) != self.address + at:
            raise _refusal("mmap", nbytes, ctypes.get_errno())

    def advise(self, advice: int) -> None:
        """Give `advice` on all of it; a kernel that was built without huge pages needs none of theirs."""
        if number := self._madvise(advice):
            if advice == NOHUGEPAGE and number == errno.EINVAL:
                return
            raise _refusal(f"madvise {advice}", self.nbytes, number)

    def populate(self) -> None:
        """Touch every page for writing, in the order of the addresses. Raises SyscallError, NotAllowed."""
        if number := self._madvise(_POPULATE_WRITE):
            raise _refusal("MADV_POPULATE_WRITE", self.nbytes, number)

    def touch(self, order: Iterable[int]) -> None:
        """Touch the pages of these numbers for writing, in their order."""
        for page in order:
            self._pages[self._skip + page * PAGE_SIZE] = 0

    def _madvise(self, advice: int) -> int:
        """Give `advice` on all of it; return 0 or an errno."""
        return ctypes.get_errno() if _libc.madvise(self.address, self.nbytes, advice) else 0

    def close(self) -> None:
        """Unmap it; a second call does nothing."""
        with suppress(BufferError):
            self._pages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def check_room(nbytes: int) -> None:
    """Raise NotAllowed ENOMEM where `nbytes` are more than what this machine can give without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text("ascii"))
    room = int(found[1]) << 10 if found else nbytes
    if nbytes > room:
        rule = f"is more than the {human_bytes(room)} that are free: ask for a smaller buffer"
        raise NotAllowed("buffer", human_bytes(nbytes), rule, errno.ENOMEM)


def _refusal(call: str, nbytes: int, number: int) -> SyscallError | NotAllowed:
    """Return the error of a `call` for `nbytes` that ended with errno `number`."""
    what = f"{call} of {human_bytes(nbytes)}"
    if call == "MADV_POPULATE_WRITE" and number == errno.EINVAL:
        return NotAllowed("buffer", what, "came with Linux 5.14: run a newer kernel", number)
    if number == errno.ENOMEM:
        rule = "does not fit: lower the size, or check ulimit -v, vm.overcommit_memory and vm.max_map_count"
        return SyscallError("buffer", what, rule, number)
    return SyscallError("buffer", what, f"fails: {os.strerror(number)}", number)
