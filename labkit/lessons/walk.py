"""The questions of notebook 03: from user addresses to phyrs."""

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM, FOLL_PIN, FOLL_WRITE, check_vma_flags
from labkit.kernel.mm.gup.gup import Pages, pin_user_pages, unpin_user_pages
from labkit.kernel.mm.gup.phyrs import UserPhyrs, get_user_phyrs
from labkit.kernel.mm.space.mm_struct import Level
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import LEVELS
from labkit.kernel.mm.space.vma import VM_IO, VM_PFNMAP, VM_SHARED, VMA
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.scenario import parse_bytes
from labkit.task import Task
from labkit.trace.events import BlockBioQueue, BlockRqIssue, GupPin, SysEnter
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, Pfn, UserAddr, human_bytes

ERRORS = ("none", "EFAULT", "EOPNOTSUPP")


class Both(NamedTuple):
    """What both ways make of the same memory."""

    pages: Pages
    phyrs: UserPhyrs


class Steps(NamedTuple):
    """An IO that is pinned in steps: how many, the bios that they make, and the ns until the first request leaves."""

    pins: int
    bios: int
    first_ns: int


def both(task: Task, addr: int, nbytes: int | str) -> Both:
    """Pin `nbytes` of memory that a device is to write to as pages, let go, and find the same as phyrs.

    Raises SyscallError as the two do.
    """
    count = parse_bytes("both", "nbytes", nbytes)
    pages = pin_user_pages(task.mm, UserAddr(addr), -(-(addr % PAGE_SIZE + count) // PAGE_SIZE), write=True)
    unpin_user_pages(task.mm, pages.runs)
    return Both(pages, get_user_phyrs(task.mm, addr, count, write=True))


def steps(trace: Trace) -> Steps:
    """Return how the first IO of `trace` was taken."""
    began, left = trace.of(SysEnter)[0].t, trace.of(BlockRqIssue)[0].t
    return Steps(len(trace.of(GupPin)), len(trace.of(BlockBioQueue)), left - began)


def _levels(walk: tuple[Level, ...]) -> int:
    return len(walk)


def _nr(pages: Pages) -> int:
    return pages.nr


def _said(error: SyscallError) -> str:
    return error.errno_name.lstrip("-")


READS = Question(
    "How many entries are read to translate an address in a folio of 2 MiB?",
    _levels,
    "The entry of the third level, the PMD, is a leaf: it maps 2 MiB at once (PT-1).",
)
PHYRS = Question(
    "2 MiB in folios of 64 KiB, no two of which touch: how many phyrs?",
    lambda found: len(found.phyrs.phyrs),
    "Sixteen entries in a row map neighbours, and are one range: a phyr for each folio (PHYR-12).",
)
ATOMICS = Question(
    "And how many atomic operations does pin_user_pages take for them?",
    lambda found: found.pages.atomics,
    "One for each entry, though sixteen of them are of one folio: nobody batches PTEs (MM-9).",
)
LEAF = Question(
    "The same 2 MiB in one folio, under a PMD leaf: how many atomic operations?",
    lambda found: found.pages.atomics,
    "A leaf is one entry, and its folio is grabbed once for all 512 pages (MM-9).",
)
STORES = Question(
    "And how many page pointers are stored?",
    lambda found: found.pages.stores,
    "The result is an array with a struct page for each 4 KiB, whatever maps them (MM-9).",
)
ORDER = Question(
    "A long-term pin to write to storage that is memory (fsdax), mapped read-only: which errno?",
    _said,
    "What kind of memory it is comes before what one may do with it (check_vma_flags).",
    ERRORS,
)
SHORT = Question(
    "16 pages, the fifth of which is not mapped: how many does pin_user_pages return?",
    _nr,
    "An error after the first page ends the list early; the next call will meet it at its first page (MM-10).",
)
CHUNKS = Question(
    "4 MiB of scattered pages, 16 phyrs at a time: how many bios go to the block layer?",
    lambda taken: taken.bios,
    "Each step makes a bio of its own, here of sixteen scattered pages, 64 KiB (PHYR-11).",
)


def fsdax_readonly() -> VMA:
    """Return a read-only mapping of a file that is memory: for `refusal`."""
    return _vma("fsdax", "r--", VM_SHARED)


def refusal(vma: VMA, *, write: bool, longterm: bool = False) -> SyscallError | None:
    """Return why GUP does not take memory of `vma`, the first reason in the kernel's order; None if it does."""
    flags = FOLL_PIN | (FOLL_WRITE if write else 0) | (FOLL_LONGTERM if longterm else 0)
    return check_vma_flags(vma, vma.start, flags)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on page tables, pins and phyrs without end; the same seed gives the same series."""
    return quiz.endless(seed, (_index, _coalesce, _atomics, _stores, _order, _short))


def _vma(kind: str, prot: str, flags: int) -> VMA:
    ops = SimpleNamespace(kind=kind, flags=flags, fault=None)
    return VMA(0x7F00_0000_0000, 0x7F00_0020_0000, prot, kind, 0, PageTable(512), ops, flags)


def _index(rng: Random) -> Exercise:
    name, shift = rng.choice(LEVELS)
    addr = rng.randrange(1 << 47) & -PAGE_SIZE
    text = f"User address {addr:#x}: which entry of its {name} table is read? (Python may help.)"
    return Exercise(text, addr >> shift & 511, f"Nine bits from bit {shift} on are the index there (PT-1).")


def _coalesce(rng: Random) -> Exercise:
    pfns = [rng.randrange(100, 4000)]
    while len(pfns) < rng.randrange(5, 10):
        pfns.append(pfns[-1] + 1 if rng.random() < 0.6 else rng.randrange(100, 4000))  # noqa: PLR2004 - runs of 2 or 3
    found = PhyrList.coalesce(Phyr(PFN_PHYS(Pfn(pfn)), PAGE_SIZE) for pfn in pfns)
    text = f"The pages of a buffer lie in frames {', '.join(map(str, pfns))}. How many phyrs are they?"
    return Exercise(text, len(found), "A frame joins the one before if it is the next in memory (PHYR-12).")


def _found(rng: Random) -> tuple[str, Both]:
    """Return a buffer in words, and what both ways make of it."""
    folio = rng.choice(("4 KiB", "64 KiB", "2 MiB"))
    pages = rng.choice((64, 512, 1024))
    task = Machine(ram="64 MiB", fragmentation=0).task()
    buf = task.mmap(pages << PAGE_SHIFT, folio)
    task.store(buf, bytes(pages << PAGE_SHIFT))
    return f"{human_bytes(pages << PAGE_SHIFT)} in folios of {folio}", both(task, buf, pages << PAGE_SHIFT)


def _atomics(rng: Random) -> Exercise:
    what, found = _found(rng)
    text = f"pin_user_pages pins {what}. How many atomic operations does it take?"
    return Exercise(text, found.pages.atomics, "One for each entry: a PTE maps 4 KiB, a PMD leaf 2 MiB (MM-9).")


def _stores(rng: Random) -> Exercise:
    what, found = _found(rng)
    text = f"pin_user_pages pins {what}. How many page pointers does it store?"
    return Exercise(text, found.pages.stores, "One for each 4 KiB, whatever maps them (MM-9).")


def _order(rng: Random) -> Exercise:
    kind, name, flags = rng.choice((
        ("anon", "anonymous memory", 0), ("fsdax", "storage that is memory (fsdax)", VM_SHARED),
        ("secretmem", "secret memory", VM_SHARED), ("gpu", "the BAR of a GPU", VM_SHARED | VM_IO | VM_PFNMAP),
    ))  # fmt: skip
    prot, longterm, write = rng.choice(("r--", "rw-")), rng.random() < 0.5, rng.random() < 0.7  # noqa: PLR2004 - often
    error = refusal(_vma(kind, prot, flags), write=write, longterm=longterm)
    text = (
        f"A {'long-term ' if longterm else ''}pin of {name}, mapped {prot}, for a device that "
        f"{'writes to' if write else 'reads'} it: which errno?"
    )
    hint = str(error) if error else "Every test of check_vma_flags lets it pass."
    return Exercise(text, _said(error) if error else "none", hint, ERRORS)


def _short(rng: Random) -> Exercise:
    pages, gone = rng.randrange(8, 33), rng.randrange(1, 8)
    task = Machine(ram="64 MiB", fragmentation=0).task()
    buf = task.mmap(pages << PAGE_SHIFT)
    task.store(buf, bytes(pages << PAGE_SHIFT))
    task.munmap(buf + (gone << PAGE_SHIFT), PAGE_SIZE)
    text = f"A buffer of {pages} pages; page {gone} (the first is page 0) is unmapped. What does pin_user_pages return?"
    got = pin_user_pages(task.mm, buf, pages, write=True)
    return Exercise(text, got.nr, "The list ends with the last page that could be had (MM-10).")
