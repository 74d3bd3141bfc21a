"""Records become journeys: for each piece of an IO its four addresses, and the records at which its state changes.

Time is the index of a record in its trace; what never happens has the index NEVER. Between two records the eye may see
fractions of an index, the data holds none.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from labkit.scatter.payload import cut
from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    BlockRqMerge,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFlush,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    Ranges,
    SysEnter,
    SysExit,
)
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT

NEVER = 1 << 30
"""The index of a record that does not come."""
NONE = -1
"""An address, or a number, that there is not."""
_APART = 1 << 60
"""Where in an IO bytes are put that are not its caller's: beyond them all."""


class Io(NamedTuple):
    """A system call: where it begins and ends in the trace, and how it ended; `ret` is None for one that did not."""

    io: int
    name: str
    buf: int
    nbytes: int
    pos: int
    enter: int
    exit: int = NEVER
    ret: int | None = None


class Pinned(NamedTuple):
    """One physical range that was pinned: `start` bytes into its IO, at user address `va`."""

    io: int
    start: int
    va: int
    pa: int
    nbytes: int
    policy: str
    pin: int
    unpin: int = NEVER


@dataclass(frozen=True, slots=True)
class Command:
    """One request, or what one bio gave to it, and the record at which each thing happened to it.

    Bytes that are neighbours on the device need not be so in the IO, so a request that bios were merged into is told
    as several, with one number and one tag.
    """

    io: int
    rq: int
    tag: int
    start: int
    nbytes: int
    sector: int
    get: int
    dma: Ranges = ()
    unit: int = NONE
    error: int = 0
    map: int = NEVER
    issue: int = NEVER
    serve: int = NEVER
    move: int = NEVER
    complete: int = NEVER
    unmap: int = NEVER
    flush: int = NEVER


class Piece(NamedTuple):
    """Bytes that no stage parts: `phyr` and `command` are indexes into the journey, NONE where there is none."""

    io: int
    phyr: int
    command: int
    nbytes: int
    va: int
    pa: int
    dma: int
    lba: int


@dataclass(frozen=True, slots=True)
class Journey:
    """What a trace tells of its IOs. `pieces` are in the order of the IO's bytes."""

    ios: tuple[Io, ...] = ()
    phyrs: tuple[Pinned, ...] = ()
    commands: tuple[Command, ...] = ()
    pieces: tuple[Piece, ...] = ()


@dataclass(slots=True)
class _Reader:
    """The same, while the records are read."""

    ios: dict[int, Io] = field(default_factory=dict)
    pins: dict[int, list[Pinned]] = field(default_factory=dict)
    commands: dict[int, list[Command]] = field(default_factory=dict)
    bios: dict[int, BlockBioQueue] = field(default_factory=dict)
    stale: list[int] = field(default_factory=list)
    pinned: dict[int, int] = field(default_factory=dict)
    """Bytes pinned so far, by IO."""
    vectored: dict[int, Ranges] = field(default_factory=dict)
    """The pieces (user address, bytes) of each IO whose buffer is in several."""

    def read(self, at: int, rec: object) -> None:
        match rec:
            case SysEnter() | SysExit() | IoUringSubmitReq() | IoUringComplete() | IoUringQueueAsyncWork():
                self._call(at, rec)
            case GupPin():
                self._pin(at, rec)
            case GupUnpin() if rec.token in self.pins:
                self.pins[rec.token] = [pin._replace(unpin=at) for pin in self.pins[rec.token]]
            case BlockBioQueue():
                self.bios[rec.bio] = rec
            case BlockGetrq() | BlockBioBackmerge() | BlockBioFrontmerge():
                self._command(at, rec)
            case BlockRqMerge():
                tag = self._tag(rec.rq)
                self.commands[rec.rq] += [replace(com, rq=rec.rq, tag=tag) for com in self.commands.pop(rec.other, [])]
            case IotlbFlush():
                for rq in self.stale:
                    self._set(rq, flush=at)
                self.stale.clear()
            case _:
                self._follow(at, rec)

    def _call(
        self, at: int, rec: SysEnter | SysExit | IoUringSubmitReq | IoUringComplete | IoUringQueueAsyncWork
    ) -> None:
        """Note the beginning or the end of an IO; or that a worker does it again, from the start."""
        match rec:
            case SysEnter() | IoUringSubmitReq():
                name = rec.name if isinstance(rec, SysEnter) else f"io_uring_{rec.opcode.lower()}"
                self.ios[rec.io] = Io(rec.io, name, rec.buf, rec.nbytes, rec.pos, at)
                self.vectored |= {rec.io: rec.iov} if rec.iov else {}
            case SysExit() | IoUringComplete() if rec.io in self.ios:
                ret = rec.ret if isinstance(rec, SysExit) else rec.res
                self.ios[rec.io] = self.ios[rec.io]._replace(exit=at, ret=ret)
            case IoUringQueueAsyncWork():
                self.pins = {token: pins for token, pins in self.pins.items() if pins and pins[0].io != rec.io}
                self.pinned.pop(rec.io, None)

    def _follow(self, at: int, rec: object) -> None:
        """Note what happens to a request that is known."""
        match rec:
            case DmaMap():
                self._map(at, rec)
            case BlockRqIssue():  # served from now on, unless its device says later that it begins later
                self._set(rec.rq, issue=at, serve=at)
            case DeviceStart():
                self._set(rec.rq, serve=at, unit=rec.unit)
            case DeviceDma():
                self._set(rec.rq, move=at)
            case DmaUnmap():
                self._set(rec.rq, unmap=at, flush=NEVER if rec.stale else at)
                self.stale += [rec.rq] * rec.stale
            case BlockRqComplete():
                self._set(rec.rq, complete=at, error=rec.error)

    def _set(self, rq: int, **what: object) -> None:
        if rq in self.commands:
            self.commands[rq] = [replace(com, **what) for com in self.commands[rq]]  # type: ignore[arg-type]  # each name is a field

    def _map(self, at: int, rec: DmaMap) -> None:
        """Give each part of a request its device addresses: they are in the order of sectors."""
        parts = sorted(self.commands.get(rec.rq, []), key=lambda com: com.sector)
        first = parts[0].sector if parts else 0
        self.commands[rec.rq] = [
            replace(com, map=at, dma=cut(rec.dma, com.sector - first << SECTOR_SHIFT, com.nbytes)) for com in parts
        ]

    def _pin(self, at: int, rec: GupPin) -> None:
        start, va, out = self._start(rec), rec.addr, []
        pieces = self.vectored.get(rec.io, ())
        ends = list(accumulate(n for _, n in pieces))
        for pa, nbytes in rec.ranges:
            piece = bisect_right(ends, start)
            if piece < len(ends):
                va = sum(pieces[piece]) - ends[piece] + start
            out.append(Pinned(rec.io, start, va, pa, nbytes, rec.policy, at))
            start, va = start + nbytes, va + nbytes
        self.pins[rec.token], self.pinned[rec.io] = out, start

    def _start(self, rec: GupPin) -> int:
        """Return which byte of its IO a pin begins with: a hole between two of them was never pinned."""
        io, before = self.ios.get(rec.io), self.pinned.get(rec.io, 0)
        if io is not None and rec.io not in self.vectored and io.buf <= rec.addr < io.buf + io.nbytes:
            return rec.addr - io.buf
        return before

    def _tag(self, rq: int) -> int:
        return next((com.tag for com in self.commands.setdefault(rq, [])), NONE)

    def _command(self, at: int, rec: BlockGetrq | BlockBioBackmerge | BlockBioFrontmerge) -> None:
        bio, io = self.bios.get(rec.bio), self.ios.get(rec.io)
        if bio is not None and bio.start >= 0:
            start = bio.start + (rec.sector - bio.sector << SECTOR_SHIFT)
        elif bio is not None:  # memory of the kernel's own, such as the page cache: no byte of the caller's
            start = _APART + (rec.sector << SECTOR_SHIFT)
        else:
            start = (rec.sector << SECTOR_SHIFT) - (io.pos if io else 0)
        nbytes, tag = rec.nr_sector << SECTOR_SHIFT, rec.tag if isinstance(rec, BlockGetrq) else self._tag(rec.rq)
        found = Command(rec.io, rec.rq, tag, start, nbytes, rec.sector, at)
        if isinstance(rec, BlockGetrq):
            self.commands[rec.rq] = []
        self.commands[rec.rq].append(found)


def journey(trace: Trace) -> Journey:
    """Return the journeys of the IOs of `trace`."""
    reader = _Reader()
    for at, rec in enumerate(trace.records):
        reader.read(at, rec)
    phyrs = [pin for pins in reader.pins.values() for pin in pins if pin.io]
    for io in reader.ios.values():
        if not any(pin.io == io.io for pin in phyrs):
            phyrs += _registered(io, reader)
    phyrs.sort(key=lambda pin: (pin.io, pin.start))
    commands = sorted((com for found in reader.commands.values() for com in found), key=lambda com: (com.io, com.start))
    pieces = tuple(piece for io in reader.ios for piece in _pieces(io, phyrs, commands))
    return Journey(tuple(reader.ios.values()), tuple(phyrs), tuple(commands), pieces)


def _registered(io: Io, reader: _Reader) -> Iterator[Pinned]:
    """Yield what was pinned before the IO, by nobody's IO, and covers its buffer: memory registered ahead of time."""
    for pins in reader.pins.values():
        for pin in pins:
            lo, hi = max(pin.va, io.buf), min(pin.va + pin.nbytes, io.buf + io.nbytes)
            if pin.io == 0 and lo < hi and pin.pin < io.enter <= pin.unpin:
                yield pin._replace(io=io.io, start=lo - io.buf, va=lo, pa=pin.pa + lo - pin.va, nbytes=hi - lo)


def _pieces(io: int, phyrs: list[Pinned], commands: list[Command]) -> Iterator[Piece]:
    """Yield the pieces of one IO: its bytes, cut wherever a phyr, a request or a device address begins or ends."""
    mine = [(i, pin) for i, pin in enumerate(phyrs) if pin.io == io]
    theirs = [(i, com) for i, com in enumerate(commands) if com.io == io]
    cuts = {edge for _, pin in mine for edge in (pin.start, pin.start + pin.nbytes)}
    for _, com in theirs:
        cuts |= {com.start, com.start + com.nbytes, *_edges(com)}
    p = c = 0
    for lo, hi in pairwise(sorted(cuts)):
        while p + 1 < len(mine) and mine[p + 1][1].start <= lo:
            p += 1
        while c + 1 < len(theirs) and theirs[c + 1][1].start <= lo:
            c += 1
        phyr = mine[p] if mine and mine[p][1].start <= lo < mine[p][1].start + mine[p][1].nbytes else None
        command = theirs[c] if theirs and 0 <= lo - theirs[c][1].start < theirs[c][1].nbytes else None
        if phyr or command:
            yield _piece(io, lo, hi - lo, phyr, command)


def _edges(com: Command) -> Iterator[int]:
    at = com.start
    for _, nbytes in com.dma:
        at += nbytes
        yield at


def _piece(io: int, lo: int, nbytes: int, phyr: tuple[int, Pinned] | None, com: tuple[int, Command] | None) -> Piece:
    va = pa = dma = lba = NONE
    if phyr:
        va, pa = (addr + lo - phyr[1].start for addr in (phyr[1].va, phyr[1].pa))
    if com:
        inside = lo - com[1].start
        dma = next((addr for addr, _ in cut(com[1].dma, inside, nbytes)), NONE)
        lba = (com[1].sector << SECTOR_SHIFT) + inside
    return Piece(io, phyr[0] if phyr else NONE, com[0] if com else NONE, nbytes, va, pa, dma, lba)
