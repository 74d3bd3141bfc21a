"""A trace becomes bios, the pieces that they are cut into, and the requests that pieces are joined to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from labkit.scatter.payload import Range, cut, run_length
from labkit.trace.events import (
    BlockBioBackmerge,
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
    GupPin,
    Record,
    SysEnter,
)
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT
from labkit.views.journey import NEVER

TOLD = (
    BlockBioQueue, BlockSplit, BlockGetrq, BlockPlug, BlockUnplug, BlockBioBackmerge, BlockBioFrontmerge, BlockRqMerge,
    BlockRqInsert, BlockRqRequeue, BlockRqIssue, BlockRqComplete,
)  # fmt: skip
"""Records that bring something about for bios and requests."""


@dataclass(slots=True)
class Bio:
    """A bio: its first byte in the IO, its bytes, its sector, the bytes of each vector, and when it came."""

    bio: int
    start: int
    nbytes: int
    sector: int
    vecs: tuple[int, ...]
    at: int


@dataclass(slots=True)
class Cut:
    """Where a bio is parted: byte of the IO, the rule and its sentence, and when."""

    start: int
    rule: str
    why: str
    at: int


@dataclass(slots=True)
class Part:
    """What a request has of one bio: bytes of the IO; `joined`: it was merged in. Times are indexes of records."""

    rq: int
    tag: int
    start: int
    nbytes: int
    segments: int
    got: int
    joined: bool = False
    issued: int = NEVER
    done: int = NEVER


@dataclass(slots=True)
class Plug:
    """Requests that are kept back together: from when, until when."""

    rqs: list[int]
    begin: int
    end: int = NEVER


@dataclass(slots=True)
class Pieces:
    """All of it, in the order in which it came."""

    bios: list[Bio] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    plugs: list[Plug] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests there are in the end."""
        return len({part.rq for part in self.parts})

    @property
    def span(self) -> tuple[int, int]:
        """The first byte of all bios, and the one past the last."""
        return (min((b.start for b in self.bios), default=0), max((b.start + b.nbytes for b in self.bios), default=1))


def pieces(trace: Trace) -> Pieces:
    """Return the bios, cuts, parts and plugs of `trace`; bytes of the page cache are placed by their sectors."""
    reader = _Reader()
    for bio in trace.of(BlockBioQueue):
        reader.called.setdefault(bio.io, []).append(bio)
    for at, rec in enumerate(trace.records):
        reader.read(at, rec)
    return reader.found


@dataclass(slots=True)
class _Reader:
    found: Pieces = field(default_factory=Pieces)
    called: dict[int, list[BlockBioQueue]] = field(default_factory=dict)
    """Every bio of each IO, the later ones too."""
    memory: dict[int, list[tuple[int, Sequence[Range]]]] = field(default_factory=dict)
    """For each IO (user address, physical ranges) of what was pinned."""
    buf: dict[int, int] = field(default_factory=dict)
    bios: dict[int, Bio] = field(default_factory=dict)
    plug: Plug | None = None

    def read(self, at: int, rec: Record) -> None:
        match rec:
            case SysEnter():
                self.buf[rec.io] = rec.buf
            case GupPin():
                self.memory.setdefault(rec.io, []).append((rec.addr, tuple(rec.ranges)))
            case BlockBioQueue():
                nbytes = rec.nr_sector << SECTOR_SHIFT
                start = rec.start if rec.start >= 0 else self._beside(rec)
                self.bios[rec.bio] = Bio(rec.bio, start, nbytes, rec.sector, self._vecs(rec, nbytes), at)
                self.found.bios.append(self.bios[rec.bio])
            case BlockSplit() if rec.bio in self.bios:
                bio = self.bios[rec.bio]
                start = bio.start + (rec.new_sector - bio.sector << SECTOR_SHIFT)
                self.found.cuts.append(Cut(start, rec.rule, rec.why, at))
            case BlockGetrq() | BlockBioBackmerge() | BlockBioFrontmerge():
                self._part(at, rec)
            case _:
                self._request(at, rec)

    def _beside(self, rec: BlockBioQueue) -> int:
        """Return where memory of the kernel's own is drawn: beside the nearest bio of its IO, else by its sector."""
        others = [other for other in self.called.get(rec.io, []) if other.start >= 0]
        near = min(others, key=lambda other: abs(other.sector - rec.sector), default=None)
        base = near.start - (near.sector << SECTOR_SHIFT) if near else 0
        return base + (rec.sector << SECTOR_SHIFT)

    def _request(self, at: int, rec: Record) -> None:
        match rec:
            case BlockRqMerge():
                for part in self._of(rec.other):
                    part.rq, part.joined = rec.rq, True
            case BlockPlug() if self.found.parts:
                self.plug = Plug([self.found.parts[-1].rq], at)
                self.found.plugs.append(self.plug)
            case BlockUnplug() if self.plug:
                self.plug.end, self.plug = at, None
            case BlockRqIssue():
                for part in self._of(rec.rq):
                    part.issued = at
            case BlockRqComplete():
                for part in self._of(rec.rq):
                    part.done = at

    def _of(self, rq: int) -> list[Part]:
        return [part for part in self.found.parts if part.rq == rq and part.done == NEVER]

    def _part(self, at: int, rec: BlockGetrq | BlockBioBackmerge | BlockBioFrontmerge) -> None:
        bio = self.bios.get(rec.bio)
        start = bio.start + (rec.sector - bio.sector << SECTOR_SHIFT) if bio else rec.sector << SECTOR_SHIFT
        new = isinstance(rec, BlockGetrq)
        tag = rec.tag if isinstance(rec, BlockGetrq) else next((part.tag for part in self._of(rec.rq)), -1)
        part = Part(rec.rq, tag, start, rec.nr_sector << SECTOR_SHIFT, rec.segments, at, not new)
        self.found.parts.append(part)
        if new and self.plug:
            self.plug.rqs.append(rec.rq)

    def _vecs(self, rec: BlockBioQueue, nbytes: int) -> tuple[int, ...]:
        """Return the bytes of each vector: what was pinned says so, else they are drawn as if they were all equal."""
        for addr, ranges in self.memory.get(rec.io, []):
            inside = rec.start - (addr - self.buf.get(rec.io, addr))
            if 0 <= inside < sum(n for _, n in ranges):
                found = cut(ranges, inside, nbytes)
                for vecs in (found, run_length(found)):
                    if len(vecs) == rec.vecs and sum(n for _, n in vecs) == nbytes:
                        return tuple(n for _, n in vecs)
        ends = [0, *accumulate([nbytes // max(rec.vecs, 1)] * max(rec.vecs - 1, 0)), nbytes]
        return tuple(b - a for a, b in pairwise(ends))
