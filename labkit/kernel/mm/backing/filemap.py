"""Pages of a file become pages of a task: the page cache, its folios by index (struct address_space, mm/filemap.c)."""

import errno
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW
from labkit.kernel.mm.space.vma import VM_SHARED, VMA
from labkit.scatter.payload import Ranges, ranges_of, run_length
from labkit.trace.page_flags import PG_uptodate
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, PMD_ORDER, Pfn, UserAddr

MAX_LFS_FILESIZE = (1 << 63) - 1
"""No file is longer, in bytes (include/linux/fs.h)."""
_LEAF = 1 << PMD_ORDER


class AddressSpace:
    """The page cache of one file: folios of one order, brought by the first fault, kept until the file is cut.

    The file holds a reference for each page of a folio. Its bytes begin as zeros. `kind` says what GUP may do with it.
    """

    def __init__(
        self, frames: Frames, name: str, nbytes: int, *, order: int = 0, kind: str = "file", writable: bool = True
    ) -> None:
        """Open a file of `nbytes` bytes whose folios have 2**`order` pages; `writable`: whether it is open for that.

        Raises BadInput EINVAL for a size of less than a byte, or an order that the allocator has not; EFBIG for more
        than a file can have.
        """
        if nbytes < 1 or not 0 <= order <= MAX_PAGE_ORDER:
            rule = f"is no file: at least 1 byte, folios of order 0 to {MAX_PAGE_ORDER}"
            raise BadInput("filemap", f"{name} of {nbytes} bytes, order {order}", rule, errno.EINVAL)
        if nbytes > MAX_LFS_FILESIZE:
            raise BadInput("filemap", f"{name} of {nbytes} bytes", "is more than a file can have", errno.EFBIG)
        self.frames, self.name, self.nbytes, self.order, self.kind = frames, name, nbytes, order, kind
        self.writable, self.flags = writable, 0
        self.refs = 1 << order
        """References of the file on each of its folios."""
        self.heads: NDArray[np.int64] = np.zeros(0, np.int64)
        """First frame of each folio, by index in folios, as far as any came; 0 where none has (i_pages)."""
        self.i_mmap: dict[int, Mm] = {}
        """Who has mapped it, by number of the address space."""
        self.closed = False
        """Whether nobody has it open any more: then it goes with its last mapping."""

    @property
    def pages(self) -> int:
        """Pages of the file, the last one whole: beyond them a fault is SIGBUS."""
        return -(-self.nbytes >> PAGE_SHIFT)

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:
        """Map what the file has for [first, last); return how many folios came for it (filemap_fault).

        A shared mapping that writes is writable at once; any other is so after one fault more. Raises SyscallError
        ENOMEM, and EFAULT (SIGBUS) beyond the end of the file; what lies before that is mapped.
        """
        self.i_mmap[mm.task] = mm
        stop = min(last, self.pages - vma.pgoff)
        came = 0
        if first < stop:
            first, stop, leaf = self._around(vma, first, stop)
            came = self.add(vma.pgoff + first, vma.pgoff + stop)
            put = PAGE_ACCESSED | (PAGE_DIRTY if write and not vma.cow else 0)
            take = 0 if write and not vma.cow else PAGE_RW
            set_ptes(mm, vma, first, self.runs(vma.pgoff + first, vma.pgoff + stop), vma.pte_flags & ~take | put, leaf)
        if stop < last:
            addr = vma.start + max(first, stop) * PAGE_SIZE
            raise SyscallError("mm", f"addr={addr:#x}", f"lies beyond the end of {self.name} (SIGBUS)", errno.EFAULT)
        return came

    def close(self) -> None:
        """Let go of the only descriptor of it, as one who has mapped it may (fput)."""
        self.closed = True
        self.unmapped()

    def unmapped(self) -> None:
        """Drop all pages if nobody maps it and nobody has it open: nobody can come back for them (evict)."""
        if self.closed and not any(vma.ops is self for mm in self.i_mmap.values() for vma in mm.space.vmas):
            self.truncate(0)

    def add(self, first: int, last: int) -> int:
        """Let the folios of pages [first, last) be there; return how many came. Raises SyscallError ENOMEM."""
        lo, hi = first >> self.order, -(-last >> self.order)
        if hi > len(self.heads):
            heads = np.zeros(max(hi, 2 * len(self.heads)), np.int64)
            heads[: len(self.heads)], self.heads = self.heads, heads
        missing = np.flatnonzero(self.heads[lo:hi] == 0) + lo
        came = len(missing)
        while len(missing):
            runs, n, groups = self.frames.alloc(self.order, len(missing), PG_uptodate, self)
            self.heads[missing[:n]] = _heads(runs, self.order)
            for at, group in zip(missing.tolist(), groups, strict=False):  # many folios are one group
                group.refcount = self.refs
                if isinstance(group, Folio):
                    group.index = at << self.order
            now = self.frames.now()
            self.frames.emit(("MmFilemapAddToPageCache", now, 0, self.order, self.refs, PG_uptodate, runs, self.name))
            missing = missing[n:]
        return came

    def runs(self, first: int, last: int) -> Ranges:
        """Return (physical address, bytes) of pages [first, last), which are there, joined where they touch."""
        pages = np.arange(first, last, dtype=np.int64)
        pfns = self.heads[pages >> self.order] + (pages & ((1 << self.order) - 1))
        return run_length(ranges_of(pfns << PAGE_SHIFT, np.full(len(pfns), PAGE_SIZE, np.int64)))

    def replace(self, old: Pfn, new: Pfn) -> None:
        """Let the folio that begins at frame `old` begin at `new`: it has migrated (replace_page_cache_folio)."""
        self.heads[self.heads == old] = new

    def truncate(self, nbytes: int) -> None:
        """Make the file `nbytes` long (truncate_inode_pages): pages beyond are unmapped and forgotten.

        It does not wait for pins (MM-24): a folio that is pinned lives on as an orphan, and what is written to it then
        is in no file. Raises BadInput EINVAL for a negative length, EFBIG for more than a file can have.
        """
        if not 0 <= nbytes <= MAX_LFS_FILESIZE:
            rule, no = ("is negative", errno.EINVAL) if nbytes < 0 else ("is more than a file can have", errno.EFBIG)
            raise BadInput("ftruncate", f"length={nbytes}", rule, no)
        first, keep = -(-nbytes >> PAGE_SHIFT), -(-nbytes >> self.order + PAGE_SHIFT)
        self._unmap(first)
        gone = self.heads[keep:]
        pfns = np.sort(gone[gone > 0])
        size = np.full(len(pfns), PAGE_SIZE << self.order, np.int64)
        self.heads = self.heads[:keep].copy()
        if len(pfns):
            for group, _ in list(self.frames.folios.groups(run_length(ranges_of(pfns << PAGE_SHIFT, size)))):
                self.frames.forget(group, self.refs)
        self._zero_tail(nbytes)
        self.nbytes = nbytes

    def _unmap(self, first: int) -> None:
        """Unmap pages from `first` on wherever they are mapped, copies of them too (unmap_mapping_range)."""
        for mm in self.i_mmap.values():
            for vma in mm.space.vmas:
                at = max(0, first - vma.pgoff)
                if vma.ops is self and at < vma.pages:
                    mm.zap(vma, at, vma.pages)

    def _zero_tail(self, nbytes: int) -> None:
        """Zero what a folio that stays holds beyond the new end (truncate_inode_partial_folio)."""
        skip = nbytes % (PAGE_SIZE << self.order)
        at = nbytes >> self.order + PAGE_SHIFT
        head = int(self.heads[at]) if skip and at < len(self.heads) else 0
        if head:
            self.frames.wipe(PFN_PHYS(Pfn(head)) + skip, (PAGE_SIZE << self.order) - skip)

    def _around(self, vma: VMA, first: int, last: int) -> tuple[int, int, int]:
        """Return [first, last) widened to whole leaves, and their order, where folios and addresses allow; else 0."""
        shift = (vma.start >> PAGE_SHIFT) - vma.pgoff
        lo, hi = first & -_LEAF, -(-last // _LEAF) * _LEAF
        if self.order < PMD_ORDER or shift % _LEAF or vma.pgoff % _LEAF or hi > vma.pages:
            return first, last, 0
        end = -(-self.pages >> self.order) << self.order
        whole = vma.pgoff + hi <= end and vma.table.gaps(lo, hi) == [(lo, hi)]
        return (lo, hi, PMD_ORDER) if whole else (first, last, 0)


def mmap_file(
    mm: Mm, file: AddressSpace, nbytes: int, prot: str = "rw-", *, shared: bool = True, offset: int = 0
) -> UserAddr:
    """Map `nbytes` of `file` from byte `offset` on; return the address.

    A private mapping shows the file until it is written to, and its own copies from then on. Raises SyscallError EACCES
    for writing to a file that is not open for it, BadInput EINVAL for an offset inside a page; else as do_mmap.
    """
    if shared and "w" in prot and not file.writable:
        rule = "is not open for writing: neither is a shared mapping of it"
        raise SyscallError("mmap", file.name, rule, errno.EACCES)
    if offset % PAGE_SIZE or offset < 0:
        raise BadInput("mmap", f"offset={offset}", f"is not a multiple of {PAGE_SIZE}", errno.EINVAL)
    order = file.order if file.order >= PMD_ORDER else 0  # the mapping is rounded up where leaves are to fit
    flags = VM_SHARED if shared else 0
    file.i_mmap[mm.task] = mm
    return do_mmap(mm, nbytes, prot, file.name, order, ops=file, flags=flags, pgoff=offset >> PAGE_SHIFT)


def set_ptes(mm: Mm, vma: VMA, at: int, runs: Ranges, flags: int, leaf: int = 0) -> None:
    """Map memory that is there already from page `at` on, by entries of order `leaf`; count them, and tell the trace.

    `runs` (physical, bytes) are whole entries. What has no folio is mapped and not counted.
    """
    mm.map_runs(vma, at, runs, leaf, flags)
    mm.frames.map([(group, pages >> leaf) for group, pages in mm.folios.groups(runs)])
    mm.emit("SetPtes", vma.start + at * PAGE_SIZE, leaf, runs, mm.task)


def _heads(runs: Ranges, order: int) -> NDArray[Any]:
    """Return the first frame of each folio of `order` in `runs`, in their order."""
    step = 1 << order
    return np.concatenate([np.arange(a >> PAGE_SHIFT, (a + n) >> PAGE_SHIFT, step) for a, n in runs])
