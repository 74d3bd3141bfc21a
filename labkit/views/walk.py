"""A user range becomes a walk: an entry of the page tables at a time, then frames, runs of frames, and phyrs.

What is counted: `today` is pin_user_pages_fast, which takes references with one locked operation for each entry,
looks at the struct page of each page on the way into a bio_vec, and gives up with -EFAULT where there is none (PT-3).
`phyr` is one ledger entry for each range. Bytes: a bio_vec for each entry today, an address and a length for each phyr,
16 both. Pages of one folio that PTEs map share a bio_vec, which entries do not tell: so today's bytes are the most.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PUD_ORDER, human_bytes
from labkit.views.steps import Step
from labkit.views.words import address, capital, count

LEVELS = (("PGD", 39), ("PUD", 30), ("PMD", 21), ("PTE", 12))
"""The four levels, and how far an address is shifted to be its index there (PT-1)."""
BITS = (("P", 0, "present"), ("RW", 1, "writable"), ("US", 2, "user"), ("A", 5, "accessed"), ("D", 6, "dirty"),
        ("PSE", 7, "a leaf above the PTEs"), ("SPECIAL", 9, "no struct page"))  # fmt: skip
"""Bits of an entry that are shown: name, number, what it says (PT-2)."""
MOST_STEPS = 512
"""Entries that are walked through, one table of them; of a longer range the rest is counted and not drawn."""

_DESCRIPTOR = 16
"""Bytes of a bio_vec, and of a phyr."""
_SPECIAL, _PSE, _PRESENT = 1 << 9, 1 << 7, 1
_FUNCTION = {0: "gup_fast_pte_range", PMD_ORDER: "gup_fast_pmd_leaf", PUD_ORDER: "gup_fast_pud_leaf"}

Row = tuple[int, ...]
"""(user address, physical address, bytes, ...), as in Snapshot.pages; what follows is passed over."""
Level = tuple[str, int, int]
"""(name of the level, index, entry)."""


class Entry(NamedTuple):
    """A leaf entry that the walk visits, and the part of the range that it translates."""

    va: int
    pa: int
    nbytes: int
    order: int
    indexes: tuple[int, ...]
    words: tuple[int, ...]
    """The entry at each level down to the leaf; 0 where the bits are not known."""
    phyr: int

    @property
    def special(self) -> bool:
        """Whether no struct page describes what it maps."""
        return bool(self.words[-1] & _SPECIAL)


class Cost(NamedTuple):
    """What the walk has cost so far. `stopped`: the page at which today's way gives up, -1 as long as it does not."""

    entries: int = 0
    atomics_today: int = 0
    atomics_phyr: int = 0
    struct_pages: int = 0
    bytes_today: int = 0
    bytes_phyr: int = 0
    stopped: int = -1


@dataclass(frozen=True, slots=True)
class Walk:
    """The walk: its entries, the cost after each, the phyrs (physical address, bytes), a step for each entry."""

    entries: list[Entry]
    costs: list[Cost]
    phyrs: list[tuple[int, int]]
    steps: list[Step]
    whole: tuple[int, int, int]
    """Pages, physical ranges and bytes of the whole of the range, drawn or not."""


def walk(rows: Iterable[Row], levels: Callable[[int], Sequence[Level]] | None = None) -> Walk:
    """Return the walk through `rows`, in the order of user addresses.

    `levels` gives the entries on the way to an address, as Mm.walk does; without it every page has a PTE of its own,
    of which nothing but the frame is known.
    """
    known = [(row[0], row[1], row[2]) for row in rows]
    entries = list(_entries(known, levels))
    costs: list[Cost] = []
    for at, entry in enumerate(entries):
        last = entries[at - 1].phyr if at else -1
        costs.append(_add(costs[-1] if costs else Cost(), entry, at, new=entry.phyr != last))
    phyrs = _joined((entry.pa, entry.nbytes) for entry in entries)
    steps = [_step(entries, at) for at in range(len(entries))]
    total = sum(n for _, _, n in known)
    whole = (-(-total // PAGE_SIZE), len(_joined((pa, n) for _, pa, n in known)), total)
    return Walk(entries, costs, phyrs, steps, whole)


def _entries(rows: Iterable[Row], levels: Callable[[int], Sequence[Level]] | None) -> Iterator[Entry]:
    phyr, end, drawn = -1, -1, 0
    for va, pa, nbytes in rows:
        at = va
        while at < va + nbytes:
            here = pa + at - va
            found = tuple(levels(at)) if levels else _guess(at, here)
            order = {4: 0, 3: PMD_ORDER, 2: PUD_ORDER}.get(len(found), 0)
            stop = min(va + nbytes, (at >> PAGE_SHIFT + order) + 1 << PAGE_SHIFT + order)
            phyr += here != end
            end = here + stop - at
            yield Entry(at, here, stop - at, order, _indexes(at), tuple(level[2] for level in found), phyr)
            at, drawn = stop, drawn + 1
            if drawn == MOST_STEPS:
                return


def _guess(va: int, pa: int) -> tuple[Level, ...]:
    words = (0, 0, 0, pa & ~(PAGE_SIZE - 1) | _PRESENT)
    return tuple((name, va >> shift & 511, word) for (name, shift), word in zip(LEVELS, words, strict=True))


def _indexes(va: int) -> tuple[int, ...]:
    return tuple(va >> shift & 511 for _, shift in LEVELS)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `ranges` with those joined that touch their predecessor."""
    out: list[tuple[int, int]] = []
    for pa, nbytes in ranges:
        if out and sum(out[-1]) == pa:
            out[-1] = (out[-1][0], out[-1][1] + nbytes)
        else:
            out.append((pa, nbytes))
    return out


def _add(cost: Cost, entry: Entry, at: int, *, new: bool) -> Cost:
    """Return the cost after `entry`; `new`: it begins a phyr."""
    cost = cost._replace(
        entries=cost.entries + 1,
        atomics_phyr=cost.atomics_phyr + new,
        bytes_phyr=cost.bytes_phyr + _DESCRIPTOR * new,
        stopped=at if entry.special and cost.stopped < 0 else cost.stopped,
    )
    if cost.stopped >= 0:
        return cost
    pages = -(-entry.nbytes // PAGE_SIZE)
    return cost._replace(
        atomics_today=cost.atomics_today + 1,
        struct_pages=cost.struct_pages + pages,
        bytes_today=cost.bytes_today + _DESCRIPTOR,
    )


def _step(entries: Sequence[Entry], at: int) -> Step:
    entry, page = entries[at], sum(-(-e.nbytes // PAGE_SIZE) for e in entries[:at])
    names = [f"{name}[{index}]" for (name, _), index in zip(LEVELS, entry.indexes, strict=True)][: len(entry.words)]
    leaf = f"maps {human_bytes(PAGE_SIZE << entry.order)} at once" if entry.order else "maps a page"
    way = f"{', '.join(names)} {leaf}: frame {entry.pa >> PAGE_SHIFT:#x}"
    grown = sum(e.nbytes for e in entries[: at + 1] if e.phyr == entry.phyr)
    if at and entries[at - 1].phyr == entry.phyr:
        tail = f"the next one in a row, and phyr {entry.phyr} grows to {human_bytes(grown)}"
    else:
        tail = f"{'no neighbour of the last, so ' if at else ''}phyr {entry.phyr} begins"
    text = f"{way}, {tail}."
    if entry.special:
        text += " It is SPECIAL, without a struct page: today's way ends with -EFAULT, a phyr takes the address."
    origin = "proposed" if entry.special else "upstream"
    return Step(address(entry.va), f"page {page:,}", text, _FUNCTION[entry.order], origin)


def headline(found: Walk) -> tuple[str, str]:
    """Return a headline and the sentence under it."""
    pages, ranges, total = found.whole
    if not pages:
        return "Nothing is mapped here", "No page table entry translates any of these addresses."
    head = f"{capital(count(pages, 'page'))} {'becomes' if pages == 1 else 'become'} {count(ranges, 'phyr')}"
    entries = count(len(found.entries), "page table entry", "page table entries")
    under = f"{human_bytes(total)} of user memory; {entries} walked, and neighbours in memory told of together"
    drawn = sum(entry.nbytes for entry in found.entries)
    cut = f". The first {human_bytes(drawn)} are walked through here" if drawn < total else ""
    return head, f"{under}{cut}."
