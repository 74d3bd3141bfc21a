"""Rows of a pagemap become pieces of folios, and ranges of user addresses become mappings."""

import errno
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from labkit.errors import BadInput
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

Spans = Sequence[tuple[int, int, int]]
"""(user address, first PFN, pages) each."""
Folio = tuple[int, int]
"""(first PFN, order)."""
_FAR = 2 << 20
"""Memory that lies so far apart, in bytes, is not of one mapping (ours)."""


class Piece(NamedTuple):
    """`pages` pages from user address `addr` on lie in the frames from `pfn` on, all of one folio, or all small."""

    addr: int
    pfn: int
    pages: int
    order: int
    pfn_of_folio: int

    @property
    def folio(self) -> Folio:
        """The folio; of small pages the first."""
        return self.pfn_of_folio, self.order

    @property
    def base(self) -> int:
        """The user address at which the folio would begin."""
        return self.addr - ((self.pfn - self.pfn_of_folio) << PAGE_SHIFT)


def cut_at_folios(rows: Spans, folios: Iterable[Folio]) -> list[Piece]:
    """Return `rows` cut where large `folios` begin and end; a frame that is mapped twice stands alone."""
    known = sorted(folios)
    heads = [pfn for pfn, _ in known]
    pieces: list[Piece] = []
    for addr, pfn, pages in rows:
        at, end = pfn, pfn + pages
        while at < end:
            i = bisect_right(heads, at) - 1
            head, order = known[i] if i >= 0 and at < known[i][0] + (1 << known[i][1]) else (at, 0)
            stop = heads[i + 1] if i + 1 < len(heads) else end
            stop = min(end, head + (1 << order) if order else stop)
            pieces.append(Piece(addr + ((at - pfn) << PAGE_SHIFT), at, stop - at, order, head))
            at = stop
    twice = _twice(pieces)
    return [part for piece in pieces for part in _alone(piece, twice)]


def _twice(pieces: Sequence[Piece]) -> frozenset[int]:
    """Return the small frames that more than one piece has."""
    small = sorted((piece.pfn, piece.pfn + piece.pages) for piece in pieces if not piece.order)
    if all(end <= start for (_, end), (start, _) in pairwise(small)):
        return frozenset()
    count = Counter(pfn for first, end in small for pfn in range(first, end))
    return frozenset(pfn for pfn, n in count.items() if n > 1)


def _alone(piece: Piece, twice: frozenset[int]) -> Iterator[Piece]:
    """Yield `piece` page by page, if one of its frames is among `twice`; else as it is."""
    if piece.order or not twice:
        yield piece
        return
    for at in range(piece.pages):
        yield Piece(piece.addr + (at << PAGE_SHIFT), piece.pfn + at, 1, 0, piece.pfn + at)


def of_several(pieces: Sequence[Piece], absent: Iterable[Range] = ()) -> frozenset[Folio]:
    """Return the folios that lie at several addresses, or at one where they do not fit: no anonymous folio does.

    The address of a folio is that of its first page; where the rest of it would be, there may be others, or nothing
    (`absent`: user address, bytes).
    """
    bases: dict[Folio, set[int]] = {}
    for piece in pieces:
        bases.setdefault(piece.folio, set()).add(piece.base)
    several = {folio for folio, places in bases.items() if len(places) > 1}
    wholes = [(at, at + (PAGE_SIZE << folio[1]), folio) for folio, places in bases.items() for at in places if folio[1]]
    small = [(piece.addr, piece.addr + (piece.pages << PAGE_SHIFT), None) for piece in pieces if not piece.order]
    nothing = [(addr, addr + n, None) for addr, n in absent]
    furthest, owner = 0, None
    for start, end, folio in sorted((*wholes, *small, *nothing), key=lambda row: row[:2]):
        if start < furthest:
            several |= {each for each in (folio, owner) if each is not None}
        if end > furthest:
            furthest, owner = end, folio
    return frozenset(several)


def in_a_row(pieces: Iterable[Piece]) -> Iterator[tuple[int, tuple[Range, ...]]]:
    """Yield (user address, physical ranges) of small `pieces`, those that follow each other as one."""
    addr, end, runs = 0, -1, list[Range]()
    for piece in sorted(pieces):
        if piece.addr != end:
            if runs:
                yield addr, tuple(runs)
            addr, runs = piece.addr, []
        runs.append((piece.pfn << PAGE_SHIFT, piece.pages << PAGE_SHIFT))
        end = piece.addr + (piece.pages << PAGE_SHIFT)
    if runs:
        yield addr, tuple(runs)


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return [start, end) spans by address, those that touch or overlap as one."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def stretches(spans: Iterable[tuple[int, int]], absent: Iterable[Range], mm: Mm) -> list[tuple[int, int]]:
    """Return the mappings that hold `spans`: one for those that lie near each other, and nothing else between.

    `absent` (user address, bytes) is in none of them, nor is what `mm` has mapped already. Raises BadInput EINVAL
    where a span is absent.
    """
    gone = [(addr & -PAGE_SIZE, -(-(addr + n) // PAGE_SIZE) * PAGE_SIZE) for addr, n in absent if n]
    gone = joined([*gone, *((vma.start, vma.end) for vma in mm.space.vmas)])
    starts, out = [start for start, _ in gone], list[tuple[int, int]]()
    for start, end in joined(spans):
        if _hit(gone, starts, start, end):
            raise BadInput(
                "placed", f"addr={start:#x}+{end - start}", "is told to be there, and not to be", errno.EINVAL
            )
        near = out and start - out[-1][1] < _FAR and not _hit(gone, starts, out[-1][1], start)
        if near:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def _hit(gone: Sequence[tuple[int, int]], starts: Sequence[int], start: int, end: int) -> bool:
    """Return whether [start, end) has a byte of one of `gone`, whose starts are `starts`."""
    i = bisect_right(starts, start) - 1
    return (i >= 0 and gone[i][1] > start) or (i + 1 < len(gone) and gone[i + 1][0] < end)
