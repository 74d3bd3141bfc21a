"""Pages of a file become pages of a task: mappings of the page cache (struct address_space, mm/filemap.c)."""

import errno
from collections.abc import Callable
from functools import partial

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Steps
from labkit.kernel.mm.backing.cached import CachedPages
from labkit.kernel.mm.backing.rmap import folio_mkclean, unmap_folio, unmap_from
from labkit.kernel.mm.fault.memory import FaultRetry
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW
from labkit.kernel.mm.space.vma import VM_SHARED, VMA
from labkit.scatter.payload import Ranges, join, run_length
from labkit.trace.page_flags import PG_dirty, PG_uptodate
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, PMD_ORDER, Pfn, UserAddr

MAX_LFS_FILESIZE = (1 << 63) - 1
"""No file is longer, in bytes (include/linux/fs.h)."""
_LEAF = 1 << PMD_ORDER


class AddressSpace(CachedPages):
    """The page cache of one file, as those see it who map it; folios stay until the file is cut.

    A page that is missed begins as zeros, or as what `fill` brings. `kind` says what GUP may do with it.
    """

    def __init__(
        self, frames: Frames, name: str, nbytes: int, *, order: int = 0, kind: str = "file", writable: bool = True,
        backed: bool = False,
    ) -> None:  # fmt: skip
        """Open a file of `nbytes` bytes; a fault brings folios of 2**`order` pages; `writable`: it is open for that.

        `backed`: a device has it, so that what is written to it must get there; such a file may be empty. Raises
        BadInput EINVAL for a size of less than a byte, or an order that the allocator has not; EFBIG for more than a
        file can have.
        """
        if nbytes < (0 if backed else 1) or not 0 <= order <= MAX_PAGE_ORDER:
            rule = f"is no file: at least 1 byte, folios of order 0 to {MAX_PAGE_ORDER}"
            raise BadInput("filemap", f"{name} of {nbytes} bytes, order {order}", rule, errno.EINVAL)
        if nbytes > MAX_LFS_FILESIZE:
            raise BadInput("filemap", f"{name} of {nbytes} bytes", "is more than a file can have", errno.EFBIG)
        super().__init__(frames, name, order, backed=backed)
        self.nbytes, self.kind = nbytes, kind
        self.writable, self.flags = writable, 0
        self.i_mmap: dict[int, Mm] = {}
        """Who has mapped it, by number of the address space."""
        self.bring: Callable[[int, int], Steps] = _nobody
        """What brings so many pages from a page on, and takes its time (filemap_fault)."""
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
            self._ready(vma.pgoff + first, vma.pgoff + stop)
            came = self.add(vma.pgoff + first, vma.pgoff + stop)
            if write and not vma.cow:
                self.page_mkwrite(vma.pgoff + first, vma.pgoff + stop)
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

    def page_mkwrite(self, first: int, last: int) -> None:
        """Pages [first, last) are about to be written by a mapping: they are dirty from now on, if a device has them.

        It learns of each page once: what is cleaned is write-protected too (folio_mkclean).
        """
        clean = self.frames.folios.set_dirty(self.runs(first, last)) if self.backed else ()
        if clean:
            self.frames.emit(("FolioFlags", self.frames.now(), 0, run_length(join(clean)), PG_dirty, 0))

    def mkclean(self, index: int) -> None:
        """Write-protect the folio at page `index` wherever it is mapped shared, so that the next store is noticed."""
        folio = self.find(index)
        if folio is not None and folio.mapcount:
            folio_mkclean(self.i_mmap.values(), self, folio)

    def unmap(self, index: int) -> None:
        """Unmap the folio at page `index` wherever it is mapped, and no copy of it (unmap_mapping_folio)."""
        folio = self.find(index)
        if folio is not None and folio.mapcount:
            unmap_folio(self.i_mmap.values(), self, folio)

    def remove(self, index: int) -> None:
        """Take the folio at page `index` out of the file (filemap_remove_folio).

        A pin is no hindrance: whoever pinned it keeps it as an orphan (DIO-19).
        """
        folio = self.find(index)
        if folio is not None:
            self.i_pages.erase(folio.index, folio.order)
            self.frames.forget(folio, 1 << folio.order)

    def truncate(self, nbytes: int) -> None:
        """Make the file `nbytes` long (truncate_inode_pages): pages beyond are unmapped and forgotten.

        It does not wait for pins (MM-24): a folio that is pinned lives on as an orphan, and what is written to it then
        is in no file. Raises BadInput EINVAL for a negative length, EFBIG for more than a file can have.
        """
        if not 0 <= nbytes <= MAX_LFS_FILESIZE:
            rule, no = ("is negative", errno.EINVAL) if nbytes < 0 else ("is more than a file can have", errno.EFBIG)
            raise BadInput("ftruncate", f"length={nbytes}", rule, no)
        self._unmap(-(-nbytes >> PAGE_SHIFT))
        keep = self.i_pages.find(nbytes >> PAGE_SHIFT) if nbytes else None
        at = keep.first << PAGE_SHIFT if keep is not None else nbytes
        if keep is None or at == nbytes:
            self.forget(-(-nbytes >> PAGE_SHIFT))
        else:  # truncate_inode_partial_folio: what a folio that stays holds beyond the end becomes zeros
            self.forget(keep.first + (1 << keep.order))
            self.frames.wipe(PFN_PHYS(Pfn(keep.pfn)) + nbytes - at, (PAGE_SIZE << keep.order) - (nbytes - at))
        self.nbytes = nbytes

    def _unmap(self, first: int) -> None:
        """Unmap pages from `first` on wherever they are mapped, copies of them too."""
        unmap_from(self.i_mmap.values(), self, first)

    def _ready(self, first: int, last: int) -> None:
        """See to it that pages [first, last) can be mapped now: a fault takes no time here, and waits for no device.

        Raises FaultRetry EAGAIN for one that must come from the device first, or is on its way (BUF-4): whoever may
        wait brings it, and faults again.
        """
        if not self.backed:
            return
        missing = self.fill is None and not self.i_pages.words(first, last).all()
        late = missing or any(not folio.flags & PG_uptodate for folio in self.folios(first, last))
        if late:
            what = f"pages {first} to {last - 1} of {self.name}"
            retry = FaultRetry("filemap", what, "must come from the device, and are waited for", errno.EAGAIN)
            retry.wait = partial(self.bring, first, last - first)
            raise retry

    def _around(self, vma: VMA, first: int, last: int) -> tuple[int, int, int]:
        """Return [first, last) widened to whole leaves, and their order, where folios and addresses allow; else 0."""
        shift = (vma.start >> PAGE_SHIFT) - vma.pgoff
        lo, hi = first & -_LEAF, -(-last // _LEAF) * _LEAF
        if self.backed or self.order < PMD_ORDER or shift % _LEAF or vma.pgoff % _LEAF or hi > vma.pages:
            return first, last, 0
        end = -(-self.pages >> self.order) << self.order
        whole = vma.pgoff + hi <= end and vma.table.gaps(lo, hi) == [(lo, hi)]
        return (lo, hi, PMD_ORDER) if whole else (first, last, 0)


def _nobody(first: int, pages: int) -> Steps:
    """Raise SyscallError EFAULT: nobody brings pages of this file, and a fault is SIGBUS."""
    raise SyscallError("filemap", f"pages {first} to {first + pages - 1}", "come from nowhere (SIGBUS)", errno.EFAULT)
    yield 0


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
