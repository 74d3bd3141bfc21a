"""Pieces become units: what is drawn as one shape in each column. Small IOs fold nothing, huge ones neighbours."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from labkit.views.journey import NEVER, NONE, Command, Journey, Piece

HUES = 6
"""Colours of phyrs; above that many phyrs a colour means a request, or a bundle of neighbours."""

Place = tuple[int, int]
"""An address and a length in bytes; (NONE, 0) where there is none."""


class Unit(NamedTuple):
    """Neighbouring pieces with one colour: four places, and the records at which their state changes."""

    io: int
    first: int
    """Index of its first phyr, NONE if nothing was pinned."""
    phyrs: int
    hue: int
    request: int
    """Index of its first command, NONE if there is none."""
    nbytes: int
    va: Place
    pa: Place
    dma: Place
    lba: Place
    enter: int
    pin: int
    map: int
    issue: int
    serve: int
    move: int
    complete: int
    unmap: int
    flush: int
    unpin: int
    exit: int


def hues(trip: Journey) -> list[int]:
    """Return the colour of each phyr: its own if there are few, else that of its request, else of its neighbourhood."""
    n = len(trip.phyrs)
    if n <= HUES:
        return list(range(n))
    if len(trip.commands) < 2:  # noqa: PLR2004 - one request has one colour
        return [i * HUES // n for i in range(n)]
    out = [0] * n
    for piece in reversed(trip.pieces):
        if piece.phyr != NONE and piece.command != NONE:
            out[piece.phyr] = piece.command % HUES
    return out


def request_hues(trip: Journey) -> list[int]:
    """Return the colour of each request: that of the first phyr in it."""
    colours, out = hues(trip), [0] * len(trip.commands)
    for piece in reversed(trip.pieces):
        if piece.command != NONE and piece.phyr != NONE:
            out[piece.command] = colours[piece.phyr]
    return out


def fold(trip: Journey, most: int) -> list[Unit]:
    """Return at most about `most` units: first pieces of one request are joined, then whole requests."""
    colours = hues(trip)
    requests = [list(group) for _, group in groupby(trip.pieces, key=lambda p: (p.io, p.command))]
    size = -(-len(trip.pieces) // most)
    if len(requests) > most:
        ios = [list(group) for _, group in groupby(trip.pieces, key=lambda p: p.io)]
        chunks: Iterable[Sequence[Piece]] = (chunk for io in ios for chunk in _chunks(io, size))
    else:
        room = max(1, most - len(requests))
        size = -(-len(trip.pieces) // room) if len(trip.pieces) > most else 1
        chunks = (chunk for request in requests for chunk in _chunks(request, size))
    return [_unit(trip, chunk, colours) for chunk in chunks]


def _chunks(pieces: Sequence[Piece], size: int) -> Iterator[Sequence[Piece]]:
    for at in range(0, len(pieces), size):
        yield pieces[at : at + size]


def _unit(trip: Journey, pieces: Sequence[Piece], colours: Sequence[int]) -> Unit:
    io = next(io for io in trip.ios if io.io == pieces[0].io)
    phyrs = [trip.phyrs[i] for i in sorted({p.phyr for p in pieces if p.phyr != NONE})]
    commands = [trip.commands[i] for i in sorted({p.command for p in pieces if p.command != NONE})]
    first = pieces[0].phyr
    return Unit(
        io=io.io,
        first=first,
        phyrs=len(phyrs),
        hue=colours[first] if first != NONE else 0,
        request=pieces[0].command,
        nbytes=sum(p.nbytes for p in pieces),
        va=_place((p.va, p.nbytes) for p in pieces),
        pa=_place((p.pa, p.nbytes) for p in pieces),
        dma=_place((p.dma, p.nbytes) for p in pieces),
        lba=_place((p.lba, p.nbytes) for p in pieces),
        enter=io.enter,
        pin=min((pin.pin for pin in phyrs), default=NEVER),
        unpin=max((pin.unpin for pin in phyrs), default=NEVER),
        exit=io.exit,
        **_times(commands),
    )


def _times(commands: Sequence[Command]) -> dict[str, int]:
    """Return when the first of `commands` began each stage, and when the last of them left it."""
    begun = {name: min((getattr(com, name) for com in commands), default=NEVER) for name in ("map", "issue", "serve")}
    ended = ("move", "complete", "unmap", "flush")
    return begun | {name: max((getattr(com, name) for com in commands), default=NEVER) for name in ended}


def _place(ranges: Iterable[Place]) -> Place:
    """Return the longest run from the first of `ranges` on that is contiguous."""
    start, length = NONE, 0
    for addr, nbytes in ranges:
        if addr == NONE or (length and addr != start + length):
            break
        start, length = (start if length else addr), length + nbytes
    return start, length
