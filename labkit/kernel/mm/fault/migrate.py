"""Folios move to other frames, with their bytes, their counts and all that maps them; what is held stays (MM-21)."""

import errno
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.frames.folio import Folio, kept
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.free_area import MOVABLE, UNMOVABLE
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PSE
from labkit.kernel.mm.space.vma import VMA
from labkit.scatter.payload import Range, run_length
from labkit.trace.page_flags import PG_hugetlb
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, Pfn, PhysAddr


class Migrated(NamedTuple):
    """What a migration did: (from, to, order) of each folio that moved, what stayed, and why the first of it did."""

    moved: tuple[tuple[Pfn, Pfn, int], ...]
    stayed: tuple[Range, ...] = ()
    error: SyscallError | None = None
    """EAGAIN for a folio that is held, ENOMEM where no frame was left to move to."""


class _Entry(NamedTuple):
    """A page table entry of order `order` that maps page `at` of a mapping, and those after it."""

    vma: VMA
    at: int
    order: int


def migrate_pages(
    frames: Frames, mms: Iterable[Mm], runs: Sequence[Range], *, migratetype: int = MOVABLE, avoid: Range = (0, 0)
) -> Migrated:
    """Move every folio that has a byte in `runs` (physical) to fresh frames for use as `migratetype`.

    `mms` are the address spaces that may map it: a folio that others map too stays. None of the new frames lies in
    `avoid` (physical). Raises nothing: what stays, and the errno, is in the answer. Source: mm/migrate.c.
    """
    entries, moves = _entries(mms), list[tuple[Folio, Pfn]]()
    stayed, error, aside = list[Range](), None, list[tuple[Pfn, int]]()
    for folio in _folios(frames, runs):
        try:
            _check(frames, folio, entries)
            moves.append((folio, _frames_for(frames, folio, migratetype, avoid, aside)))
        except SyscallError as bad:
            stayed += folio.runs
            error = error or bad
    moved = tuple((Pfn(folio.pfn), dst, folio.order) for folio, dst in moves)
    for folio, dst in moves:
        _move(frames, folio, dst, entries)
    _tell(frames, moved)
    for pfn, order in (*((src, order) for src, _, order in moved), *aside):
        frames.buddy.free_pages(pfn, order)
    return Migrated(moved, tuple(stayed), error)


def compact_range(frames: Frames, mms: Iterable[Mm], addr: int, nbytes: int) -> Migrated:
    """Move everything that can move out of `nbytes` bytes from physical `addr` on (alloc_contig_range)."""
    return migrate_pages(frames, mms, ((addr, nbytes),), avoid=(addr, nbytes))


def migrate_longterm(frames: Frames, mms: Iterable[Mm], runs: Sequence[Range]) -> Migrated:
    """Move what of `runs` lies in ZONE_MOVABLE to where memory may stay for good (check_and_migrate_movable_pages).

    A pin for the long term asks for it before it is taken; the answer's EAGAIN means to look again (MM-21).
    """
    movable = [
        (zone.start << PAGE_SHIFT, zone.end << PAGE_SHIFT) for zone in frames.buddy.zones if zone.name == "Movable"
    ]
    inside = [
        (max(addr, lo), min(addr + nbytes, hi) - max(addr, lo))
        for addr, nbytes in runs
        for lo, hi in movable
        if addr < hi and lo < addr + nbytes
    ]
    return migrate_pages(frames, mms, inside, migratetype=UNMOVABLE)


def expected_count(folio: Folio) -> int:
    """Return the references that a folio has when nobody but its mappings and its file holds it (MM-21).

    The one of whoever isolated it, which the kernel counts too, is on neither side here.
    """
    return folio.mapcount + kept(folio)


def _folios(frames: Frames, runs: Sequence[Range]) -> Iterator[Folio]:
    """Yield each folio that has a byte in `runs`, once."""
    seen: set[int] = set()
    for addr, nbytes in runs:
        at, end = addr & -PAGE_SIZE, addr + nbytes
        while at < end:
            folio = frames.folios.phys_to_folio(PhysAddr(at))
            at = (folio.pfn << PAGE_SHIFT) + folio.nbytes if folio else at + PAGE_SIZE
            if folio is not None and folio.pfn not in seen:
                seen.add(folio.pfn)
                yield folio


def _check(frames: Frames, folio: Folio, entries: dict[int, list[_Entry]]) -> None:
    """Raise SyscallError EAGAIN for a folio that somebody holds, or that is mapped where nobody looked.

    EBUSY for memory that stays where it is: a device's own, and huge pages set aside.
    """
    what, expected = f"pfn={folio.pfn:#x}", expected_count(folio)
    if folio.flags & PG_hugetlb or not (folio.mapping is None or hasattr(folio.mapping, "replace")):
        raise SyscallError("migrate", what, "is a huge page set aside, or a device's, and stays", errno.EBUSY)
    if folio.refcount != expected:
        rule = f"has {folio.refcount} references where {expected} are accounted for (MM-21)"
        raise SyscallError("migrate", what, rule, errno.EAGAIN)
    if folio.under_io:
        raise SyscallError("migrate", what, "is locked or on its way to its device (BUF-4)", errno.EAGAIN)
    if frames.ledger.covers(folio.pfn << PAGE_SHIFT, folio.nbytes):
        raise SyscallError("migrate", what, "is held by a pin in the ledger", errno.EAGAIN)
    if sum(1 for _ in _mappers(folio, entries)) != folio.mapcount:
        raise SyscallError("migrate", what, "is mapped elsewhere too", errno.EAGAIN)


def _frames_for(frames: Frames, folio: Folio, migratetype: int, avoid: Range, aside: list[tuple[Pfn, int]]) -> Pfn:
    """Return fresh frames outside `avoid`; those inside it go to `aside`. Raises SyscallError ENOMEM."""
    while True:
        pfn = frames.buddy.alloc_pages(folio.order, migratetype)
        addr = PFN_PHYS(pfn)
        if addr + folio.nbytes <= avoid[0] or addr >= sum(avoid):
            return pfn
        aside.append((pfn, folio.order))


def _entries(mms: Iterable[Mm]) -> dict[int, list[_Entry]]:
    """Return the entries of `mms` by the physical address that they map (rmap_walk, for all folios at once)."""
    found: dict[int, list[_Entry]] = defaultdict(list)
    for vma in (vma for mm in mms for vma in mm.space.vmas):
        for first, last, leaf in vma.table.present(0, vma.pages):
            at, order = first, leaf or 0
            for addr, nbytes in vma.table.ranges(first, last):
                for pa in range(addr, addr + nbytes, PAGE_SIZE << order):
                    found[pa].append(_Entry(vma, at, order))
                    at += 1 << order
    return found


def _mappers(folio: Folio, entries: dict[int, list[_Entry]]) -> Iterator[tuple[_Entry, int]]:
    """Yield each entry that maps a page of `folio`, and how many bytes into the folio that page lies."""
    start = folio.pfn << PAGE_SHIFT
    for skip in range(0, folio.nbytes, PAGE_SIZE):
        for entry in entries.get(start + skip, ()):
            yield entry, skip


def _move(frames: Frames, folio: Folio, dst: Pfn, entries: dict[int, list[_Entry]]) -> None:
    """Copy the bytes, let every entry map the copy, and let the folio be there with all that counts on it."""
    to, src = PFN_PHYS(dst), PFN_PHYS(Pfn(folio.pfn))
    frames.copy(to, src, folio.nbytes)
    for (vma, at, order), skip in _mappers(folio, entries):
        flags = vma.table.word(at) & ~ADDR_MASK & ~PAGE_PSE
        if order:
            vma.table.set_leaves(at, to + skip, 1 << order, flags, order)
        else:
            vma.table.set_range(at, to + skip, 1, flags)
    del frames.folios.by_head[folio.pfn]
    if folio.mapping is not None:
        folio.mapping.replace(Pfn(folio.pfn), dst)
    folio.pfn = dst
    frames.folios.by_head[dst] = folio
    frames.wipe(src, folio.nbytes)


def _tell(frames: Frames, moved: Sequence[tuple[Pfn, Pfn, int]]) -> None:
    """Tell the trace, once for each order."""
    for order in sorted({order for _, _, order in moved}):
        nbytes = PAGE_SIZE << order
        src = run_length([(PFN_PHYS(pfn), nbytes) for pfn, _, size in moved if size == order])
        dst = run_length([(PFN_PHYS(pfn), nbytes) for _, pfn, size in moved if size == order])
        frames.emit(("MmMigratePages", frames.now(), 0, order, src, dst))
