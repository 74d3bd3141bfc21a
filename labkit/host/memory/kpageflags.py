"""Frames become folios: /proc/kpageflags tells what each frame is, and which frames are of one folio with it."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from labkit.errors import NotAllowed
from labkit.units import PAGE_SIZE

KPF = (
    *("LOCKED", "ERROR", "REFERENCED", "UPTODATE", "DIRTY", "LRU", "ACTIVE", "SLAB", "WRITEBACK", "RECLAIM", "BUDDY"),
    *("MMAP", "ANON", "SWAPCACHE", "SWAPBACKED", "COMPOUND_HEAD", "COMPOUND_TAIL", "HUGE", "UNEVICTABLE", "HWPOISON"),
    *("NOPAGE", "KSM", "THP", "OFFLINE", "ZERO_PAGE", "IDLE", "PGTABLE"),
)
"""The names of the bits, from bit 0 on (uapi/linux/kernel-page-flags.h); THP is on every large folio but hugetlb's."""
_HEAD, _TAIL = (np.uint64(1 << KPF.index(name)) for name in ("COMPOUND_HEAD", "COMPOUND_TAIL"))
_NEAR = 32
"""Frames that are cheaper read than spared by another read."""
_ALIGNED = (1 << 9, 1 << 18)
"""Frames that a folio begins at a multiple of: one of up to 2 MiB, and one of up to 1 GiB."""
_PATH = "/proc/kpageflags"

Rows = Iterable[Sequence[int]]
"""What pagemap.rows returns: (page address, first PFN or -1, pages) each."""
_Words = NDArray[np.uint64]
_Ints = NDArray[np.int64]


def large_folios(rows: Rows) -> list[tuple[int, int, list[int]]]:
    """Return (PFN of its head, pages, bits of the head's flags) of each folio of several pages that `rows` touch.

    They are whole, however little of them is touched, and sorted. Raises NotAllowed without root.
    """
    rows = list(rows)
    heads, pages, flags = _compound(rows)
    bits = [[bit for bit in range(64) if word >> bit & 1] for word in flags.tolist()]
    return list(zip(heads.tolist(), pages.tolist(), bits, strict=True))


def sizes(rows: Rows) -> tuple[int, ...]:
    """Return the bytes of the folios that `rows` touch, each size once, sorted. Raises NotAllowed without root."""
    rows = list(rows)
    heads, pages, _ = _compound(rows)
    starts, stops = _ranges(rows, 1)
    large = _below(heads + pages, starts, stops) - _below(heads, starts, stops)
    small = int((stops - starts).sum()) > int(large.sum())
    return tuple(PAGE_SIZE * n for n in sorted({*pages.tolist(), *([1] if small else [])}))


def names(bits: Iterable[int]) -> list[str]:
    """Return the names of `bits`, such as 'ANON'; those from 32 on are the kernel developers' own, and left out."""
    return [KPF[bit] for bit in bits if bit < len(KPF)]


def _compound(rows: list[Sequence[int]]) -> tuple[_Ints, _Ints, _Words]:
    """Return the heads, the pages and the head's flags of the large folios that `rows` touch."""
    starts, stops = _ranges(rows, 1)
    with _opened() as fd:
        frames, flags = _flags(fd, *_ranges(rows, _NEAR), _ALIGNED)
    at, others = np.flatnonzero(flags & _HEAD), np.flatnonzero(flags & _TAIL == 0)
    pages = others[others.searchsorted(at, "right")] - at
    heads, once = np.unique(frames[at], return_index=True)
    at, pages = at[once], pages[once]
    kept = (pages > 1) & (_below(heads + pages, starts, stops) > _below(heads, starts, stops))
    return heads[kept], pages[kept], flags[at[kept]]


def _ranges(rows: list[Sequence[int]], near: int) -> tuple[_Ints, _Ints]:
    """Return where the frames of `rows` begin and end, as `_merged` does."""
    found = np.array([(pfn, pfn + pages) for _, pfn, pages in rows if pfn >= 0], np.int64).reshape(-1, 2)
    return _merged(found[:, 0], found[:, 1], near)


def _merged(starts: _Ints, stops: _Ints, near: int) -> tuple[_Ints, _Ints]:
    """Return the ranges sorted; two with fewer than `near` frames between them are one."""
    order = starts.argsort()
    starts, ends = starts[order], np.maximum.accumulate(stops[order])
    apart = starts[1:] - ends[:-1] >= near
    first, last = np.ones(len(starts), bool), np.ones(len(starts), bool)
    first[1:] = last[:-1] = apart
    return starts[first], ends[last]


def _below(frames: _Ints, starts: _Ints, stops: _Ints) -> _Ints:
    """Return how many frames of the ranges from `starts` to `stops` lie below each of `frames`."""
    sums = np.concatenate(([0], np.cumsum(stops - starts)))
    i = starts.searchsorted(frames)
    beyond = np.maximum(np.concatenate(([0], stops))[i] - frames, 0)
    below: _Ints = sums[i] - beyond
    return below


def _flags(fd: int, starts: _Ints, stops: _Ints, steps: Sequence[int]) -> tuple[_Ints, _Words]:
    """Return frames and their flags: those of the ranges in whole folios, and a frame of flags 0 behind each.

    A range that begins or ends inside a folio is read once more, widened to multiples of the next of `steps`.
    """
    counts = stops + 1 - starts
    frames, words = _words(fd, starts, counts)
    last = np.cumsum(counts) - 1
    torn = (words[last + 1 - counts] | words[last]) & _TAIL != 0
    words[last] = 0
    if not steps or not torn.any():
        return frames, words
    step = steps[0]
    words[np.repeat(torn, counts)] = 0
    wide = _merged(starts[torn] // step * step, -(-stops[torn] // step) * step, 1)
    more, their = _flags(fd, *wide, steps[1:])
    return np.concatenate((frames, more)), np.concatenate((words, their))


def _words(fd: int, starts: _Ints, counts: _Ints) -> tuple[_Ints, _Words]:
    """Return frames and flags of as many frames as `counts` says from each of `starts` on; 0 beyond the last one."""
    reads = (
        os.pread(fd, nbytes, pos).ljust(nbytes, b"\0")
        for nbytes, pos in zip((counts * 8).tolist(), (starts * 8).tolist(), strict=True)
    )
    words = np.frombuffer(bytearray().join(reads), np.uint64)
    return np.arange(len(words)) + np.repeat(starts - np.cumsum(counts) + counts, counts), words


@contextmanager
def _opened() -> Iterator[int]:
    """Yield an fd of /proc/kpageflags. Raises NotAllowed."""
    try:
        fd = os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as bad:
        number = bad.errno or errno.EIO
        raise NotAllowed("kpageflags", _PATH, f"cannot be read, {os.strerror(number)}: run as root", number) from bad
    try:
        yield fd
    finally:
        os.close(fd)
