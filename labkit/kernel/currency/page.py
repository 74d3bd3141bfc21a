"""page (upstream, Linux 6.18): an array of struct pages becomes bio_vecs, 256 to a bio, let go of bio by bio."""

import errno
from bisect import bisect_left

from labkit.errors import SyscallError
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.fs.bdev import BIO_MAX_VECS, BlockDeviceFile
from labkit.kernel.mm.gup.gup import Pages, pin_user_pages, unpin_user_pages
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.payload import Range, Ranges, cut, join
from labkit.units import PAGE_SIZE, UserAddr

_SLABS = (4, 16, 64, 128, 256)
"""Vector tables come in these sizes; 4 stand inside the bio (BIO-1)."""


class PageCurrency:
    """Pins page by page as each bio is filled, and folds what touches into bio_vecs (R2..R5)."""

    name, policy, per_bio = "page", "page", True

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Fill one bio from byte `start` on: until its 256th vector, or the end, or a page that cannot be had (R6)."""
        left, vecs, taken = iocb.nbytes - start, list[Range](), list[Pages]()
        try:
            while left and len(vecs) < BIO_MAX_VECS:
                addr = iocb.buf + start
                want = min(BIO_MAX_VECS - len(vecs), -(-(addr % PAGE_SIZE + left) // PAGE_SIZE))
                got = self._extract(iocb, addr, want, taken)
                if got is None:
                    break
                taken.append(got)
                nbytes = min(left, got.nr * PAGE_SIZE - addr % PAGE_SIZE)
                _fold(vecs, got.runs, addr % PAGE_SIZE, nbytes)
                start, left = start + nbytes, left - nbytes
        except BaseException:
            unpin_user_pages(iocb.mm, join([got.runs for got in taken]))
            raise
        hold = self._trim(iocb, vecs, taken)
        if not iocb.write and not _simple(iocb):
            mark_dirty(iocb.mm, hold.ranges, iocb.io)  # bio_set_pages_dirty: no interrupt may do it later (MM-25)
        return hold

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """bio_release_pages: a struct page for each page, an atomic for each folio run (MM-25, MM-26)."""
        iocb.mm.ledger.unpin(hold.token)
        runs: Ranges = hold.handle
        if not iocb.write and _simple(iocb):
            mark_dirty(iocb.mm, hold.ranges, iocb.io)  # first, since what is unmapped is free afterwards
        atomics = unpin_user_pages(iocb.mm, runs)
        return Released(atomics, sum([nbytes for _, nbytes in runs]) // PAGE_SIZE)

    def _extract(self, iocb: Kiocb, addr: int, want: int, taken: list[Pages]) -> Pages | None:
        """Pin up to `want` pages; an error after the first page ends the bio early instead (BIO-5)."""
        try:
            return pin_user_pages(iocb.mm, UserAddr(addr), want, write=not iocb.write)
        except OSError:
            if not taken:
                raise
            return None

    def _trim(self, iocb: Kiocb, vecs: list[Range], taken: list[Pages]) -> Hold:
        """Cut the bio down to whole logical blocks (R5), and unpin the pages that fall off its end."""
        nbytes, lbs = sum([length for _, length in vecs]), iocb.limits.logical_block_size
        pages, whole = sum([got.nr for got in taken]), nbytes // lbs * lbs
        runs = taken[0].runs if len(taken) == 1 else join([got.runs for got in taken])
        kept = join([tuple(vecs) if whole == nbytes else cut(vecs, 0, whole)])
        used = pages if whole == nbytes else sum(-(-(a % PAGE_SIZE + n) // PAGE_SIZE) for a, n in kept)
        if used < pages:
            unpin_user_pages(iocb.mm, cut(runs, used * PAGE_SIZE, (pages - used) * PAGE_SIZE))
            runs = cut(runs, 0, used * PAGE_SIZE)
        if not whole:
            raise SyscallError(iocb.call, f"{nbytes} bytes of memory", "hold no logical block (BIO-5)", errno.EFAULT)
        mm, table = iocb.mm, BIO_VEC_BYTES * _SLABS[bisect_left(_SLABS, len(kept))]
        token = mm.ledger.pin(iocb.io, mm.frames.now(), self.policy, kept, mm.task, per_bio=True)
        atomics, faults = sum([got.atomics for got in taken]), sum([got.faults for got in taken])
        lines = sum([got.cache_lines for got in taken])
        # a step of the walk for each page: under a leaf one entry is read, and still 512 pointers are stored (MM-9)
        return Hold(BioVecs.of(kept), whole, token, runs, kept, pages, atomics, pages, table, lines, faults)


def _simple(iocb: Kiocb) -> bool:
    """Return whether the IO takes the short way, which marks memory dirty afterwards (DIO-4, MM-25)."""
    return BlockDeviceFile.path(iocb.buf, iocb.nbytes) == "simple"


def _fold(vecs: list[Range], runs: Ranges, offset: int, nbytes: int) -> None:
    """Glue each run of pages to the last vector where memory goes on (R3), or open a new one."""
    for addr, length in runs:
        take = min(length - offset, nbytes)
        if vecs and sum(vecs[-1]) == addr + offset:
            vecs[-1] = (vecs[-1][0], vecs[-1][1] + take)
        else:
            vecs.append((addr + offset, take))
        offset, nbytes = 0, nbytes - take
