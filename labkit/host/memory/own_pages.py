"""Pages of this process to play with: some are pinned, freed, advised on, or unmapped while somebody has them still."""

import ctypes
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labkit.errors import NotAllowed
from labkit.host.memory.buffer.space import NOHUGEPAGE, Space
from labkit.units import PAGE_SIZE

MADV_DONTNEED, MADV_REMOVE, MADV_HUGEPAGE, MADV_COLLAPSE = 4, 9, 14, 25
"""Advice by number (uapi/asm-generic/mman-common.h); Python 3.11 lacks the name of the last one (Linux 6.1)."""

_libc: Any = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def madvise(address: int, nbytes: int, advice: int) -> int:
    """Give `advice` (MADV_*) on `nbytes` of memory from `address` on; return 0, or a negative errno."""
    return -ctypes.get_errno() if _libc.madvise(address, nbytes, advice) else 0


class OwnPages(Space):
    """`pages` anonymous pages of 4 KiB, each touched; no huge page comes among them unless somebody advises it.

    A context manager; close unmaps them, and who pinned one has it still.
    """

    def __init__(self, pages: int, *, align: int = PAGE_SIZE, order: Iterable[int] = ()) -> None:
        """Map them from a multiple of `align` bytes on, and touch them in `order`. Raises SyscallError ENOMEM."""
        super().__init__(pages * PAGE_SIZE, align)
        self.pages = pages
        self.advise(NOHUGEPAGE)
        self.touch(order or range(pages))

    def regions(self, pages: Iterable[int]) -> list[tuple[int, int]]:
        """Return (user address, bytes) of each of `pages`."""
        return [(self.address + page * PAGE_SIZE, PAGE_SIZE) for page in pages]

    def fill(self, data: bytes) -> None:
        """Write `data` to the first bytes."""
        with self.view(len(data)) as view:
            view[:] = data


def compact_memory() -> None:
    """Let the kernel move what can be moved, in all zones, so that what is free lies together (vm.compact_memory).

    Bytes and addresses of every program stay what they are. Raises NotAllowed without root or compaction.
    """
    try:
        Path("/proc/sys/vm/compact_memory").write_text("1", "ascii")
    except OSError as no:
        what = "cannot be written: run as root, on a kernel with CONFIG_COMPACTION"
        raise NotAllowed("compaction", "/proc/sys/vm/compact_memory", what, no.errno or errno.EACCES) from no
