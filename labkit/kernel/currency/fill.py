"""Pages become the vectors of one bio: bio_iov_iter_get_pages of each kernel (R2..R5, BIO-5)."""

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

from labkit.errors import SyscallError
from labkit.kernel.block.bio import BIO_MAX_VECS
from labkit.kernel.mm.fault.memory import FaultRetry
from labkit.kernel.version import Rules
from labkit.scatter.payload import Range, Ranges, cut
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_LOW = PAGE_SIZE - 1


class Got(Protocol):
    """Pages that an extraction took."""

    @property
    def runs(self) -> Ranges:
        """Return them as (physical address, bytes), whole pages, in the order of the user's addresses."""

    @property
    def nr(self) -> int:
        """Return how many they are."""


Extract = Callable[[int, int], Any]
"""Takes a user address, and how many pages to take from there on; returns Got. Raises SyscallError."""
FolioEnd = Callable[[int], int]
"""Takes a physical address; returns where the folio that holds it ends."""


class Taken(NamedTuple):
    """One extraction: what came, the byte of its first page that is wanted, and how many bytes of it are."""

    got: Any
    skip: int
    nbytes: int


class Filled(NamedTuple):
    """The vectors of one bio, their bytes, and what was extracted for them."""

    vecs: list[Range]
    nbytes: int
    taken: list[Taken]

    def pages(self, nbytes: int) -> int:
        """Return how many of the pages that were taken hold the first `nbytes` bytes."""
        pages = 0
        for got in self.taken:
            here = min(got.nbytes, nbytes)
            pages, nbytes = pages + (-(-(got.skip + here) // PAGE_SIZE) if here else 0), nbytes - here
        return pages


def fill(
    pieces: Sequence[Range], start: int, nbytes: int, rules: Rules, mask: int, extract: Extract, folio_end: FolioEnd
) -> Filled:
    """Take pages for bytes [start, start + nbytes) of the iovecs `pieces`, until the table is full (R4).

    A page that cannot be had ends it early; at the first page that is raised. EINVAL for memory that is off `mask`
    is raised wherever it is met, where the kernel looks at it here (ITER-5), and so is FaultRetry: `extract` knows what
    it took until then.
    """
    vecs, taken, done = list[Range](), list[Taken](), 0
    for piece in after(pieces, start):
        addr, length = piece
        while length and done < nbytes and room(vecs, taken) > 0:
            here = min(length, nbytes - done)
            if rules.aligned == "extract" and (addr | here) & mask:
                raise unaligned("gup", addr, here, mask)
            want = min(room(vecs, taken), -(-((addr & _LOW) + here) // PAGE_SIZE))
            try:
                got = extract(addr, want)
            except SyscallError as bad:
                if not taken or bad.errno == errno.EINVAL or isinstance(bad, FaultRetry):
                    raise
                return Filled(vecs, done, taken)
            size = min(here, got.nr * PAGE_SIZE - (addr & _LOW))
            taken.append(Taken(got, addr & _LOW, size))
            if rules.folio_bound:
                fold_folios(vecs, got.runs, addr & _LOW, size, folio_end)
            else:
                fold(vecs, got.runs, addr & _LOW, size)
            addr, length, done = addr + size, length - size, done + size
        if length:
            break
    return Filled(vecs, done, taken)


def room(vecs: Sequence[Range], taken: Sequence[Taken]) -> int:  # noqa: ARG001 - what came does not count, this is the rule
    """Return how many more pages may be asked for: one for each vector that is free still, whatever came (R4)."""
    return BIO_MAX_VECS - len(vecs)


def fold(vecs: list[Range], runs: Ranges, offset: int, nbytes: int) -> None:
    """Glue each run of pages to the last vector where memory goes on, whatever its folio (R3), or open a new one."""
    for addr, length in runs:
        take = min(length - offset, nbytes)
        at = addr + offset
        if vecs and vecs[-1][0] + vecs[-1][1] == at:
            vecs[-1] = (vecs[-1][0], vecs[-1][1] + take)
        else:
            vecs.append((at, take))
        offset, nbytes = 0, nbytes - take


def fold_folios(vecs: list[Range], runs: Ranges, offset: int, nbytes: int, folio_end: FolioEnd) -> None:
    """Open a new vector for each folio of each extraction (R3 of 7.3, LAND-9)."""
    for addr, length in runs:
        at, end = addr + offset, addr + min(length, offset + nbytes)
        nbytes -= end - at
        offset = 0
        while at < end:
            stop = end if at >> PAGE_SHIFT == (end - 1) >> PAGE_SHIFT else min(end, folio_end(at))
            vecs.append((at, stop - at))
            at = stop


def trim(filled: Filled, lbs: int) -> tuple[Ranges, int]:
    """Return the vectors cut down to whole logical blocks, and their bytes (R5); what falls off opens the next bio."""
    whole = filled.nbytes // lbs * lbs
    return (tuple(filled.vecs) if whole == filled.nbytes else cut(filled.vecs, 0, whole)), whole


def after(pieces: Sequence[Range], start: int) -> Sequence[Range]:
    """Return what is left of iovecs `pieces` behind their first `start` bytes."""
    if not start:
        return pieces
    ends = list(accumulate(length for _, length in pieces))
    return [
        (addr + max(0, start - (end - length)), length - max(0, start - (end - length)))
        for (addr, length), end in zip(pieces, ends, strict=True)
        if end > start
    ]


def pinned_twice(vecs: Ranges, sizes: Sequence[int]) -> Ranges:
    """Return `vecs` cut where an extraction ends inside a page: the next one has pinned that page once more (MM-13).

    `sizes`: the bytes of each extraction, in order. So the pins of a page are the ranges that touch it.
    """
    seams = list(accumulate(sizes))[:-1]
    if not seams:
        return vecs
    out, at = list[Range](), 0
    for addr, length in vecs:
        inside = seams[bisect_right(seams, at) : bisect_left(seams, at + length)]
        cuts = [0, *(seam - at for seam in inside if (addr + seam - at) & _LOW), length]
        out += [(addr + lo, hi - lo) for lo, hi in pairwise(cuts)]
        at += length
    return tuple(out)


def npages(pieces: Sequence[Range]) -> int:
    """Return how many pages `pieces` touch, each counted by itself (iov_iter_npages, R7)."""
    return sum([((addr & _LOW) + length + _LOW) // PAGE_SIZE for addr, length in pieces])


def fixed_table(runs: Ranges, skip: int, nbytes: int, folio: Callable[[int], Range], rules: Rules) -> tuple[Range, ...]:
    """Return the vectors that a registered buffer of `nbytes`, `skip` bytes into its first page, keeps (R17, REG-2).

    One for each page of `runs` (physical, whole pages); one for each folio where all of them are large and of one size,
    and none but the first and the last only in part. `folio(addr)` is the (address, bytes) of the folio that holds it.
    """
    pages = [page for addr, length in runs for page in range(addr, addr + length, PAGE_SIZE)]
    size = folio(pages[0])[1] if rules.fixed_folios else 0
    parts = _by_folio(pages, folio, size) if size > PAGE_SIZE else None
    if parts is None:
        parts = [(page, PAGE_SIZE) for page in pages]
    return tuple(cut(parts, skip, nbytes))


def _by_folio(pages: Sequence[int], folio: Callable[[int], Range], size: int) -> list[Range] | None:
    """Return `pages` folio by folio, or None where they are not all of large folios of `size` bytes, in full."""
    parts: list[Range] = []
    at = 0
    while at < len(pages):
        head, length = folio(pages[at])
        if length != size or (at and pages[at] != head):
            return None
        n = min((head + size - pages[at]) // PAGE_SIZE, len(pages) - at)
        if pages[at : at + n] != list(range(pages[at], pages[at] + n * PAGE_SIZE, PAGE_SIZE)):
            return None
        parts.append((pages[at], n * PAGE_SIZE))
        at += n
    return parts


def unaligned(call: str, addr: int, length: int, mask: int) -> SyscallError:
    """Return the refusal of `length` bytes at user address `addr`, by name of what is off `mask` (ITER-5)."""
    what = f"buf={addr:#x}" if addr & mask else f"length={length} at buf={addr:#x}"
    return SyscallError(call, what, f"is not a multiple of {mask + 1} (O_DIRECT, ITER-5)", errno.EINVAL)
