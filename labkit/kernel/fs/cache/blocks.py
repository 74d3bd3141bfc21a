"""Folios and their blocks: which are uptodate, which are dirty, how much is on its way (struct iomap_folio_state)."""

from collections.abc import Iterator

from labkit.kernel.fs.cache.ops import CachedFolio
from labkit.trace.page_flags import PG_dirty, PG_uptodate
from labkit.units import PAGE_SHIFT


class Blocks:
    """The blocks of one folio, a bit each; hangs on the folio (folio_attach_private)."""

    __slots__ = ("dirty", "every", "reading", "shift", "uptodate", "writing")

    def __init__(self, folio: CachedFolio, block_size: int) -> None:
        """Begin as the flags of `folio` say: all, or none; a block is no larger than the folio."""
        self.shift = min(block_size.bit_length() - 1, folio.order + PAGE_SHIFT)
        self.every = (1 << (folio.nbytes >> self.shift)) - 1
        self.uptodate = self.every if folio.flags & PG_uptodate else 0
        self.dirty = self.every if folio.flags & PG_dirty else 0
        self.reading = self.writing = 0
        """Bytes on their way, one way or the other (read_bytes_pending, write_bytes_pending)."""

    def dirty_folio(self) -> None:
        """All of it may have been written to, by a mapping or a device (iomap_dirty_folio)."""
        self.dirty = self.every

    def whole(self, start: int, nbytes: int) -> int:
        """Return the bits of the blocks that lie in [start, start + nbytes) with all their bytes."""
        return self._bits(-(-start >> self.shift), start + nbytes >> self.shift)

    def touched(self, start: int, nbytes: int) -> int:
        """Return the bits of the blocks that have a byte in [start, start + nbytes)."""
        return self._bits(start >> self.shift, -(-(start + nbytes) >> self.shift))

    def has(self, start: int, nbytes: int) -> bool:
        """Return whether every byte of [start, start + nbytes) is uptodate (iomap_is_partially_uptodate)."""
        want = self.touched(start, nbytes)
        return self.uptodate & want == want

    def runs(self, bits: int) -> Iterator[tuple[int, int]]:
        """Yield (first byte in the folio, bytes) of each run of blocks in `bits`."""
        while bits:
            first = (bits & -bits).bit_length() - 1
            count = ((bits >> first) + 1 & ~(bits >> first)).bit_length() - 1
            yield first << self.shift, count << self.shift
            bits &= ~self._bits(first, first + count)

    @staticmethod
    def _bits(first: int, last: int) -> int:
        return (1 << last) - (1 << first) if first < last else 0


def blocks_of(folio: CachedFolio, block_size: int) -> Blocks:
    """Return the blocks of `folio`, made when they are first wanted."""
    if not isinstance(folio.private, Blocks):
        folio.private = Blocks(folio, block_size)
    return folio.private
