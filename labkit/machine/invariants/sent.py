"""What each request is made of, learnt from records: pieces of bios, which may be of several IOs."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges, cut, join
from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqMerge,
    GupPin,
    Record,
)
from labkit.units import SECTOR_SHIFT


class Piece(NamedTuple):
    """`nbytes` bytes of IO `io`, from byte `start` of it on; -1 where they are not the user's."""

    io: int
    start: int
    nbytes: int


class Pinned:
    """What is pinned of one IO, by its bytes: all of it, or a part for each bio, with holes of a file between them."""

    __slots__ = ("_end", "pieces", "pins")

    def __init__(self, pieces: Ranges) -> None:
        """Begin with nothing; `pieces` are the user's (address, bytes), none where they are not known."""
        self.pieces, self._end = pieces, 0
        self.pins: list[tuple[int, Ranges]] = []

    def add(self, rec: GupPin) -> Ranges:
        """Take what `rec` pins: it begins where its address is, at or behind the end of what came before.

        Returns the user's (address, bytes) that it is for.
        """
        start, at = self._end, 0
        for addr, nbytes in self.pieces:
            if addr <= rec.addr < addr + nbytes and at + rec.addr - addr >= self._end:
                start = at + rec.addr - addr
                break
            at += nbytes
        self.pins.append((start, rec.ranges))
        nbytes = sum(length for _, length in rec.ranges)
        self._end = start + nbytes
        return cut(self.pieces, start, nbytes) if self.pieces else ((rec.addr, nbytes),)

    def part(self, piece: "Piece") -> Ranges | None:
        """Return the memory of `piece`, or None where it is not pinned memory of the user."""
        if piece.start < 0 or not self.pins:
            return None
        parts: list[Ranges] = []
        at, left = piece.start, piece.nbytes
        for start, ranges in self.pins:
            here = min(start + sum(nbytes for _, nbytes in ranges) - at, left)
            if start <= at and here > 0:
                parts.append(cut(ranges, at - start, here))
                at, left = at + here, left - here
        return join(parts) if parts else ()


class Sent:
    """A request: its pieces in the order of the sectors, and its segments."""

    __slots__ = ("pieces", "segments")

    def __init__(self, piece: Piece, segments: int) -> None:
        """Begin with one piece."""
        self.pieces, self.segments = [piece], segments

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return sum(piece.nbytes for piece in self.pieces)


class SentRequests:
    """Every request that there was, by its number."""

    def __init__(self) -> None:
        """Begin with none."""
        self.by_rq: dict[int, Sent] = {}
        self._bios: dict[int, BlockBioQueue] = {}

    def see(self, rec: Record) -> int | None:
        """Learn from `rec`; return the request that it changed."""
        match rec:
            case BlockBioQueue():
                self._bios[rec.bio] = rec
            case BlockGetrq():
                self.by_rq[rec.rq] = Sent(self._piece(rec.bio, rec.sector, rec.nr_sector), rec.segments)
                return rec.rq
            case BlockBioBackmerge() | BlockBioFrontmerge() if rec.rq in self.by_rq:
                sent, piece = self.by_rq[rec.rq], self._piece(rec.bio, rec.sector, rec.nr_sector)
                sent.pieces.insert(0 if isinstance(rec, BlockBioFrontmerge) else len(sent.pieces), piece)
                sent.segments += rec.segments
                return rec.rq
            case BlockRqMerge() if rec.rq in self.by_rq and rec.other in self.by_rq:
                other = self.by_rq.pop(rec.other)
                self.by_rq[rec.rq].pieces += other.pieces
                self.by_rq[rec.rq].segments += other.segments
                return rec.rq
        return None

    def _piece(self, bio: int, sector: int, nr_sector: int) -> Piece:
        rec = self._bios.get(bio)
        if rec is None or rec.start < 0:
            return Piece(0, -1, nr_sector << SECTOR_SHIFT)
        return Piece(rec.io, rec.start + ((sector - rec.sector) << SECTOR_SHIFT), nr_sector << SECTOR_SHIFT)
