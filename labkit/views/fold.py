"""Pieces become units: what is drawn as one shape in each column. Small IOs fold nothing, huge ones neighbours."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from labkit.scatter.payload import run_length
from labkit.views.journey import NEVER, NONE, Io, Journey, Piece

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
    """Return the colour of each piece: its phyr's if there are few, else its request's, else its neighbourhood's."""
    n = len(trip.phyrs)
    if n <= HUES:
        return [max(piece.phyr, 0) for piece in trip.pieces]
    requests = len(trip.commands)
    if 1 < requests <= 2 * HUES:
        return [max(piece.command, 0) % HUES for piece in trip.pieces]
    if requests > 1:
        return [max(piece.command, 0) * HUES // requests for piece in trip.pieces]
    return [max(piece.phyr, 0) * HUES // n for piece in trip.pieces]


def request_hues(trip: Journey) -> list[int]:
    """Return the colour of each request: that of its first piece."""
    out = [0] * len(trip.commands)
    for piece, colour in zip(reversed(trip.pieces), reversed(hues(trip)), strict=True):
        if piece.command != NONE:
            out[piece.command] = colour
    return out


def fold(trip: Journey, most: int) -> list[Unit]:
    """Return at most about `most` units: first pieces of one request are joined, then whole requests."""
    painted = list(zip(trip.pieces, hues(trip), strict=True))
    ios = {io.io: io for io in trip.ios}
    requests = [list(group) for _, group in groupby(painted, key=lambda row: (row[0].io, row[0].command))]
    if len(requests) > most:
        joined = -(-len(requests) // most)
        return [
            _unit(trip, ios[io], [piece for group in found[at : at + joined] for piece, _ in group], found[at][0][1])
            for io in ios
            for found in [[group for group in requests if group[0][0].io == io]]
            for at in range(0, len(found), joined)
        ]
    room = max(1, most - len(requests))
    size = 1 if len(painted) <= most else -(-len(painted) // room)
    return [
        _unit(trip, ios[request[at][0].io], [piece for piece, _ in request[at : at + size]], request[at][1])
        for request in requests
        for at in range(0, len(request), size)
    ]


def _unit(trip: Journey, io: Io, pieces: Sequence[Piece], hue: int) -> Unit:
    phyrs = [trip.phyrs[i] for i in sorted({p.phyr for p in pieces if p.phyr != NONE})]
    commands = [trip.commands[i] for i in sorted({p.command for p in pieces if p.command != NONE})]
    return Unit(
        io=io.io,
        first=pieces[0].phyr,
        phyrs=len(phyrs),
        hue=hue,
        request=pieces[0].command,
        nbytes=sum(p.nbytes for p in pieces),
        va=_place((p.va, p.nbytes) for p in pieces),
        pa=_place((p.pa, p.nbytes) for p in pieces),
        dma=_place((p.dma, p.nbytes) for p in pieces),
        lba=_place((p.lba, p.nbytes) for p in pieces),
        enter=io.enter,
        exit=io.exit,
        **_begun(phyrs, "pin"),
        **_ended(phyrs, "unpin"),
        **_begun(commands, "map", "issue", "serve"),
        **_ended(commands, "move", "complete", "unmap", "flush"),
    )


def join(units: Sequence[Unit]) -> Unit:
    """Return the unit that neighbours make up together."""
    first, last = units[0], units[-1]
    if len(units) == 1:
        return first
    changed: dict[str, Any] = {
        name: _place(getattr(unit, name) for unit in units) for name in ("va", "pa", "dma", "lba")
    }
    changed |= _begun(units, "pin", "map", "issue", "serve")
    changed |= _ended(units, "move", "complete", "unmap", "flush", "unpin")
    nbytes = sum(unit.nbytes for unit in units)
    return first._replace(phyrs=last.first + last.phyrs - first.first, nbytes=nbytes, **changed)


def _begun(of: Sequence[Any], *names: str) -> dict[str, int]:
    """Return when the first of some things reached each stage."""
    return {name: min((getattr(one, name) for one in of), default=NEVER) for name in names}


def _ended(of: Sequence[Any], *names: str) -> dict[str, int]:
    """Return when the last of some things reached each stage."""
    return {name: max((getattr(one, name) for one in of), default=NEVER) for name in names}


def _place(ranges: Iterable[Place]) -> Place:
    """Return the one range that `ranges` make up in whatever order, else the longest that starts them."""
    known = [(addr, nbytes) for addr, nbytes in ranges if addr != NONE]
    if not known:
        return NONE, 0
    first, last = min(known), max(known)
    total = sum(nbytes for _, nbytes in known)
    if sum(last) - first[0] == total:
        return first[0], total
    return run_length(known)[0]
