"""Invariants of memory: counts are what maps and pins say, frames are free or used, rights are nobody else's."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_RW, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_IO, VM_MIXEDMAP, VM_PFNMAP
from labkit.machine.invariants.census import Broken, Census, Entries, Ints, frames_of, take_census, take_entries
from labkit.trace.page_flags import PG_anon, PG_anon_exclusive
from labkit.trace.snapshot import GUP_PIN_COUNTING_BIAS, PinState
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_NO_PAGES = VM_PFNMAP | VM_IO | VM_MIXEDMAP
COUNTED = frozenset({"page", "folio"})
"""Policies whose pins stand in the counts of folios (MM-13, MM-14)."""


class Counts(NamedTuple):
    """What the counts of each folio of a census are to be."""

    mapcount: Ints
    pincount: Ints
    refcount: Ints


def check_memory(frames: Frames, mms: Sequence[Mm]) -> Iterator[Broken]:
    """Yield what is broken of the memory of `mms`, worked out from page tables, files and the ledger alone."""
    census, entries = take_census(frames.folios), tuple(take_entries(mms))
    pins = tuple(frames.ledger.held.values())
    yield from check_counts(census, entries, pins)
    yield from check_frames(frames, census, entries)
    yield from check_rights(census, entries)
    yield from check_exclusive(census, entries, pins)
    yield from check_files(census, entries)
    yield from check_held(frames, census, pins)


def check_counts(census: Census, entries: Iterable[Entries], pins: Iterable[PinState]) -> Iterator[Broken]:
    """Invariant 2: yield folios whose mapcount, pincount or refcount is not what maps, pins and files make it."""
    want = recount(census, entries, pins)
    for name, found, expected in (
        ("mapcount", census.mapcount, want.mapcount),
        ("pincount", census.pincount, want.pincount),
        ("refcount", census.refcount, want.refcount),
    ):
        for i in np.flatnonzero(found != expected)[:1]:
            text = f"folio {census.head[i]:#x} has {name} {found[i]}, and {expected[i]} by what maps, pins and keeps it"
            yield Broken("counts", text, int(census.head[i]) << PAGE_SHIFT)


def recount(census: Census, entries: Iterable[Entries], pins: Iterable[PinState]) -> Counts:
    """Return the counts that the folios of `census` have if `entries`, `pins` and files are all that counts."""
    rows = len(census.head)
    mapcount, pinned = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for part in entries:
        at = census.find(part.pfn)
        np.add.at(mapcount, at[at >= 0], 1)
    for pin in pins:
        if pin.policy in COUNTED:
            at = census.find(frames_of(pin.ranges))
            at = at[at >= 0]
            if pin.policy == "folio":
                at = at[np.concatenate(([True], np.diff(at) != 0))[: len(at)]]
            np.add.at(pinned, at, 1)
    large = census.order > 0
    refcount = mapcount + census.kept + pinned * np.where(large, 1, GUP_PIN_COUNTING_BIAS)
    return Counts(mapcount, np.where(large, pinned, 0), refcount)


def check_frames(frames: Frames, census: Census, entries: Iterable[Entries]) -> Iterator[Broken]:
    """Yield frames that are free and used at once, that two folios have, or that are mapped and of no folio."""
    ends = census.head + census.frames
    for i in np.flatnonzero(ends[:-1] > census.head[1:])[:1]:
        text = f"folio {census.head[i + 1]:#x} begins inside folio {census.head[i]:#x}"
        yield Broken("frames", text, int(census.head[i + 1]) << PAGE_SHIFT)
    for pfn, count in zip(census.head.tolist(), census.frames.tolist(), strict=True):
        if is_free(frames, pfn, count):
            yield Broken("frames", f"folio {pfn:#x} has a frame that is free", pfn << PAGE_SHIFT)
            break
    for part in entries:
        if part.vma.flags & _NO_PAGES:
            continue
        lost = (census.find(part.pfn) < 0) & ((part.word & np.uint64(PAGE_SPECIAL)) == 0)
        for i in np.flatnonzero(lost)[:1]:
            user = part.vma.start + int(part.page[i]) * PAGE_SIZE
            text = f"user address {user:#x} of mm {part.mm} maps frame {part.pfn[i]:#x}, which is of no folio"
            yield Broken("frames", text, int(part.pfn[i]) << PAGE_SHIFT)


def check_files(census: Census, entries: Iterable[Entries]) -> Iterator[Broken]:
    """Yield frames that a file has for its pages (i_pages) and that are of no folio which a file has."""
    for file in {id(part.vma.ops): part.vma.ops for part in entries if hasattr(part.vma.ops, "heads")}.values():
        heads = getattr(file, "heads")  # noqa: B009 - of AddressSpace alone, and not of every VmOps
        at = census.find(heads)
        for i in np.flatnonzero((heads > 0) & ((at < 0) | (census.kept[at] == 0)))[:1]:
            text = f"{getattr(file, 'name', file.kind)} has frame {heads[i]:#x}, which is of no folio of a file"
            yield Broken("file", text, int(heads[i]) << PAGE_SHIFT)


def check_held(frames: Frames, census: Census, pins: Iterable[PinState]) -> Iterator[Broken]:
    """Yield pins of memory that is free again, under a policy that keeps it from going away."""
    for pin in (pin for pin in pins if "migration" in POLICIES[pin.policy].blocks):
        pfns = frames_of(pin.ranges)
        free = (pfn for pfn in pfns[census.find(pfns) < 0].tolist() if is_free(frames, pfn, 1))
        for pfn in islice(free, 1):
            text = f"token {pin.token} holds frame {pfn:#x} ({pin.policy}), which is free"
            yield Broken("pins", text, pfn << PAGE_SHIFT)


def is_free(frames: Frames, pfn: int, count: int) -> bool:
    """Return whether one of `count` frames from `pfn` on is free; a frame of no zone is not."""
    return any(
        zone.is_free(max(pfn, zone.start), min(pfn + count, zone.end) - max(pfn, zone.start))
        for zone in frames.buddy.zones
        if pfn < zone.end and zone.start < pfn + count
    )


def check_rights(census: Census, entries: Iterable[Entries]) -> Iterator[Broken]:
    """Yield entries that may be written where the mapping may not, or where somebody else would see it."""
    for part in entries:
        writable = (part.word & np.uint64(PAGE_RW)) != 0
        if not writable.any():
            continue
        if "w" not in part.vma.prot:
            yield _right(part, int(writable.argmax()), f"may be written, in {part.vma.prot} memory")
        elif part.vma.cow and not part.vma.flags & _NO_PAGES:
            at = census.find(part.pfn)
            alone = (at >= 0) & ((census.flags[at] & PG_anon_exclusive) != 0) & (census.kept[at] == 0)
            for i in np.flatnonzero(writable & ~alone)[:1]:
                yield _right(part, int(i), "may be written, and is not this mapping's alone")


def check_exclusive(census: Census, entries: Iterable[Entries], pins: Iterable[PinState]) -> Iterator[Broken]:
    """Invariant 10: yield anonymous folios that two address spaces map though one has them alone.

    And those that are pinned, under a policy that fork looks at, and not exclusive: a child has got hold of what a
    device writes to.
    """
    owner = np.full(len(census.head), -1, np.int64)
    exclusive = (census.flags & PG_anon_exclusive) != 0
    for part in entries:
        at = census.find(part.pfn)
        at = at[at >= 0]
        other = at[exclusive[at] & (owner[at] >= 0) & (owner[at] != part.mm)]
        for i in other[:1]:
            text = f"folio {census.head[i]:#x} is exclusive to mm {owner[i]}, and mm {part.mm} maps it too"
            yield Broken("exclusive", text, int(census.head[i]) << PAGE_SHIFT)
        owner[at] = part.mm
    for pin in pins:
        if "fork" not in POLICIES[pin.policy].blocks:
            continue
        at = census.find(frames_of(pin.ranges))
        at = at[at >= 0]
        for i in at[(census.flags[at] & (PG_anon | PG_anon_exclusive)) == PG_anon][:1]:
            text = f"folio {census.head[i]:#x} is pinned by token {pin.token} and not exclusive (MM-18)"
            yield Broken("exclusive", text, int(census.head[i]) << PAGE_SHIFT)


def _right(part: Entries, i: int, rule: str) -> Broken:
    user = part.vma.start + int(part.page[i]) * PAGE_SIZE
    text = f"user address {user:#x} of mm {part.mm} {rule}"
    return Broken("rights", text, int(part.pfn[i]) << PAGE_SHIFT)
