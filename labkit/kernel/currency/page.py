"""page (upstream, Linux 6.18): an array of struct pages becomes bio_vecs, 256 to a bio, let go of bio by bio."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.fs.bdev import BIO_MAX_VECS
from labkit.kernel.mm.gup import Pages, pin_user_pages, unpin_user_pages
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.page import Page, page_to_phys
from labkit.scatter.payload import Range, cut
from labkit.units import PAGE_SIZE, UserAddr

_SLABS = (4, 16, 64, 128, 256)
"""Vector tables come in these sizes; 4 stand inside the bio (BIO-1)."""


class PageCurrency:
    """Pins page by page as each bio is filled, and folds what touches into bio_vecs (R2..R5)."""

    name, policy, per_bio = "page", "page", True

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Fill one bio from byte `start` on: until its 256th vector, or the end, or a page that cannot be had (R6)."""
        left, vecs, pages = iocb.nbytes - start, list[Range](), list[Page]()
        ptes = atomics = 0
        try:
            while left and len(vecs) < BIO_MAX_VECS:
                addr = iocb.buf + start
                want = min(BIO_MAX_VECS - len(vecs), -(-(addr % PAGE_SIZE + left) // PAGE_SIZE))
                got = self._extract(iocb, addr, want, pages)
                if got is None:
                    break
                ptes, atomics = ptes + got.ptes, atomics + got.atomics
                nbytes = min(left, len(got.pages) * PAGE_SIZE - addr % PAGE_SIZE)
                _fold(vecs, got.pages, addr % PAGE_SIZE, nbytes)
                pages += got.pages
                start, left = start + nbytes, left - nbytes
        except BaseException:
            unpin_user_pages(iocb.mm, pages)
            raise
        return self._trim(iocb, vecs, pages, ptes, atomics)

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """bio_release_pages: a struct page for each page, an atomic for each folio run."""
        pages: list[Page] = hold.handle
        atomics = unpin_user_pages(iocb.mm, pages)
        return Released(atomics, len(pages))

    def _extract(self, iocb: Kiocb, addr: int, want: int, pages: list[Page]) -> Pages | None:
        """Pin up to `want` pages; an error after the first page ends the bio early instead (BIO-5)."""
        try:
            return pin_user_pages(iocb.mm, UserAddr(addr), want, write=not iocb.write)
        except OSError:
            if not pages:
                raise
            return None

    def _trim(self, iocb: Kiocb, vecs: list[Range], pages: list[Page], ptes: int, atomics: int) -> Hold:
        """Cut the bio down to whole logical blocks (R5), and unpin the pages that fall off its end."""
        nbytes = sum(length for _addr, length in vecs)
        whole = nbytes // iocb.limits.logical_block_size * iocb.limits.logical_block_size
        kept = cut(vecs, 0, whole)
        used = sum(-(-(addr % PAGE_SIZE + length) // PAGE_SIZE) for addr, length in kept)
        unpin_user_pages(iocb.mm, pages[used:])
        if not whole:
            raise SyscallError(iocb.call, f"{nbytes} bytes of memory", "hold no logical block (BIO-5)", errno.EFAULT)
        table = BIO_VEC_BYTES * next(size for size in _SLABS if size >= len(kept))
        return Hold(BioVecs.of(kept), whole, pages[:used], kept, ptes, atomics, len(pages), table)


def _fold(vecs: list[Range], pages: list[Page], offset: int, nbytes: int) -> None:
    """Glue each page to the last vector where memory goes on (R3), or open a new one."""
    for page in pages:
        addr, take = page_to_phys(page) + offset, min(PAGE_SIZE - offset, nbytes)
        if vecs and sum(vecs[-1]) == addr:
            vecs[-1] = (vecs[-1][0], vecs[-1][1] + take)
        else:
            vecs.append((addr, take))
        offset, nbytes = 0, nbytes - take
