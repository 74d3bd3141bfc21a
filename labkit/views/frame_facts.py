"""What a layout says of a buffer's memory, by counting: runs of frames, how long they are, folios, vectors of bios."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, human_bytes
from labkit.views.words import capital, count

NOT_THERE = -1
"""The PFN of a page that is not there, or that no struct page stands behind."""


class Run(NamedTuple):
    """Pages that go on in user memory and in physical memory alike; `pfn` is NOT_THERE where there is no frame."""

    va: int
    pfn: int
    pages: int

    @property
    def nbytes(self) -> int:
        """How many bytes it is."""
        return self.pages << PAGE_SHIFT

    @property
    def pa(self) -> int:
        """The physical address of its first byte; negative where there is none."""
        return self.pfn << PAGE_SHIFT


class Folio(NamedTuple):
    """A large folio: its first frame, its pages, what is known of it."""

    pfn: int
    pages: int
    words: str = ""


class Bio(NamedTuple):
    """One bio: where on the device it goes, and its vectors (physical address, bytes)."""

    sector: int
    vecs: tuple[tuple[int, int], ...]

    @property
    def nbytes(self) -> int:
        """How many bytes it moves."""
        return sum(n for _, n in self.vecs)


def runs(rows: Iterable[Sequence[int]]) -> list[Run]:
    """Return the runs of `rows` (page address, first PFN or -1, pages), joined where both addresses go on."""
    out: list[Run] = []
    for va, pfn, pages in sorted((int(row[0]), int(row[1]), int(row[2])) for row in rows):
        last = out[-1] if out else None
        if last and last.va + last.nbytes == va and _goes_on(last, pfn):
            out[-1] = last._replace(pages=last.pages + pages)
        elif pages > 0:
            out.append(Run(va, max(pfn, NOT_THERE), pages))
    return out


def _goes_on(last: Run, pfn: int) -> bool:
    return pfn < 0 if last.pfn < 0 else pfn == last.pfn + last.pages


def folios(rows: Iterable[Sequence[object]]) -> list[Folio]:
    """Return the folios of `rows` (head PFN, pages) or (head PFN, pages, flags: numbers or names), in order."""
    out = []
    for row in rows:
        flags = row[2] if len(row) > 2 else ()  # noqa: PLR2004 - a third column
        names = [str(flag) for flag in flags] if isinstance(flags, list | tuple) else []
        out.append(Folio(int(str(row[0])), int(str(row[1])), ", ".join(name for name in names if not name.isdigit())))
    return sorted(out)


def bios(rows: Iterable[Sequence[object]]) -> list[Bio]:
    """Return the bios of `rows` [sector, [[physical address or None, bytes], ...]], without what has no address."""
    out = []
    for sector, vecs in rows:
        known = tuple((int(addr), int(n)) for addr, n in vecs if addr is not None)  # type: ignore[attr-defined]
        out.append(Bio(int(str(sector)), known))
    return out


def there(found: Iterable[Run]) -> list[Run]:
    """Return the runs that have frames."""
    return [run for run in found if run.pfn >= 0]


def folio_of(pfn: int, large: Sequence[Folio]) -> Folio | None:
    """Return the large folio that frame `pfn` is of; None for a page of its own. `large` is in order."""
    i = bisect_right(large, pfn, key=lambda folio: folio.pfn) - 1
    return large[i] if i >= 0 and pfn < large[i].pfn + large[i].pages else None


def touched(found: Iterable[Run], large: Sequence[Folio]) -> list[tuple[Folio, int]]:
    """Return the large folios that runs touch, and how many of the user's pages lie in each."""
    inside: Counter[Folio] = Counter()
    for run in there(found):
        at, end = run.pfn, run.pfn + run.pages
        while at < end:
            folio = folio_of(at, large)
            i = bisect_right(large, at, key=lambda each: each.pfn)
            following = large[i].pfn if i < len(large) else end
            upto = min(end, folio.pfn + folio.pages if folio else following)
            if folio:
                inside[folio] += upto - at
            at = upto
    return sorted(inside.items())


class Takers(NamedTuple):
    """Which bio took what: (first byte, end, number of the bio) of every vector, in order."""

    vecs: list[tuple[int, int, int]]
    longest: int

    @classmethod
    def of(cls, queued: Sequence[Bio]) -> Self:
        """Sort the vectors of `queued`."""
        vecs = sorted((addr, addr + n, number) for number, bio in enumerate(queued) for addr, n in bio.vecs)
        return cls(vecs, max((end - addr for addr, end, _ in vecs), default=0))

    def of_run(self, run: Run) -> set[int]:
        """Return the numbers of the bios that took some of `run`."""
        found, end = set[int](), run.pa + run.nbytes
        i = bisect_left(self.vecs, (end, 0, 0)) - 1
        while i >= 0 and self.vecs[i][0] > run.pa - self.longest:
            if self.vecs[i][1] > run.pa:
                found.add(self.vecs[i][2])
            i -= 1
        return found


class Bucket(NamedTuple):
    """Runs of about one length, from `lo` to `hi` pages: how many runs, and how many pages they have."""

    lo: int
    hi: int
    runs: int
    pages: int

    @property
    def name(self) -> str:
        """The lengths in words."""
        return "1" if self.lo == 1 else f"{self.lo}+" if self.lo >> PMD_ORDER else f"{self.lo}-{self.hi}"


def buckets(found: Iterable[Run]) -> list[Bucket]:
    """Return the histogram of run lengths: a bucket for each power of two, up to 512 pages, and one for all above."""
    lengths = [run.pages for run in there(found)]
    if not lengths:
        return []
    out = []
    for power in range(PMD_ORDER + 1):
        lo, hi = 1 << power, (2 << power) - 1 if power < PMD_ORDER else max(*lengths, 1 << PMD_ORDER)
        mine = [n for n in lengths if lo <= n <= hi]
        out.append(Bucket(lo, hi, len(mine), sum(mine)))
    return out


def sizes(found: Sequence[Run], large: Sequence[Folio]) -> list[tuple[int, int]]:
    """Return (bytes of a folio, pages of the buffer that lie in such folios), the smallest first."""
    pages: Counter[int] = Counter()
    for folio, inside in touched(found, large):
        pages[folio.pages << PAGE_SHIFT] += inside
    single = sum(run.pages for run in there(found)) - sum(pages.values())
    return sorted([*pages.items(), *([(PAGE_SIZE, single)] if single > 0 else [])])


def headline(found: Sequence[Run], large: Sequence[Folio], queued: Sequence[Bio] = ()) -> tuple[str, str]:
    """Return a headline of the memory, and the sentence under it."""
    real = there(found)
    pages, lost = sum(run.pages for run in real), sum(run.pages for run in found if run.pfn < 0)
    if not real:
        what = f"{count(lost, 'page')} without a frame" if lost else "No memory"
        return capital(what), "Nothing of it can be pinned: there is no struct page to take a pin on."
    head = f"{capital(count(pages, 'page'))} in {count(len(real), 'run')}"
    parts = [f"The longest run has {count(max(run.pages for run in real), 'page')}"]
    kinds = sizes(found, large)
    parts.append(f"folios of {', '.join(human_bytes(nbytes) for nbytes, _ in kinds)}")
    if lost:
        parts.append(f"{count(lost, 'page')} not there")
    if queued:
        vecs = sum(len(bio.vecs) for bio in queued)
        parts.append(f"{count(len(queued), 'bio')} with {count(vecs, 'vector')}")
    return head, "; ".join(parts) + "."
