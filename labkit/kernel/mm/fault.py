"""Faults: pages that are not there yet get folios, whole folios at a time."""

import errno
from collections.abc import Callable

from labkit.errors import SyscallError
from labkit.kernel.mm.buddy import Buddy
from labkit.kernel.mm.folio import Folio, Folios, map_refs
from labkit.kernel.mm.page_table import PAGE_PRESENT
from labkit.kernel.mm.pin import PinLedger
from labkit.kernel.mm.vma import VMA, MmStruct
from labkit.scatter.payload import Range, run_length
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, Nsec, PhysAddr, UserAddr


class Mm:
    """The memory of one task: its address space over the machine's frames, and the pins on them."""

    def __init__(
        self, buddy: Buddy, folios: Folios, ledger: PinLedger, emit: Emit, now: Callable[[], Nsec],
        wipe: Callable[[int, int], None] | None = None, task: int = 0,
    ) -> None:  # fmt: skip
        """Join the parts. `emit` takes records, `now` tells the time that they carry.

        `wipe(addr, nbytes)` clears physical memory that goes back to the allocator, as init_on_free=1 does, so that
        a fresh page is zeros. `task` counts from 0 the tasks of the machine.
        """
        self.buddy, self.folios, self.ledger = buddy, folios, ledger
        self.space = MmStruct(task)
        self._wipe = wipe
        self._emit, self._now = emit, now
        self._orphans: dict[int, Folio] = {}

    def mmap(self, nbytes: int, prot: str = "rw-", name: str = "anon", order: int = 0) -> UserAddr:
        """Map `nbytes` of anonymous memory; nothing is allocated before it is touched. Errors: MmStruct.mmap."""
        vma = self.space.mmap(nbytes, prot, name, order)
        self._emit(("Mmap", self._now(), 0, vma.start, vma.end - vma.start, prot, name))
        return UserAddr(vma.start)

    def munmap(self, addr: UserAddr) -> None:
        """Unmap the mapping at `addr`; a folio that is pinned stays until it is let go of (pins keep pages)."""
        vma = self.space.remove(addr)
        self._emit(("Munmap", self._now(), 0, vma.start, vma.end - vma.start))
        freed: list[Range] = []
        for pa in range(0, (vma.end - vma.start) >> PAGE_SHIFT, 1 << vma.order):
            pte = vma.table.ptes[pa]
            if pte & PAGE_PRESENT:
                folio = self._folio(pte & ~0xFFF)
                folio.refcount -= map_refs(folio.order)
                freed.extend(self._put(folio))
        self._emit_free(vma.order, freed)

    def release_orphans(self) -> None:
        """Free what was unmapped while it was pinned, and no longer is."""
        for folio in tuple(self._orphans.values()):
            self._emit_free(folio.order, self._put(folio))

    def handle_mm_fault(self, vma: VMA, first: int, last: int) -> int:
        """Bring in whole folios until entries [first, last) of `vma` are present; return how many folios came.

        Raises SyscallError EFAULT without the right to read, ENOMEM with no frame left: what came before stays mapped.
        """
        if "r" not in vma.prot and "w" not in vma.prot:
            raise SyscallError("mm", f"addr={vma.start + first * PAGE_SIZE:#x}", "may not be touched", errno.EFAULT)
        step, came, at = 1 << vma.order, list[Range](), first >> vma.order << vma.order
        begin, count = at, 0
        try:
            while at < last:
                if not vma.table.ptes[at] & PAGE_PRESENT:
                    came.append((self._new_folio(vma, at), PAGE_SIZE << vma.order))
                    count += 1
                elif came:
                    self._emit_alloc(vma, begin, came)
                    came, begin = [], at + step
                else:
                    begin = at + step
                at += step
        finally:
            self._emit_alloc(vma, begin, came)
        return count

    def _new_folio(self, vma: VMA, at: int) -> int:
        pfn = self.buddy.alloc_pages(vma.order)
        self.folios.add(pfn, vma.order)
        vma.table.set_range(at, PFN_PHYS(pfn), 1 << vma.order, vma.pte_flags)
        return PFN_PHYS(pfn)

    def _emit_alloc(self, vma: VMA, at: int, came: list[Range]) -> None:
        if came:
            addr, refs = vma.start + at * PAGE_SIZE, map_refs(vma.order)
            self._emit(("MmPageAlloc", self._now(), 0, addr, vma.order, refs, run_length(came)))

    def _emit_free(self, order: int, freed: list[Range]) -> None:
        if freed:
            self._emit(("MmPageFree", self._now(), 0, order, run_length(freed)))

    def _folio(self, addr: int) -> Folio:
        folio = self.folios.phys_to_folio(PhysAddr(addr))
        assert folio is not None, hex(addr)  # noqa: S101 - a present entry always maps a folio
        return folio

    def _put(self, folio: Folio) -> list[Range]:
        """Free `folio` if nobody counts on it, else keep it in mind; return what was freed."""
        addr, nbytes = PFN_PHYS(folio.pfn), PAGE_SIZE << folio.order
        if folio.refcount or self.ledger.covers(addr, nbytes):
            self._orphans[folio.pfn] = folio
            return []
        self._orphans.pop(folio.pfn, None)
        del self.folios.by_head[folio.pfn]
        self.buddy.free_pages(folio.pfn, folio.order)
        if self._wipe is not None:
            self._wipe(addr, nbytes)
        return [(addr, nbytes)]
