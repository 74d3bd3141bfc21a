"""unified (proposed): one iterator for iov_iter and bio, made of pages, pinned once where copy_from_user would be.

Kent Overstreet's side of "State Of The Page", 27 Jan 2024 (PHYR-27): the bio is the iterator, so that no table is built
twice; pages are pinned at the entry, and let go of when the IO is over. How a page vector is folded is upstream's.
"""

from labkit.kernel.currency.fill import FolioEnd, after, fold, fold_folios, pinned_twice, unaligned
from labkit.kernel.currency.ops import Hold, Kiocb, Released, wipe
from labkit.kernel.currency.page import folio_end
from labkit.kernel.currency.peers import OneClass
from labkit.kernel.mm.gup.gup import Pages, unpin_user_pages
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.kernel.version import KERNELS, NEWEST, Rules
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.memory_class import RAM
from labkit.scatter.payload import Payload, Range, Ranges, join
from labkit.units import PAGE_SIZE


class UnifiedCurrency:
    """Pins every page of the IO at its entry; what a bio gets is a part of the one list."""

    name, policy, per_bio = "unified", "page", False

    def __init__(self, rules: Rules = KERNELS[NEWEST]) -> None:
        """Fold pages as the kernel of `rules` does."""
        self.rules = rules

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:  # noqa: ARG002 - all of it, at once
        """Pin all from byte `start` on. A page that cannot be had fails the IO before any of it is issued (D-4)."""
        taken: list[Pages] = []
        vecs: list[Range] = []
        mm = iocb.mm
        try:
            source = OneClass(iocb)
            sizes = self._take_all(iocb, start, taken, vecs, source)
            kept = join([tuple(vecs)])
            ranges = pinned_twice(kept, sizes)
            token = mm.ledger.pin(iocb.io, mm.frames.now(), self.policy, ranges, mm.task, per_bio=False)
        except BaseException:
            if taken:
                unpin_user_pages(mm, join([got.runs for got in taken]))
            raise
        runs, pages = join([got.runs for got in taken]), sum(got.nr for got in taken)
        atomics, faults = sum(got.atomics for got in taken), sum(got.faults for got in taken)
        lines = sum(got.cache_lines for got in taken)
        return Hold(
            BioVecs.of(kept, source.cls or RAM), iocb.nbytes - start, token, runs, ranges, pages, atomics, pages,
            BIO_VEC_BYTES * len(kept), lines, faults,
        )  # fmt: skip

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of every page, once, when the IO is over; memory that was read into is dirty then."""
        iocb.mm.ledger.unpin(hold.token)
        runs: Ranges = hold.handle
        try:
            if not iocb.write:
                mark_dirty(iocb.mm, hold.ranges, iocb.io)
        finally:
            atomics = unpin_user_pages(iocb.mm, runs)
        return Released(atomics, sum([nbytes for _, nbytes in runs]) // PAGE_SIZE)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:  # noqa: ARG002
        """Write zeros over memory that is pinned already, by its physical addresses (D-5)."""
        return wipe(iocb, pinned)

    def slots(self, iocb: Kiocb, start: int) -> int:  # noqa: ARG002
        """Return 0: the bio has no table of its own."""
        return 0

    def _take_all(self, iocb: Kiocb, start: int, taken: list[Pages], vecs: list[Range], source: OneClass) -> list[int]:
        """Extract piece after piece into `taken`, fold them into `vecs`, and return the bytes of each extraction.

        Errors: those of `source`, also where memory is of two classes: one list is of one.
        """
        mask, ends, sizes = iocb.limits.dma_alignment, folio_end(iocb.mm), list[int]()
        for piece in after(iocb.pieces, start):
            addr, left = piece
            if (addr | left) & mask:
                raise unaligned(iocb.call, addr, left, mask)
            while left:
                want = -(-(addr % PAGE_SIZE + left) // PAGE_SIZE)
                got = source.extract(addr, want)
                taken.append(got)
                nbytes = min(left, got.nr * PAGE_SIZE - addr % PAGE_SIZE)
                self._fold(vecs, got.runs, addr % PAGE_SIZE, nbytes, ends)
                sizes.append(nbytes)
                addr, left = addr + nbytes, left - nbytes
        return sizes

    def _fold(self, vecs: list[Range], runs: Ranges, offset: int, nbytes: int, ends: FolioEnd) -> None:
        if self.rules.folio_bound:
            fold_folios(vecs, runs, offset, nbytes, ends)
        else:
            fold(vecs, runs, offset, nbytes)
