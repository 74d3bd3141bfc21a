"""Huge pages that are set aside: 2 MiB and 1 GiB, promised at mmap, kept for who asks for them (mm/hugetlb.c)."""

import errno
from collections.abc import Sequence

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_ACCESSED, PAGE_DIRTY
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_NORESERVE, VMA
from labkit.scatter.payload import Range
from labkit.trace.page_flags import ANON, PG_hugetlb
from labkit.units import (
    MAX_PAGE_ORDER,
    PAGE_SHIFT,
    PAGE_SIZE,
    PFN_PHYS,
    PMD_ORDER,
    PUD_ORDER,
    Pfn,
    UserAddr,
    human_bytes,
)


class HugetlbPool:
    """The pool of one size (struct hstate): frames that nobody gets who does not ask for MAP_HUGETLB."""

    kind, flags = "hugetlb", VM_HUGETLB

    def __init__(self, frames: Frames, nr_hugepages: int, order: int = PMD_ORDER) -> None:
        """Set aside up to `nr_hugepages` pages of 2**`order` frames: as many as memory has, as the sysctl does.

        Raises BadInput EINVAL for an order that has no leaf entry, or a negative number.
        """
        if order not in {PMD_ORDER, PUD_ORDER} or nr_hugepages < 0:
            rule = "is no pool: pages are of 2 MiB or 1 GiB, and no fewer than none"
            raise BadInput("hugetlb", f"{nr_hugepages} pages of order {order}", rule, errno.EINVAL)
        self.frames, self.order = frames, order
        self.free: list[int] = []
        """First frames of pages that nobody uses, the next one last."""
        self.mms: dict[int, Mm] = {}
        """Who was promised pages, by number of the address space; a child of fork was not."""
        while len(self.free) < nr_hugepages and (pfn := self._grow()) is not None:
            self.free.insert(0, pfn)
        frames.hugetlb_pools[order] = self.take_back

    @property
    def size(self) -> int:
        """Bytes of a page."""
        return PAGE_SIZE << self.order

    @property
    def reserved(self) -> int:
        """Pages that are promised to mappings, and have not been touched (HugePages_Rsvd)."""
        every = (vma for mm in self.mms.values() for vma in mm.space.vmas)
        mappings = (vma for vma in every if vma.ops is self and not vma.flags & VM_NORESERVE)
        return sum(hi - lo for vma in mappings for lo, hi in vma.table.gaps(0, vma.pages)) >> self.order

    def mmap(self, mm: Mm, nbytes: int, prot: str = "rw-") -> UserAddr:
        """Map `nbytes`, rounded up to whole pages, and promise them. Raises SyscallError ENOMEM for a short pool."""
        want, have = -(-nbytes // self.size), len(self.free) - self.reserved
        if want > have:
            rule = f"needs {want} huge pages of {human_bytes(self.size)}: the pool has {have}"
            raise SyscallError("mmap", human_bytes(nbytes), rule, errno.ENOMEM)
        self.mms[mm.task] = mm
        return do_mmap(mm, nbytes, prot, f"hugetlb {human_bytes(self.size)}", self.order, ops=self)

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:  # noqa: ARG002 - read or write
        """Map pages of the pool, zeroed, by leaf entries; return how many.

        Raises SyscallError EFAULT (SIGBUS) where what was promised to others leaves none.
        """
        step = 1 << self.order
        came = 0
        for at in range(first // step * step, last, step):
            self._map(mm, vma, at, self._dequeue(mm, vma, at))
            came += 1
        return came

    def hugetlb_wp(self, mm: Mm, vma: VMA, at: int) -> int:
        """Put a copy of its own in the place of the huge page at page `at`, which others have too; return 1.

        Raises SyscallError EFAULT (SIGBUS) where the pool has none to spare, and the page stays as it was. The kernel
        would take it away from a child if its parent needs it.
        """
        old, pfn = vma.table.word(at) & ADDR_MASK, self._dequeue(mm, vma, at)
        self.frames.copy(pfn << PAGE_SHIFT, old, self.size)
        self._map(mm, vma, at, pfn)
        mm.frames.unmap([(group, 1) for group, _ in mm.folios.groups(((old, self.size),))])
        return 1

    def take_back(self, runs: Sequence[Range]) -> None:
        """Put pages that nobody maps any more (physical, bytes) back into the pool."""
        for addr, nbytes in runs:
            self.free += range(addr >> PAGE_SHIFT, (addr + nbytes) >> PAGE_SHIFT, 1 << self.order)

    def _dequeue(self, mm: Mm, vma: VMA, at: int) -> int:
        """Take a page out of the pool. Raises SyscallError EFAULT: there is none for page `at` of `vma`.

        A page that `vma` was promised and has not touched is its own; any other must be promised to nobody
        (dequeue_hugetlb_folio_vma).
        """
        promised = mm.task in self.mms and not vma.flags & VM_NORESERVE and not vma.table.word(at)
        if not self.free or (not promised and len(self.free) <= self.reserved):
            what = f"addr={vma.start + at * PAGE_SIZE:#x}"
            raise SyscallError("hugetlb", what, "finds no huge page in the pool (SIGBUS)", errno.EFAULT)
        return self.free.pop()

    def _map(self, mm: Mm, vma: VMA, at: int, pfn: int) -> None:
        folio = self.frames.folios.add(pfn, self.order, 0, ANON | PG_hugetlb)
        mm.map_runs(vma, at, folio.runs, self.order, vma.pte_flags | PAGE_ACCESSED | PAGE_DIRTY)
        mm.frames.map([(folio, 1)])
        mm.emit("MmPageAlloc", vma.start + at * PAGE_SIZE, self.order, 1, folio.runs, mm.task)
        mm.emit("FolioFlags", folio.runs, PG_hugetlb, 0)

    def _grow(self) -> int | None:
        """Take one page from the buddy allocator, or None: the pool is as large as memory lets it be."""
        buddy = self.frames.buddy
        try:
            pfn = buddy.alloc_contig(1 << self.order) if self.order > MAX_PAGE_ORDER else buddy.alloc_pages(self.order)
        except SyscallError:
            return None
        self.frames.wipe(PFN_PHYS(Pfn(pfn)), self.size)
        return pfn
