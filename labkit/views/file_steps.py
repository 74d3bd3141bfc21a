"""A trace becomes what it tells of one file: extents, folios, bios, zeros, each with the steps that it is there for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.trace.events import (
    BlockBioQueue,
    BlockRqComplete,
    BlockRqIssue,
    CopyFolio,
    FolioEndIo,
    FolioFlags,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IovIterZero,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    PageCacheRaOrder,
    Record,
    SysEnter,
    SysExit,
)
from labkit.trace.page_flags import PG_dirty, PG_uptodate, PG_writeback
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT, PAGE_SIZE, SECTOR_SHIFT
from labkit.views.journey import NEVER

MARKS = {PG_uptodate: "uptodate", PG_dirty: "dirty", PG_writeback: "writeback"}
_TOLD = (
    SysEnter, SysExit, IomapDioRwBegin, IomapIterDstmap, IomapDioComplete, IovIterZero, BlockBioQueue, BlockRqIssue,
    BlockRqComplete, PageCacheRaOrder, CopyFolio, FolioEndIo, MmFilemapAddToPageCache, MmFilemapDeleteFromPageCache,
    FolioFlags,
)  # fmt: skip


class Lie(NamedTuple):
    """Bytes [offset, offset + length) of a file lie at byte `addr` of the device, -1 for nowhere.

    `settled`: the step from which unwritten blocks are written, as far as the trace goes (DIO-12).
    """

    offset: int
    length: int
    addr: int
    type: str
    flags: str = ""
    step: int = 0
    settled: int = NEVER


@dataclass(slots=True)
class CachedFolio:
    """A folio of the page cache: its bytes of the file, and (mark, from step, until step) for each mark that it had."""

    offset: int
    nbytes: int
    addr: int
    came: int
    gone: int = NEVER
    marks: list[tuple[str, int, int]] = field(default_factory=list)
    since: dict[str, int] = field(default_factory=dict)

    def flags(self, step: int, put: int, take: int) -> None:
        """Note at `step` that flags came and went."""
        for bit, name in MARKS.items():
            if put & bit:
                self.since.setdefault(name, step)
            if take & bit and name in self.since:
                self.marks.append((name, self.since.pop(name), step))

    def end(self) -> None:
        """Close what it still has at the end of the trace."""
        self.marks += [(name, since, self.gone) for name, since in self.since.items()]
        self.since.clear()


class FileBio(NamedTuple):
    """A bio on the device: its first byte there, its bytes, the steps at which it is queued and done.

    `zeros`: it writes zeros of the kernel's beside what a direct write brings (DIO-10).
    """

    bio: int
    addr: int
    nbytes: int
    queued: int
    done: int
    zeros: bool = False


class Span(NamedTuple):
    """Bytes of the file, and the steps between which they are so."""

    offset: int
    nbytes: int
    begin: int
    end: int


@dataclass(slots=True)
class FileStory:
    """What happened to a file; a step is one of `told`, the indexes of the records that matter here."""

    told: list[int]
    isize: int = 0
    lies: list[Lie] = field(default_factory=list)
    folios: list[CachedFolio] = field(default_factory=list)
    bios: list[FileBio] = field(default_factory=list)
    calls: list[Span] = field(default_factory=list)
    zeros: list[Span] = field(default_factory=list)
    copies: list[Span] = field(default_factory=list)


def file_story(trace: Trace, layout: Iterable[tuple[int, int, int, str]] = ()) -> FileStory:
    """Return what `trace` tells of its file; `layout`: (offset, bytes, byte of the device, type)."""
    cached = _cached(trace.records)
    told = [i for i, rec in enumerate(trace.records) if _matters(rec, cached)]
    reader = _Reader(FileStory(told, lies=[Lie(*row) for row in layout]))
    for step, at in enumerate(told):
        reader.read(step, trace.records[at])
    for folio in reader.story.folios:
        folio.end()
    story = reader.story
    ends = [span.offset + span.nbytes for span in story.calls] + [lie.offset + lie.length for lie in story.lies]
    story.isize = max([story.isize, *ends], default=0)
    return story


def _cached(records: Iterable[Record]) -> set[int]:
    """Return the addresses of folios that are ever part of a file."""
    return {addr for rec in records if isinstance(rec, MmFilemapAddToPageCache) for addr, _ in rec.ranges}


def _matters(rec: Record, cached: set[int]) -> bool:
    if isinstance(rec, FolioFlags):
        return bool((rec.put | rec.take) & (PG_uptodate | PG_dirty | PG_writeback)) and rec.ranges[0][0] in cached
    return isinstance(rec, _TOLD) and not (isinstance(rec, SysEnter | SysExit) and rec.name == "mmap")


@dataclass(slots=True)
class _Reader:
    """The story, while the records are read."""

    story: FileStory
    pos: dict[int, int] = field(default_factory=dict)
    direct: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    told: dict[int, list[int]] = field(default_factory=dict)
    """The extents that each IO was told of, as indexes."""
    new: list[tuple[int, int, int]] = field(default_factory=list)
    """(address, bytes, step) of folios whose place in the file is told next."""

    def read(self, step: int, rec: Record) -> None:
        match rec:
            case SysEnter():
                self.pos[rec.io] = rec.pos
                self.story.calls.append(Span(rec.pos, rec.nbytes, step, NEVER))
            case SysExit() if self.story.calls:
                self.story.calls[-1] = self.story.calls[-1]._replace(end=step)
            case IomapDioRwBegin():
                self.story.isize = rec.isize
                self.direct.add(rec.io)
            case IomapIterDstmap():
                self.story.lies.append(Lie(rec.offset, rec.length, rec.addr, rec.type, rec.flags, step))
                self.told.setdefault(rec.io, []).append(len(self.story.lies) - 1)
            case IovIterZero():
                self.story.zeros.append(Span(self.pos.get(rec.io, 0) + rec.start, rec.nbytes, step, NEVER))
            case BlockBioQueue():
                self._bio(step, rec)
            case BlockRqComplete():
                lo, hi = rec.sector << SECTOR_SHIFT, rec.sector + rec.nr_sector << SECTOR_SHIFT
                self.story.bios = [_ended(bio, lo, hi, step) for bio in self.story.bios]
            case IomapDioComplete() if rec.io in self.writes and rec.error == 0:
                self._settle(self.told.get(rec.io, []), step)
            case _:
                self._cache(step, rec)

    def _bio(self, step: int, rec: BlockBioQueue) -> None:
        self.writes |= {rec.io} if "W" in rec.rwbs else set()
        zeros, nbytes = rec.start < 0 and rec.io in self.direct, rec.nr_sector << SECTOR_SHIFT
        self.story.bios.append(FileBio(rec.bio, rec.sector << SECTOR_SHIFT, nbytes, step, NEVER, zeros))

    def _settle(self, indexes: Iterable[int], step: int) -> None:
        """Note that those of the extents which were unwritten are written from `step` on."""
        for i in indexes:
            if self.story.lies[i].type == "unwritten":
                self.story.lies[i] = self.story.lies[i]._replace(settled=step)

    def _cache(self, step: int, rec: Record) -> None:
        match rec:
            case MmFilemapAddToPageCache():
                self.new += [
                    (addr + at, PAGE_SIZE << rec.order, step)
                    for addr, n in rec.ranges
                    for at in range(0, n, PAGE_SIZE << rec.order)
                ]
            case PageCacheRaOrder():
                self._place(rec.start << PAGE_SHIFT)
            case CopyFolio():
                if self.new:
                    self._place(rec.pos // self.new[0][1] * self.new[0][1])
                self.story.copies.append(Span(rec.pos, rec.nbytes, step, step + 1))
            case FolioFlags():
                for folio in self._at(rec.ranges):
                    folio.flags(step, rec.put, rec.take)
            case MmFilemapDeleteFromPageCache():
                for folio in self._at(rec.ranges):
                    folio.gone = step

    def _place(self, offset: int) -> None:
        """Give the newest folios their places: from byte `offset` of the file on, in the order in which they came."""
        for addr, nbytes, step in self.new:
            self.story.folios.append(CachedFolio(offset, nbytes, addr, step))
            offset += nbytes
        self.new.clear()

    def _at(self, ranges: Iterable[tuple[int, int]]) -> Iterator[CachedFolio]:
        found = tuple(ranges)
        yield from (f for f in self.story.folios if f.gone == NEVER and any(a <= f.addr < a + n for a, n in found))


def _ended(bio: FileBio, lo: int, hi: int, step: int) -> FileBio:
    inside = bio.done == NEVER and bio.addr < hi and lo < bio.addr + bio.nbytes
    return bio._replace(done=step) if inside else bio
