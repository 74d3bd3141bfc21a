"""What direct IO and the page cache ask of any file, and what a filesystem asks of the memory that it is given."""

from collections.abc import Generator
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from labkit.hardware.clock import Steps, Wait
from labkit.kernel.block.bio import Bio
from labkit.scatter.payload import Payload

IomapType = Literal["hole", "delalloc", "mapped", "unwritten", "inline"]
IOMAP_TYPES: tuple[IomapType, ...] = ("hole", "delalloc", "mapped", "unwritten", "inline")
"""In the kernel's order: the number that iomap_iter_dstmap tells is the place here."""
NULL_ADDR = -1
"""The device address of what lies nowhere: a hole, or what is not allocated yet (IOMAP_NULL_ADDR)."""


class Iomap(NamedTuple):
    """Bytes [offset, offset + length) of a file lie from byte `addr` of its device on (struct iomap).

    `new`: allocated by this very call, what it holds is stale; `shared`: another file has it too, writing needs a copy;
    `dirty`: a change of metadata must reach the device before O_DSYNC may return.
    """

    type: IomapType
    offset: int
    length: int
    addr: int = NULL_ADDR
    new: bool = False
    shared: bool = False
    dirty: bool = False


class Iocb(IntFlag):
    """What a caller asks of one IO: the IOCB_* of include/linux/fs.h. ASYNC: nobody sleeps for it."""

    NOWAIT = 1
    DSYNC = 2
    SYNC = 4
    ATOMIC = 8
    APPEND = 16
    HIPRI = 32
    DONTCACHE = 64
    ASYNC = 128

    if not TYPE_CHECKING:  # IntFlag's own take ten times as long; a plain int comes of these
        __and__ = __rand__ = int.__and__
        __or__ = __ror__ = int.__or__


NO_FLAGS = Iocb(0)


class Kiocb(Protocol):
    """As much of an IO as a file looks at (struct kiocb)."""

    io: int
    call: str
    nbytes: int
    pos: int
    write: bool
    flags: Iocb
    simple: bool
    """Whether it takes the short way, which marks memory dirty afterwards (DIO-4, MM-25)."""


class File(Protocol):
    """A regular file as direct IO, and the page cache, see it."""

    ino: int
    i_size: int
    """Bytes of the file."""
    block_size: int
    """Bytes of a block of its filesystem."""

    def iomap_begin(self, pos: int, length: int, *, write: bool, direct: bool = True, nowait: bool = False) -> Iomap:
        """Return the mapping of byte `pos`, which goes on for `length` bytes at most; `write` allocates it.

        Raises SyscallError: ENOSPC, EAGAIN (nowait, and it would allocate), ENOTBLK (direct IO cannot be had here).
        """

    def end_io(self, pos: int, nbytes: int, *, unwritten: bool, extend: bool) -> None:
        """Bytes [pos, pos + nbytes) have reached the device: make them written, and let the file grow to them."""


class Cache(Protocol):
    """The page cache of a file, as direct IO sees it (DIO-18)."""

    @property
    def nrpages(self) -> int:
        """Return how many pages are cached."""

    def needs_writeback(self, pos: int, nbytes: int) -> bool:
        """Return whether a folio in the range is dirty, or on its way to the device."""

    def has_page(self, pos: int, nbytes: int) -> bool:
        """Return whether a page of the range is cached (filemap_range_has_page)."""

    def write_and_wait_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Let what is dirty in the range reach the device. Raises SyscallError as the device says."""

    def invalidate_range(self, io: int, pos: int, nbytes: int) -> Steps:
        """Drop the folios of the range (invalidate_inode_pages2_range). Raises SyscallError EBUSY."""

    def fsync(self, io: int) -> Steps:
        """Let all that is dirty reach the medium."""

    def i_size_changed(self) -> None:
        """Let mappings reach as far as the file does now: beyond that a fault is SIGBUS."""


class DioIter(Protocol):
    """The memory of one IO, which a filesystem takes in parts (struct iov_iter): its currency decides how."""

    in_parts: bool
    """Whether all of it was pinned at the start: then a bio carries what it may of it, whatever its length."""

    @property
    def left(self) -> int:
        """Return the bytes that nobody has taken yet."""

    def npages(self) -> int:
        """Return how many vectors the table of one bio would need for all that is left (iov_iter_npages)."""

    def aligned(self, address: int, length: int) -> bool:
        """Return whether every piece begins and ends as the masks want it (iov_iter_is_aligned)."""

    def take(self, nbytes: int) -> Generator[Wait, Any, "Taken"]:
        """Take up to `nbytes` for one bio (bio_iov_iter_get_pages).

        Less comes where its table is full, or a page cannot be had behind the first. Raises SyscallError where nothing
        can be had: EFAULT, EINVAL for what is not aligned, ENOMEM, ENODEV.
        """

    def zero(self, nbytes: int) -> Generator[Wait, Any, None]:
        """Write zeros over the next `nbytes`, as a read of a hole does (iov_iter_zero). Raises SyscallError EFAULT."""


class Taken(NamedTuple):
    """Memory for one bio: what flows, and who lets go of it when the bio ends, where that is not left to the IO."""

    payload: Payload
    release: "Release | None" = None


class Release(Protocol):
    """Let go of one bio's memory."""

    def __call__(self, bio: Bio) -> None:
        """`bio` has ended."""
