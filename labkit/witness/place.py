"""The layout of a capture becomes places: what is mapped from the beginning, what comes with a fault, what never."""

import errno
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from labkit.errors import BadInput
from labkit.machine.pieces import Folio, joined
from labkit.machine.placed import Placed
from labkit.scatter.payload import Range
from labkit.units import MAX_PAGE_ORDER, PAGE_SIZE, PUD_ORDER
from labkit.witness.capture import Capture

_Row = tuple[int, int, int]
_Span = tuple[int, int]


def placed_of(capture: Capture) -> Placed:
    """Return where the memory of `capture` lies. Raises BadInput for a layout that no machine here can have.

    What was seen afterwards is right, where it was noted; a page that was not there before comes with its fault. A
    write brings none but the zero page (MM-15). Pages of large folios are there from the beginning (simplified), and
    of a registered buffer those, too, that no row tells of: somewhere.
    """
    if capture.mode == "p2p":
        rule = "has memory of another device, for which there is no place here"
        raise BadInput("like", capture.id, rule, errno.EOPNOTSUPP)
    final = _present(capture.layout.before if capture.layout.after is None else capture.layout.after)
    seen = _user(_present(capture.layout.before))
    folios = _folios(capture, final)
    late = [part for row in final for part in _without(row, seen) if not _inside(row[1], folios)]
    rows = [part for row in final for part in _without(row, _user(late))]
    writes = all(io.op == "w" for io in capture.io)
    zero = late[0][1] if late and writes else None
    known = _user(final)
    ready = [piece for region in capture.regions for piece in _outside(region, known)]
    ready += [(va, n * PAGE_SIZE) for va, pfn, n in late if pfn == zero]
    there = joined([*known, *((va & -PAGE_SIZE, va + n + -(va + n) % PAGE_SIZE) for va, n in ready)])
    asked = [piece for io in capture.io for piece in io.iov if io.buf_index is None]
    absent = [gap for piece in asked for gap in _outside(piece, there)]
    late = [row for row in late if row[1] != zero]
    return Placed(tuple(rows), tuple(late), tuple(folios), zero, tuple(ready), tuple(absent))


def _present(rows: Iterable[_Row]) -> list[_Row]:
    return sorted((va, pfn, n) for va, pfn, n in rows if pfn >= 0)


def _user(rows: Iterable[_Row]) -> list[_Span]:
    """Return the user addresses [start, end) of `rows`, joined."""
    return joined((va, va + n * PAGE_SIZE) for va, _, n in rows)


def _without(row: _Row, spans: Sequence[_Span]) -> Iterator[_Row]:
    """Yield the parts of `row` that lie in none of `spans`."""
    va, pfn, n = row
    for addr, nbytes in _outside((va, n * PAGE_SIZE), spans):
        yield addr, pfn + (addr - va) // PAGE_SIZE, nbytes // PAGE_SIZE


def _outside(piece: Range, spans: Sequence[_Span]) -> Iterator[Range]:
    """Yield the parts of `piece` (address, bytes) that lie in none of `spans`, which are sorted."""
    at, end = piece[0], piece[0] + piece[1]
    for lo, hi in spans[max(0, bisect_right(spans, (at, at)) - 1) :]:
        if lo >= end:
            break
        if at < lo:
            yield at, lo - at
        at = max(at, hi)
    if at < end:
        yield at, end - at


def _folios(capture: Capture, rows: Iterable[_Row]) -> list[Folio]:
    """Return the large folios that `rows` have a page of. Raises BadInput EINVAL for what is no folio."""
    frames, found = joined((pfn, pfn + n) for _, pfn, n in rows), list[Folio]()
    for pfn, n, *_ in sorted(capture.layout.large_folios, key=lambda folio: folio[0]):
        order, told = n.bit_length() - 1, f"folio {pfn:#x}+{n}"
        before = found[-1][0] + (1 << found[-1][1]) if found else 0
        if 1 << order != n or pfn % n or (not 0 < order <= MAX_PAGE_ORDER and order != PUD_ORDER) or pfn < before:
            rule = "is none: a folio lies on its size, a power of two up to 4 MiB or 1 GiB, and over no other"
            raise BadInput("capture", told, rule, errno.EINVAL)
        i = bisect_right(frames, (pfn + n - 1, 1 << 62)) - 1
        if i >= 0 and frames[i][1] > pfn:
            found.append((pfn, order))
    return found


def _inside(pfn: int, folios: Sequence[Folio]) -> bool:
    """Return whether frame `pfn` is of one of `folios`."""
    i = bisect_right(folios, (pfn, 1 << 6)) - 1
    return i >= 0 and pfn < folios[i][0] + (1 << folios[i][1])
