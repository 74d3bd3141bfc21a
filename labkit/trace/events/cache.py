"""The page cache: what is read ahead, what is copied, and how memory that was read or written finds its folios."""

from typing import NamedTuple


class PageCacheRaOrder(NamedTuple):
    """Pages [start, start + size) are read, in folios of 2**`order` pages at most (page_cache_ra_order).

    `mark`: who reads this page asks for the next ones (PG_readahead); -1: nobody does.
    """

    t: int
    io: int
    start: int
    size: int
    order: int
    mark: int


class CopyFolio(NamedTuple):
    """`nbytes` bytes at byte `pos` of a file are copied between the page cache and the user (copy_folio_to_iter)."""

    t: int
    io: int
    pos: int
    nbytes: int
    write: bool


class FolioEndIo(NamedTuple):
    """The end of a bio has found its `folios`: those are read, or written back (folio_end_read, folio_end_writeback).

    `how`: "folio_walk" (upstream: the folio of a vector's first page, from there on the next, BIO-6), or
    "phys_to_folio" (proposed: each by its address, BUF-5). `lookups`: of the memmap; `steps`: folios that were stepped
    to from the one before.
    """

    t: int
    io: int
    bio: int
    how: str
    origin: str
    folios: int
    lookups: int
    steps: int
    write: bool
