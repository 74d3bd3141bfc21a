"""A bio that has ended finds its folios again: by walking from page to page, or by their physical addresses.

Upstream a vector holds a page: its folio is looked up, and from there on the folio behind it is stepped to, which takes
for granted that a vector is memory in a row with folios all the way (BIO-6). Proposed: a range holds an address, and
each folio is looked up by it (BUF-5). Both must find the same.
"""

import errno
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from labkit.errors import InvariantError
from labkit.kernel.block.bio import Bio
from labkit.kernel.fs.cache.core import Core
from labkit.kernel.fs.cache.ops import CachedFolio, Mapping
from labkit.units import PAGE_SHIFT, PhysAddr

Completion = Literal["phys_to_folio", "folio_walk"]


class Piece(NamedTuple):
    """Bytes [start, start + nbytes) of a folio, and whether it was looked up (True) or stepped to (False)."""

    folio: CachedFolio
    start: int
    nbytes: int
    looked_up: bool


def phys_to_folio(mapping: Mapping, bio: Bio) -> Iterator[Piece]:
    """Yield the pieces of folios in `bio`, each found by its address (proposed: BUF-5)."""
    for addr, nbytes in bio.payload.vecs:
        at, end = addr, addr + nbytes
        while at < end:
            folio = _folio(mapping, at)
            start = at - (folio.pfn << PAGE_SHIFT)
            size = min(end - at, folio.nbytes - start)
            yield Piece(folio, start, size, looked_up=True)
            at += size


def folio_walk(mapping: Mapping, bio: Bio) -> Iterator[Piece]:
    """Yield the same, from the folio of a vector's first page to the next and the next (upstream: BIO-6)."""
    for addr, nbytes in bio.payload.vecs:
        folio = _folio(mapping, addr)
        start, left, looked_up = addr - (folio.pfn << PAGE_SHIFT), nbytes, True
        while True:
            size = min(left, folio.nbytes - start)
            yield Piece(folio, start, size, looked_up)
            left -= size
            if not left:
                break
            folio = _folio(mapping, (folio.pfn << PAGE_SHIFT) + folio.nbytes)  # folio_next
            start, looked_up = 0, False


WAYS: dict[Completion, tuple[Callable[[Mapping, Bio], Iterator[Piece]], str]] = {
    "phys_to_folio": (phys_to_folio, "proposed"),
    "folio_walk": (folio_walk, "upstream"),
}
"""Each way, and whose idea it is."""


def pieces(core: Core, how: Completion, bio: Bio) -> list[Piece]:
    """Return the pieces of folios in `bio`, and tell the trace what it took to find them."""
    way, origin = WAYS[how]
    found = list(way(core.mapping, bio))
    lookups = sum(piece.looked_up for piece in found)
    core.emit((
        "FolioEndIo", core.env.now, bio.io, bio.bio, how, origin, len(found), lookups, len(found) - lookups, bio.write,
    ))  # fmt: skip
    return found


def _folio(mapping: Mapping, addr: int) -> CachedFolio:
    """Return the folio at `addr`. Buffered IO is of folios alone: InvariantError where there is none (D-17)."""
    folio = mapping.phys_to_folio(PhysAddr(addr))
    if folio is None:
        raise InvariantError("filemap", f"addr={addr:#x}", "has no folio, and was read or written buffered", errno.EIO)
    return folio
