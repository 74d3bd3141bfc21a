"""What the page cache asks of memory, and of the user's side of a copy: neither page nor mm is known here."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from labkit.kernel.fs.ops import File, Iomap
from labkit.scatter.payload import Ranges
from labkit.units import PhysAddr


class CachedFolio(Protocol):
    """As much of a folio as a filesystem looks at."""

    pfn: int
    order: int
    flags: int
    """PG_* (page_flags.py)."""
    index: int
    """Which page of the file its first page is."""
    mapping: Any
    """The file that it belongs to; None for one that was truncated or invalidated meanwhile."""
    private: Any
    """What the filesystem keeps of it."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""


class Mapping(Protocol):
    """The folios of one file (struct address_space)."""

    name: str
    nbytes: int
    """Bytes of the file, as those see it who map it: a fault beyond is SIGBUS."""
    fill: Callable[[int, Ranges], None] | None
    """Fills memory with what an inline file has from a byte on: the inode is in memory, and no device is asked."""
    drain: Callable[[int, Ranges], None] | None
    """Takes it back there."""

    @property
    def nrpages(self) -> int:
        """Pages that are cached."""

    def find(self, index: int) -> CachedFolio | None:
        """Return the folio that holds page `index`, or None."""

    def folios(self, first: int, last: int) -> Sequence[CachedFolio]:
        """Return the folios that have a page of [first, last), in order."""

    def add_folio(self, index: int, order: int, flags: int = 0, io: int = 0) -> CachedFolio | None:
        """Make 2**`order` pages a folio of the file; None where one of them has a folio already (EEXIST).

        Raises SyscallError ENOMEM.
        """

    def mkclean(self, index: int) -> None:
        """Write-protect the folio at page `index` wherever it is mapped: the next store makes it dirty again."""

    def unmap(self, index: int) -> None:
        """Take the folio at page `index` out of every page table."""

    def remove(self, index: int) -> None:
        """Take the folio at page `index` out of the file; whoever holds it keeps it."""

    def phys_to_folio(self, addr: PhysAddr) -> CachedFolio | None:
        """Return the folio that holds the byte at `addr`, or None: not all memory has one (D-17)."""

    def wipe(self, addr: int, nbytes: int) -> None:
        """Set `nbytes` bytes at physical `addr` to zero."""

    def truncate(self, nbytes: int) -> None:
        """Forget all beyond byte `nbytes`, and let the file end there."""

    def release_orphans(self) -> None:
        """Free what left the file while it was in use, and is in use no more."""


class UserCopy(Protocol):
    """The user's side of a copy (struct iov_iter): it goes on where the last copy ended.

    Less than was asked for is what a fault on the way leaves.
    """

    def copy_to_iter(self, ranges: Ranges) -> int:
        """Copy the bytes of `ranges` (physical) to the user; return how many went."""

    def copy_from_iter(self, ranges: Ranges) -> int:
        """Copy bytes of the user into `ranges` (physical); return how many came."""


class Promising(File, Protocol):
    """A file that promises blocks to buffered writes, and finds them at writeback (struct iomap_writeback_ops)."""

    def map_blocks(self, pos: int, length: int) -> Iomap:
        """Return where writeback puts byte `pos`, allocated now. Raises SyscallError ENOSPC."""
