"""Tracepoints of the block layer have no numbers: bios and requests are told apart by device, sectors and time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from labkit.scatter.payload import Ranges
from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqInsert,
    BlockRqIssue,
    BlockRqMerge,
    BlockRqRequeue,
    BlockSplit,
    BlockUnplug,
)
from labkit.units import SECTOR_SHIFT
from labkit.witness.replay.calls import Calls
from labkit.witness.replay.hold import Hold
from labkit.witness.replay.seen import Seen
from labkit.witness.replay.tale import Tale


@dataclass(slots=True)
class LiveBio:
    """A bio that is not over: `start` is its first byte in the IO, `left` the sectors that no request ended yet."""

    bio: int
    io: int
    sector: int
    nr_sector: int
    start: int
    vecs: Ranges = ()
    token: int = 0
    left: int = 0

    def holds(self, sector: int) -> bool:
        """Return whether `sector` is one of its own."""
        return self.sector <= sector < self.sector + self.nr_sector


@dataclass(slots=True)
class LiveRq:
    """A request that is not over, and the parts of bios that it is made of: (bio, sector, sectors)."""

    rq: int
    io: int
    tag: int
    sector: int
    nr_sector: int
    parts: list[tuple[LiveBio, int, int]] = field(default_factory=list)
    issued: bool = False
    done: int = 0
    """Sectors that ended already."""

    @property
    def end(self) -> int:
        """The sector behind it."""
        return self.sector + self.nr_sector


class Blocks:
    """The bios and requests of the device while they live."""

    def __init__(self, tale: Tale, calls: Calls, hold: Hold, ended: Callable[[LiveRq, int], None]) -> None:
        """Tell `tale` of them; `ended` hears of each request that ends, and when (ns), before that is told."""
        self._tale, self._calls, self._hold, self._ended = tale, calls, hold, ended
        self.bios: list[LiveBio] = []
        self.rqs: list[LiveRq] = []
        self._bios = self._rqs = 0
        self.first: Callable[[int], None] | None = None
        """Hears when the first bio of the capture's own comes, in ns."""

    def take(self, row: Seen) -> bool:
        """Tell of `row` if it is of the block layer; return whether it is."""
        if (tell := _TELL.get(row.name)) is None:
            return False
        if not tell(self, row):
            self._tale.skip(row)
        return True

    def find(self, sector: int, nr_sector: int = 0, *, issued: bool | None = None) -> LiveRq | None:
        """Return the request that begins at `sector`: the oldest of that many sectors, else the oldest there is."""
        fit = [rq for rq in self.rqs if rq.sector + rq.done == sector and issued in {None, rq.issued}]
        return next((rq for rq in fit if rq.nr_sector - rq.done == nr_sector), fit[0] if fit else None)

    def _queue(self, row: Seen) -> bool:
        sector, nr_sector, io = row.number("sector"), row.number("nr_sector"), self._calls.of(row)
        nbytes, rwbs = nr_sector << SECTOR_SHIFT, row.text("rwbs")
        start = self._calls.start(io, sector) if nbytes and "A" not in rwbs else -1
        if io and self.first:
            self.first(row.t)
            self.first = None
        self._bios += 1
        vecs = self._hold.vectors(io, start, sector, nbytes)
        bio = LiveBio(self._bios, io, sector, nr_sector, start, vecs, left=nr_sector)
        if start >= 0:
            bio.token = self._hold.pin(row.t, io, start, nbytes)
        if nr_sector:
            self.bios.append(bio)
        self._tale.tell(BlockBioQueue(row.t, io, bio.bio, sector, nr_sector, len(vecs), start, rwbs))
        return True

    def _split(self, row: Seen) -> bool:
        sector, new = row.number("sector"), row.number("new_sector")
        bio = self._bio(row, sector)
        if bio is None:
            return False
        skip = sector - bio.sector << SECTOR_SHIFT
        front = self._hold.piece(bio.vecs, skip, sector, bio.nr_sector - sector + bio.sector << SECTOR_SHIFT)
        agrees = front is not None and front.nbytes == new - sector << SECTOR_SHIFT
        why = (front.rule, front.why) if front and agrees else ("", "")
        self._tale.tell(BlockSplit(row.t, bio.io, bio.bio, sector, new, *why))
        return True

    def _getrq(self, row: Seen) -> bool:
        sector, nr_sector = row.number("sector"), row.number("nr_sector")
        bio = self._bio(row, sector)
        self._rqs += 1
        tag = next(tag for tag in range(len(self.rqs) + 1) if all(rq.tag != tag for rq in self.rqs))
        rq = LiveRq(self._rqs, bio.io if bio else self._calls.of(row), tag, sector, nr_sector)
        rq.parts += [(bio, sector, nr_sector)] if bio else []
        self.rqs.append(rq)
        segments = self._segments(bio, sector, nr_sector)
        self._tale.tell(BlockGetrq(row.t, rq.io, bio.bio if bio else 0, rq.rq, rq.tag, sector, nr_sector, segments))
        return True

    def _back(self, row: Seen) -> bool:
        sector = row.number("sector")
        rq = next((rq for rq in reversed(self.rqs) if rq.end == sector and not rq.issued), None)
        return self._merge(row, rq, BlockBioBackmerge)

    def _front(self, row: Seen) -> bool:
        end = row.number("sector") + row.number("nr_sector")
        rq = next((rq for rq in reversed(self.rqs) if rq.sector == end and not rq.issued), None)
        if not self._merge(row, rq, BlockBioFrontmerge):
            return False
        if rq:
            rq.sector = row.number("sector")
        return True

    def _merge(self, row: Seen, rq: LiveRq | None, kind: type[BlockBioBackmerge] | type[BlockBioFrontmerge]) -> bool:
        sector, nr_sector = row.number("sector"), row.number("nr_sector")
        bio = self._bio(row, sector)
        if rq is None or bio is None:
            return False
        rq.parts.append((bio, sector, nr_sector))
        rq.nr_sector += nr_sector
        segments = self._segments(bio, sector, nr_sector)
        self._tale.tell(kind(row.t, bio.io, bio.bio, rq.rq, sector, nr_sector, segments))
        return True

    def _plug(self, row: Seen) -> bool:
        if row.ours:
            self._tale.tell(BlockPlug(row.t, self._calls.of(row)))
        return row.ours

    def _unplug(self, row: Seen) -> bool:
        if row.ours:
            self._tale.tell(BlockUnplug(row.t, self._calls.of(row), row.number("nr_rq")))
        return row.ours

    def _insert(self, row: Seen) -> bool:
        rq = self._at(row, issued=False)
        if rq:
            self._tale.tell(BlockRqInsert(row.t, rq.io, rq.rq, rq.tag, rq.sector, rq.nr_sector))
        return rq is not None

    def _issue(self, row: Seen) -> bool:
        rq = self._at(row, issued=False)
        if rq:
            rq.issued = True
            self._tale.tell(BlockRqIssue(row.t, rq.io, rq.rq, rq.tag, rq.sector, rq.nr_sector))
        return rq is not None

    def _requeue(self, row: Seen) -> bool:
        rq = self._at(row, issued=True)
        if rq:
            rq.issued = False
            self._tale.tell(BlockRqRequeue(row.t, rq.io, rq.rq, rq.tag, rq.sector, rq.nr_sector))
        return rq is not None

    def _rq_merge(self, row: Seen) -> bool:
        """Let a request take in the one that the tracepoint tells of: its neighbour."""
        gone = self._at(row, issued=False)
        near = [rq for rq in self.rqs if gone and not rq.issued and gone.sector in {rq.end, rq.sector - gone.nr_sector}]
        if gone is None or not near:
            return False
        near[0].sector = min(near[0].sector, gone.sector)
        near[0].nr_sector += gone.nr_sector
        near[0].parts += gone.parts
        self.rqs.remove(gone)
        self._tale.tell(
            BlockRqMerge(
                row.t, near[0].io, near[0].rq, gone.rq, gone.tag, row.number("sector"), row.number("nr_sector")
            )
        )
        return True

    def _complete(self, row: Seen) -> bool:
        """End a request, or the front of one: then only its last part is told."""
        nr_sector = row.number("nr_sector")
        rq = self._at(row, issued=None)
        if rq is None or (rq.done + nr_sector < rq.nr_sector):
            if rq:
                rq.done += nr_sector
            return False
        self.rqs.remove(rq)
        self._ended(rq, row.t)
        error = row.number("error")
        self._tale.tell(BlockRqComplete(row.t, rq.io, rq.rq, rq.tag, rq.sector, rq.nr_sector, error))
        for bio, _, sectors in rq.parts:
            self._over(bio, sectors, row.t)
        return True

    def _dies(self, row: Seen) -> bool:
        sector, nr_sector = row.number("sector"), row.number("nr_sector")
        bio = self._bio(row, sector)
        if bio is None:
            return False
        self._tale.tell(BlockBioComplete(row.t, bio.io, bio.bio, sector, nr_sector, row.number("error")))
        self._over(bio, nr_sector, row.t)
        return True

    def _over(self, bio: LiveBio, sectors: int, t: int) -> None:
        """Count off `sectors` of a bio; with the last ones its pages are let go of."""
        bio.left -= sectors
        if bio.left <= 0 and bio in self.bios:
            self.bios.remove(bio)
            if bio.token:
                self._hold.unpin(t, bio.io, bio.token)

    def _at(self, row: Seen, *, issued: bool | None) -> LiveRq | None:
        return self.find(row.number("sector"), row.number("nr_sector"), issued=issued)

    def _bio(self, row: Seen, sector: int) -> LiveBio | None:
        """Return the bio that `sector` is of: the newest of the same IO, else the newest."""
        io = self._calls.of(row)
        fit = [bio for bio in reversed(self.bios) if bio.holds(sector)]
        return next((bio for bio in fit if bio.io == io), fit[0] if fit else None)

    def _segments(self, bio: LiveBio | None, sector: int, nr_sector: int) -> int:
        if bio is None:
            return 0
        return self._hold.segments(bio.vecs, sector - bio.sector << SECTOR_SHIFT, sector, nr_sector << SECTOR_SHIFT)

    def left(self) -> Iterator[int]:
        """Yield the number of each request that never ended."""
        return (rq.rq for rq in self.rqs)


_TELL = {
    "block_bio_queue": Blocks._queue, "block_split": Blocks._split, "block_getrq": Blocks._getrq,  # noqa: SLF001
    "block_bio_backmerge": Blocks._back, "block_bio_frontmerge": Blocks._front, "block_plug": Blocks._plug,  # noqa: SLF001
    "block_unplug": Blocks._unplug, "block_rq_insert": Blocks._insert, "block_rq_issue": Blocks._issue,  # noqa: SLF001
    "block_rq_requeue": Blocks._requeue, "block_rq_merge": Blocks._rq_merge, "block_rq_complete": Blocks._complete,  # noqa: SLF001
    "block_bio_complete": Blocks._dies,  # noqa: SLF001
}  # fmt: skip
"""What tells of each tracepoint."""
