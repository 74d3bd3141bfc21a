"""Numbers become frames: physical runs of any lengths, cut from huge pages and mapped side by side."""

import errno
import mmap
from collections.abc import Sequence
from itertools import cycle, islice
from random import Random
from typing import NamedTuple

from labkit.errors import BadInput
from labkit.host.memory.buffer.shared import huge_memfd
from labkit.host.memory.buffer.space import NOHUGEPAGE, Space, check_room
from labkit.host.memory.buffer.switches import PMD_SIZE
from labkit.host.undo import Undo
from labkit.units import PAGE_SIZE

MIX = (1, 2, 3, 5, 16, 17, 33, 64)
"""Runs, in pages, among which those of 17 and 33 show where a device's 64 KiB segments end."""
_BLOCK = PMD_SIZE // PAGE_SIZE


class Piece(NamedTuple):
    """`pages` of the buffer from page `at` on, which are those of the pool from page `source` on."""

    at: int
    source: int
    pages: int


def synth(space: Space, undo: Undo, runs: Sequence[int], seed: int) -> None:
    """Put runs of `runs` pages over it, in turn; a mixture of MIX where there are none. Errors: those of huge_memfd."""
    pieces, blocks = plan(space.nbytes // PAGE_SIZE, runs, seed)
    check_room(blocks * PMD_SIZE)
    with Space(blocks * PMD_SIZE, PMD_SIZE) as pool, huge_memfd(pool, undo) as fd:
        for at, source, pages in pieces:
            space.place(fd, mmap.MAP_SHARED, at * PAGE_SIZE, pages * PAGE_SIZE, source * PAGE_SIZE)
    space.advise(NOHUGEPAGE)
    space.populate()


def plan(pages: int, runs: Sequence[int], seed: int) -> tuple[list[Piece], int]:
    """Return the pieces of a buffer of `pages`, in its order, and the huge pages that they are cut from.

    Each piece has a place of its own in the pool, in a random order, and an unused page behind it in its huge page:
    so no two runs are ever one, wherever the huge pages lie. Raises BadInput for a run that leaves no such page.
    """
    if bad := [run for run in runs if not 0 < run < _BLOCK]:
        raise BadInput("buffer", f"a run of {bad[0]} pages", f"is none of 1 to {_BLOCK - 1}", errno.EINVAL)
    chance = Random(seed)  # noqa: S311 - a layout, not a secret
    lengths = _lengths(pages, runs, chance)
    places, end = [0] * len(lengths), 0
    for i in chance.sample(range(len(lengths)), len(lengths)):
        if end % _BLOCK + lengths[i] >= _BLOCK:
            end = -(-end // _BLOCK) * _BLOCK
        places[i], end = end, end + lengths[i] + 1
    pieces, at = [], 0
    for place, length in zip(places, lengths, strict=True):
        pieces.append(Piece(at, place, length))
        at += length
    return pieces, -(-end // _BLOCK)


def _lengths(pages: int, runs: Sequence[int], chance: Random) -> list[int]:
    """Return lengths that sum up to `pages`: those of `runs` in turn, or some of MIX; the last is cut."""
    lengths = list(islice(cycle(runs), pages)) if runs else chance.choices(MIX, k=pages)
    total = 0
    for i, length in enumerate(lengths):
        total += length
        if total >= pages:
            lengths[i] -= total - pages
            return lengths[: i + 1]
    return lengths
