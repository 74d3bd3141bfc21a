"""Reads become windows: what is read ahead of a reader, and in which folios (mm/readahead.c, BUF-1). Pure functions."""

from collections.abc import Iterator
from typing import NamedTuple

VM_READAHEAD_PAGES = 32
"""Pages of the largest window: 128 KiB."""
PMD_ORDER = 9
NEVER = -2
"""No page, and before none that is one."""


class FileRa(NamedTuple):
    """What one open file remembers of its reader (struct file_ra_state), in pages."""

    start: int = 0
    size: int = 0
    async_size: int = 0
    """So many pages before the end of the window the next one is asked for."""
    order: int = 0
    prev: int = NEVER
    """The page that was read last."""
    ra_pages: int = VM_READAHEAD_PAGES


class Window(NamedTuple):
    """Pages [start, start + size) to read, in folios of `order` at most; at page `mark` the next is asked for."""

    start: int
    size: int
    order: int
    mark: int = NEVER


def page_cache_sync_ra(ra: FileRa, index: int, req_count: int, before: int) -> tuple[FileRa, Window]:
    """Return the window for a reader who misses page `index` of `req_count` that are wanted.

    `before`: pages cached in a row right before it.

    The start of a file, more than a window, and what follows the last read begin a window; so does what follows a long
    cached stretch; anything else is a random read, and gets what it asks for.
    """
    if not ra.ra_pages:
        return ra, Window(index, 1, 0)
    most = ra.ra_pages
    if index == 0 or req_count > most or 0 <= index - ra.prev <= 1:
        size = init_ra_size(req_count, most)
        return _window(ra, index, size, size - req_count if size > req_count else size, 0)
    if before <= req_count:
        return ra, Window(index, req_count, 0)
    seen = 2 * before if before == index else before
    return _window(ra, index, min(seen + req_count, most), 1, 0)


def page_cache_async_ra(ra: FileRa, index: int, pages: int, req_count: int, miss: int) -> tuple[FileRa, Window | None]:
    """Return the next window, or None: the reader has come to the marked folio of `pages` pages at page `index`.

    `miss`: the first page behind `index` that is not cached. What was expected there ramps the window up; a mark that
    somebody else's window left starts from what is cached.
    """
    if not ra.ra_pages:
        return ra, None
    order = ra.order + 2
    if index == (ra.start + ra.size - ra.async_size) // pages * pages:
        size = max(ra.size, next_ra_size(ra.size, ra.ra_pages))
        return _window(ra, ra.start + ra.size, size, size, order)
    if miss - index > ra.ra_pages:
        return ra, None
    size = next_ra_size(miss - index + req_count, ra.ra_pages)
    return _window(ra, miss, size, size, order)


def init_ra_size(req_count: int, most: int) -> int:
    """Return the size of a first window: the request, rounded up to a power of two, and two or four times that."""
    size = 1 << (req_count - 1).bit_length()
    if size <= most // 32:
        return 4 * size
    return 2 * size if size <= most // 4 else most


def next_ra_size(size: int, most: int) -> int:
    """Return the size of the window after one of `size` pages: four times that, twice that, or the most there is."""
    if size < most // 16:
        return 4 * size
    return 2 * size if size <= most // 2 else most


def folios_of(window: Window, eof: int, max_order: int = PMD_ORDER) -> Iterator[tuple[int, int, bool]]:
    """Yield (page, order, marked) of each folio of `window`; `eof` is the last page of the file, -1 of an empty one.

    A folio lies at a multiple of its size, and goes beyond neither the window nor the file (page_cache_ra_order).
    """
    limit, at = min(eof, window.start + window.size - 1), window.start
    while at <= limit:
        order = window.order if not at else min(window.order, (at & -at).bit_length() - 1)
        order = min(order, max_order, (limit - at + 1).bit_length() - 1)
        yield at, order, at == window.mark >> order << order and window.mark >= 0
        at += 1 << order


def _window(ra: FileRa, start: int, size: int, async_size: int, order: int) -> tuple[FileRa, Window]:
    """Return what is remembered, and the window: its order is no greater than a folio of all of it (BUF-1)."""
    order = min(order, PMD_ORDER, size.bit_length() - 1)
    new = ra._replace(start=start, size=size, async_size=async_size, order=order)
    return new, Window(start, size, order, start + size - async_size)
