"""Records become holders: which memory was pinned by whom, from which record until which, and its folio's counts."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from labkit.trace.events import (
    DupMmap,
    FolioFlags,
    GupPin,
    GupUnpin,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Munmap,
    SetPtes,
    SplitHugePmd,
    SysEnter,
    Violation,
    ZapPtes,
)
from labkit.trace.snapshot import FolioState
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT, PAGE_SIZE, Nsec
from labkit.views.journey import NEVER

MOST_ROWS = 20
"""Rows that are drawn; where there is more memory, pieces with the same holders share one."""

_CHANGES = (
    DupMmap, FolioFlags, GupPin, GupUnpin, MmFilemapAddToPageCache, MmFilemapDeleteFromPageCache, MmMigratePages,
    MmPageAlloc, MmPageFree, Munmap, SetPtes, SplitHugePmd, ZapPtes,
)  # fmt: skip
"""Records after which a folio may count something else."""
_BUDGET = 150_000
"""Folios that are looked at in all: each takes some 12 µs, and a picture is to be there within seconds."""


class Held(NamedTuple):
    """One pin: who holds (`io`, and the name of its call), under which policy, from which record until which."""

    token: int
    io: int
    name: str
    policy: str
    begin: int
    end: int = NEVER


class Piece(NamedTuple):
    """Memory with one history: its first address, bytes and ranges, its holders, and when it came and went."""

    addr: int
    nbytes: int
    ranges: int
    held: tuple[Held, ...]
    lives: tuple[tuple[int, int], ...] = ((0, NEVER),)
    """(record that brings it, record that frees it), again for each owner."""


Pieces = tuple[list[Piece], int]
"""Pieces of memory by address, and how many are left out."""


def holders(trace: Trace) -> dict[int, Held]:
    """Return the pins of `trace`, by token."""
    calls = {rec.io: rec.name for rec in trace.of(SysEnter)}
    out: dict[int, Held] = {}
    for at, rec in enumerate(trace.records):
        if isinstance(rec, GupPin):
            out[rec.token] = Held(rec.token, rec.io, calls.get(rec.io, ""), rec.policy, at)
        elif isinstance(rec, GupUnpin) and rec.token in out:
            out[rec.token] = out[rec.token]._replace(end=at)
    return out


def pieces(trace: Trace) -> Pieces:
    """Return the pinned memory by address, in runs of one history, and how many are left out."""
    held, lives = holders(trace), _lives(trace)
    cut = list(_cut(trace, held, lives))
    if len(cut) > MOST_ROWS:
        cut = _bundled(cut)
    pinned = [span for rec in trace.of(GupPin) for span in rec.ranges]
    cut = [*_struck(trace, pinned), *cut]
    shown = [piece._replace(lives=lives.of(piece.addr)) for piece in cut[:MOST_ROWS]]
    return sorted(shown), len(cut) - len(shown)


def _struck(trace: Trace, pinned: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return the pages that hold wrong bytes and that nobody pinned."""
    addrs = {rec.addr & -PAGE_SIZE for rec in trace.of(Violation) if rec.addr}
    free = (page for page in sorted(addrs) if not any(a < page + PAGE_SIZE and page < a + n for a, n in pinned))
    return [Piece(page, PAGE_SIZE, 1, ()) for page in free]


def _cut(trace: Trace, held: dict[int, Held], lives: "_Lives") -> Iterator[Piece]:
    """Yield pinned memory, cut wherever a pin begins or ends, and wherever neighbours came or went at another time."""
    before = Piece(0, 0, 0, ())
    for lo, hi, tokens in _swept(trace, lives):
        who = tuple(held[token] for token in tokens)
        if before.held == who and before.addr + before.nbytes == lo and lo not in lives.edges:
            before = before._replace(nbytes=before.nbytes + hi - lo)
            continue
        if before.held:
            yield before
        before = Piece(lo, hi - lo, 1, who)
    if before.held:
        yield before


def _swept(trace: Trace, lives: "_Lives") -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield (first address, past the end, tokens) of memory between two edges that some pin covers, by address."""
    edges = [(addr, 0, 0) for addr in lives.edges]
    for rec in trace.of(GupPin):
        for addr, nbytes in rec.ranges:
            edges += ((addr, rec.token, 1), (addr + nbytes, rec.token, -1))
    live: dict[int, int] = {}
    at = 0
    for addr, token, sign in sorted(edges):
        if live and addr > at:
            yield at, addr, tuple(sorted(live))
        at = addr
        if sign:
            live[token] = live.get(token, 0) + sign
            if not live[token]:
                del live[token]


def _bundled(cut: Sequence[Piece]) -> list[Piece]:
    """Return pieces with the same holders as one."""
    out = []
    for _, group in groupby(sorted(cut, key=lambda piece: piece.held), key=lambda piece: piece.held):
        found = list(group)
        out.append(found[0]._replace(nbytes=sum(piece.nbytes for piece in found), ranges=len(found)))
    return sorted(out)


class _Lives(NamedTuple):
    """When memory came and went: (first address, past the end, record), by address."""

    came: list[tuple[int, int, int]]
    went: list[tuple[int, int, int]]
    edges: set[int]
    """Where what came or went at one time begins or ends."""

    def of(self, addr: int) -> tuple[tuple[int, int], ...]:
        """Return (record that brought it, record that freed it) for each life of `addr`; (0, NEVER) if none is told."""
        born = [at for lo, hi, at in self.came if lo <= addr < hi]
        gone = [at for lo, hi, at in self.went if lo <= addr < hi]
        if gone and (not born or gone[0] < born[0]):
            born.insert(0, 0)
        return tuple((at, next((end for end in gone if end > at), NEVER)) for at in born or [0])


def _lives(trace: Trace) -> _Lives:
    out = _Lives([], [], set())
    for at, rec in enumerate(trace.records):
        if isinstance(rec, MmPageAlloc | MmFilemapAddToPageCache):
            out.came.extend((addr, addr + nbytes, at) for addr, nbytes in rec.ranges)
        elif isinstance(rec, MmPageFree):
            out.went.extend((addr, addr + nbytes, at) for addr, nbytes in rec.ranges)
        elif isinstance(rec, MmMigratePages):
            out.went.extend((addr, addr + nbytes, at) for addr, nbytes in rec.src)
            out.came.extend((addr, addr + nbytes, at) for addr, nbytes in rec.dst)
    for spans in (out.came, out.went):
        joined = {(at, edge) for lo, hi, at in spans for edge in (lo, hi)}
        inner = {(at, lo) for lo, _, at in spans} & {(at, hi) for _, hi, at in spans}
        out.edges.update(edge for _, edge in joined - inner)
    return out


def counts(trace: Trace, addrs: Sequence[int]) -> list[tuple[int, list[FolioState | None]]]:
    """Return (record, the folio that holds each of `addrs`) for the records after which a folio counts otherwise.

    Of a trace of very many folios only some of these records are looked at, pins and their ends before all.
    """
    changes = [at for at, rec in enumerate(trace.records) if isinstance(rec, _CHANGES)]
    folios = sum(nbytes >> PAGE_SHIFT + rec.order for rec in trace.of(MmPageAlloc) for _, nbytes in rec.ranges)
    most = max(2, min(400, _BUDGET // max(folios, 1)))
    if len(changes) > most:
        first = [at for at in changes if isinstance(trace.records[at], GupPin | GupUnpin)]
        changes = sorted((first + [at for at in changes if at not in set(first)])[:most])
    return [(at, _folios_at(trace, at, addrs)) for at in changes]


def _folios_at(trace: Trace, at: int, addrs: Sequence[int]) -> list[FolioState | None]:
    part = Trace(trace.records[: at + 1])
    found = part.state_at(Nsec(trace.records[at].t)).folios
    starts = [folio.pfn for folio in found]
    out: list[FolioState | None] = []
    for addr in addrs:
        i = bisect_right(starts, addr >> PAGE_SHIFT) - 1
        inside = i >= 0 and addr >> PAGE_SHIFT < found[i].pfn + (1 << found[i].order)
        out.append(found[i] if inside else None)
    return out
