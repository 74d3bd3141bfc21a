"""Requests that wait, found by where they begin and by where they end: the tree and the hash of an elevator."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side, attempt_rq_merge, blk_attempt_bio_merge
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.units import Sector

Key = tuple[int, int]
"""A sector, and the number of a request."""


class BySector:
    """Requests of one kind, by their first sector and by the sector behind their last. Each is found by bisection."""

    def __init__(self) -> None:
        """Begin empty."""
        self._starts: list[Key] = []
        self._ends: list[Key] = []
        self._keys: dict[int, tuple[Key, Key]] = {}
        self._rqs: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._rqs)

    def __contains__(self, rq: Request) -> bool:
        return rq.rq in self._rqs

    def add(self, rq: Request) -> None:
        """Put `rq` where it belongs."""
        start, end = (rq.sector, rq.rq), (rq.sector + (rq.nbytes >> 9), rq.rq)
        insort(self._starts, start)
        insort(self._ends, end)
        self._keys[rq.rq], self._rqs[rq.rq] = (start, end), rq

    def remove(self, rq: Request) -> None:
        """Take `rq` out, wherever it has grown to."""
        start, end = self._keys.pop(rq.rq)
        del self._starts[bisect_left(self._starts, start)], self._ends[bisect_left(self._ends, end)]
        del self._rqs[rq.rq]

    def move(self, rq: Request) -> None:
        """Put `rq`, which has grown, where it belongs now."""
        self.remove(rq)
        self.add(rq)

    def at_or_behind(self, sector: int) -> Request | None:
        """Return the first request that begins at `sector` or behind it."""
        at = bisect_left(self._starts, (sector, 0))
        return self._rqs[self._starts[at][1]] if at < len(self._starts) else None

    def bio_merge(
        self, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
    ) -> tuple[Request, tuple[Side, int]] | None:
        """Return the request that `piece` joins: one that ends where it begins, or begins where it ends (MERGE-5)."""
        behind = self._found(self._ends, sector)
        before = self._found(self._starts, sector + (piece.nbytes >> 9))
        for rq in (*behind, *before):
            joined = blk_attempt_bio_merge(rq, bio, piece, sector, limits)
            if joined is not None:
                return rq, joined
        return None

    def merge_neighbour(self, rq: Request, limits: QueueLimits) -> tuple[Request, Request] | None:
        """Return (request, the one behind it) that may be one, one of them `rq`; the one behind is taken out."""
        pairs = [(rq, other) for other in self._found(self._starts, rq.sector + (rq.nbytes >> 9))]
        pairs += [(other, rq) for other in self._found(self._ends, rq.sector)]
        for first, second in pairs:
            if attempt_rq_merge(first, second, limits):
                self.remove(second)
                return first, second
        return None

    def _found(self, keys: list[Key], sector: int) -> Iterator[Request]:
        at = bisect_left(keys, (sector, 0))
        while at < len(keys) and keys[at][0] == sector:
            yield self._rqs[keys[at][1]]
            at += 1
