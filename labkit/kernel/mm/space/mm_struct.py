"""The memory of one task: its mappings over the machine's frames."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.frames.folios import Folios
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.kernel.mm.space.pte import ADDR_MASK, LEVELS
from labkit.kernel.mm.space.vma import VM_HUGETLB, VMA, VmaTree
from labkit.scatter.payload import Ranges
from labkit.trace.translations import Run
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PUD_ORDER


class Level(NamedTuple):
    """One step of a walk: which level, the index there, and the entry that was found, 0 for nothing."""

    name: str
    idx: int
    entry: int


class Mm:
    """The memory of one task: its address space over the machine's frames."""

    def __init__(self, frames: Frames, task: int = 0) -> None:
        """Begin empty; `task` counts from 0 the tasks of the machine."""
        self.frames, self.task = frames, task
        self.space = VmaTree(task)
        self.has_pinned = False
        """Whether anything was ever pinned here (MMF_HAS_PINNED, never cleared: MM-6)."""

    @property
    def folios(self) -> Folios:
        """The folios of the machine."""
        return self.frames.folios

    @property
    def ledger(self) -> PinLedger:
        """The pins of the machine."""
        return self.frames.ledger

    def emit(self, name: str, *fields: object, io: int = 0) -> None:
        """Tell the trace of a change of memory."""
        self.frames.emit((name, self.frames.now(), io, *fields))

    def map_runs(self, vma: VMA, at: int, runs: Ranges, order: int, flags: int) -> None:
        """Set the entries for `runs` from page `at` on: leaves where folios are of 2 MiB or more and lie so."""
        leaf = PUD_ORDER if order == PUD_ORDER else PMD_ORDER if order >= PMD_ORDER else 0
        if not leaf or (vma.start + at * PAGE_SIZE) % (PAGE_SIZE << PMD_ORDER):
            vma.table.set_runs(at, runs, flags)
            return
        for addr, nbytes in runs:
            vma.table.set_leaves(at, addr, nbytes >> PAGE_SHIFT, flags, leaf)
            at += nbytes >> PAGE_SHIFT

    def zap(self, vma: VMA, first: int, last: int, *, tell: bool = True) -> None:
        """Unmap what is mapped in [first, last) of `vma`, and give back what nobody counts on any more.

        `tell` the trace, unless a record that was emitted before says so already.
        """
        table = vma.table
        self.split_across(vma, first)
        self.split_across(vma, last)
        gone = [(table.ranges(lo, hi), order or 0) for lo, hi, order in table.present(first, last)]
        table.clear(first, last)
        if tell and gone:
            self.emit("ZapPtes", vma.start + first * PAGE_SIZE, (last - first) << PAGE_SHIFT, self.task)
        for runs, order in gone:
            self.frames.unmap([(group, pages >> order) for group, pages in self.folios.groups(runs)])

    def unmap(self, vma: VMA) -> None:
        """Unmap all of `vma`, and take it out; what is behind it learns of that (vm_operations_struct.close)."""
        self.emit("Munmap", vma.start, vma.end - vma.start, self.task)
        self.zap(vma, 0, vma.pages, tell=False)
        self.space.remove(vma)
        if (unmapped := getattr(vma.ops, "unmapped", None)) is not None:
            unmapped()

    def split_across(self, vma: VMA, edge: int) -> None:
        """Make the leaf entry that lies across `edge`, between two pages, PTEs, if one does."""
        leaf = vma.table.leaf(edge) if 0 < edge < vma.pages else None
        if leaf is not None and (edge - leaf.first) % (1 << leaf.order):
            self.split_leaf(vma, edge)

    def split_leaf(self, vma: VMA, at: int) -> None:
        """Make the leaf entry that maps page `at` PTEs, if one does (__split_huge_pmd)."""
        leaf = vma.table.leaf(at)
        if leaf is None:
            return
        if vma.flags & VM_HUGETLB:
            rule = "lies inside a hugetlb page"
            raise SyscallError("mm", f"addr={vma.start + at * PAGE_SIZE:#x}", rule, errno.EINVAL)
        lo, hi = vma.table.split_leaf(at)
        addr = vma.table.word(lo) & ADDR_MASK
        for group, _ in self.folios.groups(((addr, (hi - lo) << PAGE_SHIFT),)):
            group.refcount += (hi - lo) - 1
            group.mapcount += (hi - lo) - 1
        self.emit("SplitHugePmd", vma.start + lo * PAGE_SIZE, leaf.order, self.task)

    def walk(self, addr: int) -> tuple[Level, ...]:
        """Return what the hardware reads to translate `addr`: an entry at each level, down to the leaf (PT-1).

        The upper entries are shown as present where anything is mapped below them: the lab keeps leaves alone.
        """
        vma = self.space.find_vma(addr)
        at = vma.page(addr) if vma else 0
        leaf, word = (vma.table.leaf(at), vma.table.word(at)) if vma else (None, 0)
        depth = 4 if leaf is None else 3 if leaf.order == PMD_ORDER else 2
        out: list[Level] = []
        for i, (name, shift) in enumerate(LEVELS[:depth], 1):
            out.append(Level(name, addr >> shift & 0x1FF, word if i == depth else 0x67 if word else 0))
            if not word:
                break
        return tuple(out)

    def translations(self) -> Iterator[Run]:
        """Yield every run of translations, in the order of user addresses."""
        for vma in self.space.vmas:
            for first, last, order in vma.table.present(0, vma.pages):
                va = vma.start + first * PAGE_SIZE
                for pa, nbytes in vma.table.ranges(first, last):
                    yield Run(va, pa, nbytes, order or 0)
                    va += nbytes
