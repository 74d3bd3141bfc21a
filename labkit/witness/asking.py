"""Random IO to ask a source for: the same seed and space give the same series, however large the machine is."""

from collections.abc import Iterator, Sequence
from random import Random

from labkit.kernel.block.bio import BIO_MAX_VECS
from labkit.kernel.syscall.table import UIO_MAXIOV
from labkit.scatter.payload import Range
from labkit.units import PAGE_SIZE, SECTOR_SIZE
from labkit.witness.source import Asked, AskedIo, Extent, Space

SETTLED = 20
"""So many IOs are asked for before the settings of the queue change."""
_MAX_SECTORS_KB = (4, 8, 16, 31, 64, 127, 128, 256, 512, 1000, 1280)
_LARGEST = (PAGE_SIZE, 16 * PAGE_SIZE, 1 << 20, 4 << 20, 8 << 20, 16 << 20)
_PIECES = (2, 3, 10, 100, 300, 600, UIO_MAXIOV)
_BATCHES = (1, 1, 1, 2, 3, 5, 32)
_ORDERS = ("forwards", "backwards", "anywhere")
_SKEWS = (0, 0, SECTOR_SIZE, 1, 4, 256)
"""Bytes by which a buffer begins beside a page: the odd ones too (R8, R9)."""
_EDGES = tuple((BIO_MAX_VECS + more) * PAGE_SIZE for more in (-1, 0, 0, 1))
"""Sizes around those that one bio has room for, wherever their pages lie (R7)."""
_REGIONS = (2 << 20, 4 << 20, 8 << 20, (2 << 20) + PAGE_SIZE)
_BATCH_BYTES = 16 << 20
_NEVER_FIXED = {"file"}
"""Nobody registers a shared mapping of a file: EFAULT (mm/gup.c :: writable_file_mapping_allowed)."""


def ask(seed: int, count: int, space: Space, api: str = "", buffer: str = "") -> Iterator[Asked]:
    """Yield `count` random things to do in `space`: every size of 512 bytes to 16 MiB, every kind of buffer, ...

    With `api` or `buffer` each is of that kind; without `api` it is pread and preadv in turns. Lengths of pieces are
    whole logical blocks (R21).
    """
    rng = Random(seed)  # noqa: S311 - a seeded series
    knobs: dict[str, int | str] = {}
    kinds = [buffer] if buffer else sorted(set(space.buffers) - (_NEVER_FIXED if api == "io_uring-fixed" else set()))
    for at in range(count):
        if at % SETTLED == 0:
            knobs = _settings(rng, space)
        kind, name = rng.choice(kinds), f"{seed}-{at}"
        if api.startswith("io_uring"):
            yield _batch(rng, space, Asked(name, kind, api, (), None, knobs))
        else:
            yield _call(rng, space, Asked(name, kind, api, (), None, knobs))


def _settings(rng: Random, space: Space) -> dict[str, int | str]:
    return {
        "max_sectors_kb": max(rng.choice(_MAX_SECTORS_KB), space.block >> 10, PAGE_SIZE >> 10),
        "nomerges": rng.choice((0, 0, 1, 2)),
    }


def _call(rng: Random, space: Space, asked: Asked) -> Asked:
    """Return one pread or preadv, or a write of their kind."""
    room, most = space.buffers[asked.buffer], min(rng.choice(_LARGEST), space.nbytes // 2)
    several = asked.api == "preadv" or (not asked.api and rng.random() < 0.45)  # noqa: PLR2004 - nearly half of them
    if several:
        pieces = _pieces(rng, room, most, space.block)
    else:
        size = rng.randrange(1, most // space.block + 1) * space.block
        if rng.random() < 0.1:  # noqa: PLR2004 - one in ten
            size = min(rng.choice(_EDGES), space.nbytes // 2 // space.block * space.block)
        pieces = ((rng.choice((*_SKEWS, rng.randrange(64) * SECTOR_SIZE)), size),)
    pos = _position(rng, space, sum(n for _, n in pieces))
    op = _op(rng, space, pos, sum(n for _, n in pieces))
    return asked._replace(api="preadv" if several else "pread", ios=(AskedIo(op, pos, pieces),))


def _pieces(rng: Random, room: int, most: int, block: int) -> tuple[Range, ...]:
    """Return up to 1024 pieces that lie one behind the other, touching or not, in a buffer of `room` bytes."""
    count, at = rng.choice(_PIECES), 0
    longest, found = max(1, most // count // block), list[Range]()
    while len(found) < count:
        size = rng.randrange(1, longest + 1) * block
        if rng.random() < 0.5:  # noqa: PLR2004 - one half
            at += rng.choice((SECTOR_SIZE, PAGE_SIZE, 0, 2 * PAGE_SIZE))
        if at + size > room:
            break
        found.append((at, size))
        at += size
        if rng.random() < 0.1:  # noqa: PLR2004 - one in ten
            at = -(-at // PAGE_SIZE) * PAGE_SIZE
    return tuple(found)


def _position(rng: Random, space: Space, size: int) -> int:
    """Return where `size` bytes go: one in twenty around the end, or at it (R1)."""
    if rng.random() < 0.05:  # noqa: PLR2004 - one in twenty
        last = space.nbytes - size + rng.choice((-1, 0, 1)) * rng.randrange(9) * space.block
        return max(0, rng.choice((last, last, last, space.nbytes)))
    return rng.randrange(max(1, (space.nbytes - size) // space.block)) * space.block


def _op(rng: Random, space: Space, pos: int, size: int) -> str:
    """Return r or w: a file is written to only where it has blocks, so that its extents stay as they are."""
    if space.extents is None:
        return rng.choice("rw")
    return "w" if rng.random() < 0.15 and _has_blocks(space.extents, pos, size) else "r"  # noqa: PLR2004 - a few


def _has_blocks(extents: Sequence[Extent], pos: int, size: int) -> bool:
    """Return whether all of [pos, pos + size) has blocks of its own that hold data."""
    at = pos
    for logical, _, nbytes, words in sorted(extents):
        if logical <= at < logical + nbytes and not set(words) - {"LAST", "MERGED"}:
            at = logical + nbytes
    return at >= pos + size


def _batch(rng: Random, space: Space, asked: Asked) -> Asked:
    """Return up to 32 entries of one submission: in a row, backwards, or anywhere; of one registered buffer, or not.

    They read, write, or do either.
    """
    count, ops, order = rng.choice(_BATCHES), rng.choice(("r", "w", "rw")), rng.choice(_ORDERS)
    room, fixed = space.buffers[asked.buffer], asked.api == "io_uring-fixed"
    start = rng.choice((0, 0, PAGE_SIZE, SECTOR_SIZE)) if fixed else 0
    region = (start, min(rng.choice(_REGIONS), room - start)) if fixed else (0, room)
    longest = min(rng.choice((8, 128, 2048, 8192)) * SECTOR_SIZE, _BATCH_BYTES // count, region[1] // 2)
    size = rng.randrange(1, longest // space.block + 1) * space.block
    first = rng.randrange((space.nbytes - count * size) // PAGE_SIZE) * PAGE_SIZE
    ios = tuple(_entry(rng, space, region, (ops, order, size, first, at, count), fixed=fixed) for at in range(count))
    return asked._replace(ios=ios, region=region if fixed else None)


def _entry(
    rng: Random, space: Space, region: Range, batch: tuple[str, str, int, int, int, int], *, fixed: bool
) -> AskedIo:
    """Return entry number `at` of a batch: (r, w or rw, order, size, first byte, at, count)."""
    ops, order, size, first, at, count = batch
    pos = first + {"forwards": at, "backwards": count - 1 - at, "anywhere": 0}[order] * size
    if order == "anywhere":
        size = rng.randrange(1, max(1, size // space.block) + 1) * space.block
        pos = rng.randrange((space.nbytes - size) // space.block) * space.block
    start, nbytes = region
    if fixed:
        offset = start + rng.randrange((nbytes - size) // SECTOR_SIZE + 1) * SECTOR_SIZE
        if rng.random() < 0.03:  # noqa: PLR2004 - a few leave their registration (R17)
            offset, size = start + nbytes - space.block, 2 * space.block
    else:
        side = at * size if rng.random() < 0.7 else rng.randrange((nbytes - size) // PAGE_SIZE) * PAGE_SIZE  # noqa: PLR2004
        # Memory at an odd byte fails with those that it is merged with (LOOP-3): on a file who that is depends on time.
        offset = min(side, nbytes - size - PAGE_SIZE) + rng.choice(
            (0, 0, 0, SECTOR_SIZE, 1 if space.extents is None else 0)
        )
    op = rng.choice(ops)
    op = op if space.extents is None or (op == "w" and _has_blocks(space.extents, pos, size)) else "r"
    return AskedIo(op, pos, ((offset, size),))
