"""Pieces of memory become a strip: each as wide as it is long, and a glance tells one long range from many short."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from labkit.views.words import count

MOST = 128
"""Pieces that are drawn each for itself; of more, neighbours are bundled."""
LOOKS = ("ram", "peer", "gone")
"""RAM, memory of another device or machine, and nothing there; each has a pattern beside its colour."""


class Piece(NamedTuple):
    """`nbytes` bytes, what is said of them, and how they look: one of LOOKS."""

    nbytes: int
    says: str
    look: str = "ram"


class Strip(NamedTuple):
    """Pieces in the order of the bytes; `total` is how many there were before any were bundled."""

    pieces: tuple[Piece, ...]
    total: int
    noun: str


def strip(pieces: Iterable[Piece], total: int, noun: str) -> Strip:
    """Return the strip of `total` pieces, each a `noun`; neighbours are bundled where they are more than MOST."""
    every = list(pieces)
    size = max(-(-len(every) // MOST), 1)
    bundles = [every[at : at + size] for at in range(0, len(every), size)]
    return Strip(tuple(one[0] if len(one) == 1 else _bundle(one, noun) for one in bundles), total, noun)


def _bundle(pieces: Sequence[Piece], noun: str) -> Piece:
    looks = {piece.look for piece in pieces}
    look = pieces[0].look if len(looks) == 1 else "peer"
    return Piece(
        sum(piece.nbytes for piece in pieces), f"{count(len(pieces), noun)}, the first: {pieces[0].says}", look
    )


def html(found: Strip) -> str:
    """Return the strip as HTML; what a piece says shows on hover."""
    if not found.pieces:
        return ""
    parts = "".join(
        f'<i class="{piece.look}" style="flex:{max(piece.nbytes, 1)} 1 0" title="{escape(piece.says)}"></i>'
        for piece in found.pieces
    )
    folded = "" if len(found.pieces) == found.total else f", neighbours drawn together as {len(found.pieces)}"
    said = escape(f"{count(found.total, found.noun)}{folded}")
    return f'<div class=strip role=img aria-label="{said}">{parts}</div><p class=said>{said}</p>'
