"""How often a pin counts on folios, of which size, and how many cache lines that writes."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.frames.folios import Folios
from labkit.scatter.payload import Ranges
from labkit.scatter.range_array import RangeArray
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PUD_ORDER

_ORDERS = (*range(MAX_PAGE_ORDER + 1), PUD_ORDER)


class Tally(NamedTuple):
    """What ranges are of, page by page; memory without folios, and the zero page (MM-15), is passed over.

    `lines`: cache lines that a pin writes: of each folio run (pages in a row of one folio) the one of the refcount
    (MM-13), and of a large folio the one of the pincount too, which lies in its second struct page (MM-14).
    `grabs`: locked operations: one for each page, and one for each run of a folio of 2 MiB or more, which a leaf maps
    (MM-9). Whether a leaf does is not known here, since ranges say nothing of entries: the size of the folio decides.
    """

    lines: int
    grabs: int


def tally(folios: Folios, ranges: Ranges) -> Tally:
    """Return what a pin of `ranges` (physical, any bytes) counts on; no folio leaves its batch for it."""
    if len(ranges) == 1 and ranges[0][0] % PAGE_SIZE + ranges[0][1] <= PAGE_SIZE:  # the most common case
        folio = folios.by_head.get(ranges[0][0] >> PAGE_SHIFT)
        if folio is not None:
            return _of(folio.order, 1, 1)
    found, pfns = [Tally(0, 0)], _pfns(ranges)
    for batch in folios.batches:
        heads = pfns >> batch.order << batch.order
        mine = batch.heads[np.minimum(batch.heads.searchsorted(heads), batch.count - 1)] == heads
        if mine.any():
            found.append(_of(batch.order, int((np.diff(heads[mine]) != 0).sum()) + 1, int(mine.sum())))
            pfns = pfns[~mine]
    found += _singles(folios.by_head, pfns.tolist())
    return Tally(*map(sum, zip(*found, strict=True)))


def _of(order: int, runs: int, pages: int) -> Tally:
    """Return what `runs` runs of `pages` pages cost, in folios of `order`."""
    return Tally(runs * 2 if order else runs, runs if order >= PMD_ORDER else pages)


def _singles(by_head: dict[int, Folio], pfns: Iterable[int]) -> Iterable[Tally]:
    """Yield each run of `pfns`, in folios that stand alone."""
    order, first, end, pages = 0, 0, 0, 0
    for pfn in pfns:
        if first <= pfn < end:
            pages += 1
            continue
        heads = ((size, by_head.get(pfn >> size << size)) for size in _ORDERS)
        folio = next((each for size, each in heads if each is not None and each.order >= size), None)
        if folio is None:
            continue
        if pages:
            yield _of(order, 1, pages)
        order, first, end, pages = folio.order, folio.pfn, folio.pfn + (1 << folio.order), 1
    if pages:
        yield _of(order, 1, pages)


def _pfns(ranges: Ranges) -> NDArray[np.int64]:
    """Return the frame of each page that `ranges` touch, in order."""
    table = ranges if isinstance(ranges, RangeArray) else RangeArray.join([ranges])
    first = table.addrs >> PAGE_SHIFT
    count = ((table.addrs + table.lens + PAGE_SIZE - 1) >> PAGE_SHIFT) - first
    ends = np.cumsum(count)
    pfns: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count)
    return pfns
