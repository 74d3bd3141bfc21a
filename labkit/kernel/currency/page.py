"""page (upstream): an array of struct pages becomes bio_vecs, 256 to a bio, let go of bio by bio."""

import errno
from bisect import bisect_left

from labkit.errors import SyscallError
from labkit.kernel.currency.fill import Filled, FolioEnd, after, fill, npages, pinned_twice, trim
from labkit.kernel.currency.iov_iter import IovIter
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.currency.peers import OneClass
from labkit.kernel.mm.gup.gup import Pages, unpin_user_pages
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.version import KERNELS, NEWEST, Rules
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.memory_class import RAM
from labkit.scatter.payload import Payload, Ranges, cut, join
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PUD_ORDER

_SLABS = (4, 16, 64, 128, 256)
"""Vector tables come in these sizes; 4 stand inside the bio (BIO-1)."""


_LARGE = (*range(1, MAX_PAGE_ORDER + 1), PUD_ORDER)
"""Orders of folios that more than one page of a vector may be of."""


class PageCurrency:
    """Pins page by page as each bio is filled, and folds what touches into bio_vecs (R2..R5)."""

    name, policy, per_bio = "page", "page", True

    def __init__(self, rules: Rules = KERNELS[NEWEST]) -> None:
        """Fill bios as the kernel of `rules` does."""
        self.rules = rules

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:
        """Fill one bio from byte `start` on: until its 256th vector, or the end, or a page that cannot be had (R6)."""
        left = iocb.nbytes - start
        source = OneClass(iocb)
        filled = self._fill(iocb, start, left if nbytes is None else min(nbytes, left), source)
        taken: list[Pages] = [each.got for each in filled.taken]
        runs = taken[0].runs if len(taken) == 1 else join([got.runs for got in taken])
        try:
            kept, used = self._trim(iocb, filled)
            hold = self._hold(iocb, BioVecs.of(kept, source.cls or RAM), _pages(runs, 0, used), filled)
        except BaseException:
            unpin_user_pages(iocb.mm, runs)
            raise
        if used < hold.ptes:
            unpin_user_pages(iocb.mm, _pages(runs, used, hold.ptes - used))
        return hold

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """bio_release_pages: a struct page for each page, an atomic for each folio run (MM-25, MM-26)."""
        iocb.mm.ledger.unpin(hold.token)
        runs: Ranges = hold.handle
        try:
            if not iocb.write and iocb.simple:
                mark_dirty(iocb.mm, hold.ranges, iocb.io)  # first, since what is unmapped is free afterwards
        finally:
            atomics = unpin_user_pages(iocb.mm, runs)
        return Released(atomics, sum([nbytes for _, nbytes in runs]) // PAGE_SIZE)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:  # noqa: ARG002
        """Fault the user's pages in, and write zeros over them: nothing is pinned for that (DIO-15)."""
        return IovIter(iocb.mm, cut(iocb.pieces, start, nbytes)).zero(nbytes)

    def slots(self, iocb: Kiocb, start: int) -> int:
        """Return the pages that the IO touches: a vector may be needed for each (R7)."""
        return npages(after(iocb.pieces, start))

    def _fill(self, iocb: Kiocb, start: int, nbytes: int, source: OneClass) -> Filled:
        """Extract pages, and fold them; whatever goes wrong, none of them stays pinned (BIO-5)."""
        taken: list[Pages] = []

        def extract(addr: int, want: int) -> Pages:
            taken.append(source.extract(addr, want))
            return taken[-1]

        mask = iocb.limits.dma_alignment
        try:
            return fill(iocb.pieces, start, nbytes, self.rules, mask, extract, folio_end(iocb.mm))
        except BaseException:
            if taken:
                unpin_user_pages(iocb.mm, join([got.runs for got in taken]))
            raise

    @staticmethod
    def _trim(iocb: Kiocb, filled: Filled) -> tuple[Ranges, int]:
        """Return the vectors of whole logical blocks (R5), and how many of the pages they need. Errors: EFAULT."""
        kept, whole = trim(filled, iocb.limits.logical_block_size)
        if not whole:
            what = f"{filled.nbytes} bytes of memory"
            raise SyscallError(iocb.call, what, "hold no logical block (BIO-5)", errno.EFAULT)
        return join([kept]), filled.pages(whole)

    def _hold(self, iocb: Kiocb, vecs: BioVecs, runs: Ranges, filled: Filled) -> Hold:
        """Tell the ledger, and count what it cost."""
        taken: list[Pages] = [each.got for each in filled.taken]
        mm, table = iocb.mm, BIO_VEC_BYTES * _SLABS[bisect_left(_SLABS, len(vecs))]
        pages = sum([got.nr for got in taken])
        atomics, faults = sum([got.atomics for got in taken]), sum([got.faults for got in taken])
        lines = sum([got.cache_lines for got in taken])
        ranges = pinned_twice(vecs.vecs, [each.nbytes for each in filled.taken])
        token = mm.ledger.pin(iocb.io, mm.frames.now(), self.policy, ranges, mm.task, per_bio=True)
        # a step of the walk for each page: under a leaf one entry is read, and still 512 pointers are stored (MM-9)
        first = not (iocb.write or iocb.simple)  # no interrupt may do it later (MM-25)
        return Hold(vecs, vecs.nbytes, token, runs, ranges, pages, atomics, pages, table, lines, faults, first)


def _pages(runs: Ranges, first: int, count: int) -> Ranges:
    """Return pages [first, first + count) of `runs`, which are whole pages."""
    return cut(runs, first * PAGE_SIZE, count * PAGE_SIZE)


def folio_end(mm: Mm) -> FolioEnd:
    """Return what tells where the folio that holds a physical address ends; a page without one stands alone."""
    by_head, large = mm.folios.by_head, [batch for batch in mm.folios.batches if batch.order]

    def end(addr: int) -> int:
        pfn, order = addr >> PAGE_SHIFT, 0
        for each in _LARGE:
            folio = by_head.get(pfn >> each << each)
            if folio is not None and folio.order >= each:
                order = folio.order
                break
        else:
            order = next((batch.order for batch in large if batch.find(pfn) >= 0), 0)
        size = PAGE_SIZE << order
        return (addr & -size) + size

    return end
