"""Records become spans: what began and what ended, of calls, of bios and of requests, and which bio went into which."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    BlockRqMerge,
    DeviceDma,
    DeviceStart,
    IoUringComplete,
    IoUringSubmitReq,
    Record,
    SysEnter,
    SysExit,
)
from labkit.trace.trace import Trace
from labkit.units import SECTOR_SHIFT, human_bytes

_Join = BlockGetrq | BlockBioBackmerge | BlockBioFrontmerge
_STEP = {BlockRqIssue: "issued", DeviceStart: "served", DeviceDma: "moved"}
"""What a request is from a record of these on."""


@dataclass(slots=True)
class Span:
    """Something from `begin` to `end` (ns); `line` is where it belongs: the tag of a request, 0 for all others.

    `end` is None as long as it goes on; at the end of the trace it ends there, and `args` say that it did not.
    """

    begin: int
    name: str
    args: dict[str, Any]
    line: int = 0
    io: int = 0
    end: int | None = None
    steps: list[tuple[int, str]] = field(default_factory=list)
    """What it is from when on (ns), in the order of time; the last one lasts until `end`."""

    @property
    def until(self) -> int:
        """When it ends, in ns. Only to be asked after `spans`."""
        return self.begin if self.end is None else self.end


class Flow(NamedTuple):
    """At `t` ns, `bio`, or a piece of it, goes into `request`."""

    t: int
    bio: Span
    request: Span


@dataclass(slots=True)
class Spans:
    """What a trace tells of its calls, bios and requests, each in the order in which they began."""

    calls: list[Span] = field(default_factory=list)
    bios: list[Span] = field(default_factory=list)
    requests: list[Span] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)


def spans(trace: Trace) -> Spans:
    """Return the spans of `trace`."""
    reader = _Reader()
    for rec in trace.records:
        reader.read(rec)
    reader.close(trace.end)
    return reader.out


@dataclass(slots=True)
class _Reader:
    """The same, while the records are read: what is open, by number."""

    out: Spans = field(default_factory=Spans)
    calls: dict[int, Span] = field(default_factory=dict)
    bios: dict[int, list[Span]] = field(default_factory=dict)
    requests: dict[int, Span] = field(default_factory=dict)
    carried: dict[int, list[Span]] = field(default_factory=dict)
    """The bios of each request, by its number."""

    def read(self, rec: Record) -> None:
        match rec:
            case SysEnter() | IoUringSubmitReq():
                self._enter(rec)
            case SysExit() if rec.io in self.calls:
                self._end(self.calls.pop(rec.io), rec.t, ret=rec.ret)
            case IoUringComplete() if rec.io in self.calls:
                self._end(self.calls.pop(rec.io), rec.t, ret=rec.res)
            case BlockBioQueue():
                self._queue(rec)
            case BlockBioComplete():
                for bio in self._found(rec.bio, rec.sector):
                    self._end(bio, rec.t, error=rec.error)
            case BlockGetrq() | BlockBioBackmerge() | BlockBioFrontmerge():
                self._join(rec)
            case _:
                self._follow(rec)

    def _follow(self, rec: Record) -> None:
        """Note what happens to a request that is known."""
        match rec:
            case BlockRqMerge():
                self._merge(rec)
            case BlockRqIssue() | DeviceStart() | DeviceDma() if rec.rq in self.requests:
                self.requests[rec.rq].steps.append((rec.t, _STEP[type(rec)]))
            case BlockRqComplete() if rec.rq in self.requests:
                self._complete(rec)

    def _enter(self, rec: SysEnter | IoUringSubmitReq) -> None:
        name = rec.name if isinstance(rec, SysEnter) else f"io_uring {rec.opcode}"
        about = {"io": rec.io, "buf": f"{rec.buf:#x}", "nbytes": rec.nbytes, "pos": rec.pos}
        self.calls[rec.io] = Span(rec.t, f"{name} {human_bytes(rec.nbytes)}", about, io=rec.io)
        self.out.calls.append(self.calls[rec.io])

    def _queue(self, rec: BlockBioQueue) -> None:
        about = {name: getattr(rec, name) for name in ("io", "bio", "sector", "nr_sector", "vecs", "rwbs")}
        bio = Span(rec.t, f"bio {rec.bio} {rec.rwbs}".rstrip(), about, io=rec.io)
        self.bios.setdefault(rec.bio, []).append(bio)
        self.out.bios.append(bio)

    def _found(self, number: int, sector: int) -> Iterator[Span]:
        """Yield the last bio of that number that `sector` is in; a stripe queues one piece by piece."""
        for bio in reversed(self.bios.get(number, [])):
            first, many = bio.args["sector"], bio.args["nr_sector"]
            if first <= sector < first + max(many, 1):
                yield bio
                return

    def _join(self, rec: _Join) -> None:
        """Let a request begin with a bio, or grow by one."""
        if isinstance(rec, BlockGetrq):
            about = {name: getattr(rec, name) for name in ("io", "rq", "tag", "sector", "nr_sector", "segments")}
            size = human_bytes(rec.nr_sector << SECTOR_SHIFT)
            request = Span(rec.t, f"request {rec.rq} {size}", about, rec.tag, rec.io, steps=[(rec.t, "waiting")])
            self.requests[rec.rq], self.carried[rec.rq] = request, []
            self.out.requests.append(request)
        if rec.rq in self.requests:
            mine = list(self._found(rec.bio, rec.sector))
            self.out.flows += [Flow(rec.t, bio, self.requests[rec.rq]) for bio in mine]
            self.carried[rec.rq] += mine

    def _merge(self, rec: BlockRqMerge) -> None:
        """Let a request go on as a part of its neighbour."""
        other, grown = self.requests.pop(rec.other, None), self.requests.get(rec.rq)
        if other is None or grown is None:
            return
        self._end(other, rec.t, merged_into=rec.rq)
        mine = self.carried.pop(rec.other)
        self.carried[rec.rq] += mine
        self.out.flows += [Flow(rec.t, bio, grown) for bio in mine]

    def _complete(self, rec: BlockRqComplete) -> None:
        self._end(self.requests.pop(rec.rq), rec.t, error=rec.error)
        for bio in self.carried.pop(rec.rq):
            self._end(bio, rec.t)

    def _end(self, span: Span, t: int, **how: int) -> None:
        """End `span`, or end it later than it was thought to: a bio goes on until its last request ends."""
        span.end = t
        span.args |= how

    def close(self, t: int) -> None:
        """End all that goes on still, at `t`."""
        for span in (*self.out.calls, *self.out.bios, *self.out.requests):
            if span.end is None:
                self._end(span, t, unfinished=True)
