"""User memory that lies where somebody saw it lie: the very addresses, frames and folios of a record."""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from labkit.errors import BadInput
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.mm.backing.filemap import AddressSpace, set_ptes
from labkit.kernel.mm.fault.anon import ANON_OPS
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.folio import map_refs
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.contig_range import alloc_contig_range
from labkit.kernel.mm.page_alloc.memblock import PCI_HOLE
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED, PAGE_DIRTY
from labkit.kernel.mm.space.vma import VM_SHARED, VMA
from labkit.machine.build.board import Board, Built
from labkit.machine.build.loop import as_loop
from labkit.machine.pieces import Piece, Spans, cut_at_folios, in_a_row, joined, of_several, stretches
from labkit.scatter.payload import Range
from labkit.trace.page_flags import ANON, PG_uptodate
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PFN_PHYS, PMD_ORDER, Pfn

_BLOCK = PAGE_SIZE << MAX_PAGE_ORDER
_PCI_END = 4 << 30
_DIRTY = PAGE_ACCESSED | PAGE_DIRTY


@dataclass(slots=True)
class Placed:
    """What a machine has to have just so. The default is nothing, for a machine that places memory as it likes.

    `rows` (user address, first PFN, pages) are mapped from the beginning, `late` ones are brought by a fault; `folios`
    (first PFN, order) are the large ones among their frames; `zero` is the PFN of the zero page. `ready` (user address,
    bytes) is mapped wherever its frames lie, `absent` is not. `limits` are those of the queue; `loop`: the device is
    a loop device of that name, whose file wants memory `aligned` to that mask.
    """

    rows: Spans = ()
    late: Spans = ()
    folios: tuple[tuple[int, int], ...] = ()
    zero: int | None = None
    ready: tuple[Range, ...] = ()
    absent: tuple[Range, ...] = ()
    limits: QueueLimits | None = None
    loop: str = ""
    aligned: int = 0
    waiting: int = field(default=0, init=False)
    """Frames that are kept for faults to come."""

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Frames [first, past the end) that are spoken for, by address, joined."""
        every = [(pfn, pfn + n) for _, pfn, n in (*self.rows, *self.late)]
        every += [(pfn, pfn + (1 << order)) for pfn, order in self.folios]
        every += [(self.zero, self.zero + 1)] if self.zero is not None else []
        return joined(every)

    @property
    def phys_end(self) -> int:
        """The byte past the last of them, 0 for none."""
        return max((end for _, end in self.spans), default=0) << PAGE_SHIFT

    @property
    def pci_hole(self) -> int:
        """Where the hole below 4 GiB may begin: behind the last frame that was RAM there (BUD-1)."""
        below = [end << PAGE_SHIFT for first, end in self.spans if first << PAGE_SHIFT < _PCI_END]
        return min(_PCI_END, max(PCI_HOLE, -(-max(below, default=0) // _BLOCK) * _BLOCK))

    def reserve(self, buddy: Buddy) -> None:
        """Take all frames before anybody else can. Raises BadInput EINVAL for frames that are no RAM here."""
        edges, self.waiting = sorted({zone.start for zone in buddy.zones}), 0
        for first, end in self.spans:
            inside = [first, *(edge for edge in edges if first < edge < end), end]
            for lo, hi in pairwise(inside):
                alloc_contig_range(buddy, Pfn(lo), hi - lo)
            self.waiting += end - first

    def device(self, board: Board, built: Built) -> Built:
        """Return the device of a machine, `built`, as it is to be."""
        built = as_loop(board, built, self.loop, self.aligned) if self.loop else built
        return built._replace(limits=self.limits or built.limits)

    def map(self, mm: Mm) -> None:
        """Map everything into `mm`, at the very addresses. Raises SyscallError EEXIST where something is mapped."""
        frames = mm.frames
        if self.zero is not None and frames.folios.zero is None:
            frames.folios.zero, self.waiting = PFN_PHYS(Pfn(self.zero)), self.waiting - 1
        pieces = cut_at_folios(self.rows, self.folios)
        shared = of_several(pieces, self.absent)
        self._map_file(mm, [piece for piece in pieces if piece.folio in shared])
        self._map_anon(mm, [piece for piece in pieces if piece.folio not in shared])

    def _map_anon(self, mm: Mm, pieces: Sequence[Piece]) -> None:
        """Map `pieces` as anonymous memory: whole folios, of which nobody saw more than was of use to the IO."""
        large = {piece.folio: piece.base for piece in pieces if piece.order}
        small = [piece for piece in pieces if not piece.order]
        wholes = [(at, at + (PAGE_SIZE << folio[1])) for folio, at in large.items()]
        wholes += [(piece.addr, piece.addr + piece.pages * PAGE_SIZE) for piece in small]
        late = [(va, va + n * PAGE_SIZE) for va, _, n in self.late]
        ready = [(va & -PAGE_SIZE, -(-(va + n) // PAGE_SIZE) * PAGE_SIZE) for va, n in self.ready]
        ops = Remembered(self)
        vmas = [
            mm.space.find_vma(do_mmap(mm, end - start, "rw-", "anon", ops=ops, addr=start))
            for start, end in stretches((*wholes, *late, *ready), self.absent, mm)
        ]
        for (pfn, order), at in large.items():
            self.bring(mm, _holding(vmas, at), at, ((pfn << PAGE_SHIFT, PAGE_SIZE << order),), order)
        for addr, runs in in_a_row(small):
            self.bring(mm, _holding(vmas, addr), addr, runs, 0)

    def bring(self, mm: Mm, vma: VMA, addr: int, runs: tuple[Range, ...], order: int) -> None:
        """Map whole folios of `order`, which were kept, from user address `addr` on."""
        leaf = order >= PMD_ORDER and not addr % (PAGE_SIZE << PMD_ORDER)
        refs = map_refs(order) if leaf else 1 << order
        at, groups = vma.page(addr), mm.folios.add_runs(runs, order, 0, ANON)
        mm.map_runs(vma, at, runs, order if leaf else 0, vma.pte_flags | _DIRTY)
        mm.frames.map((group, refs) for group in groups)
        mm.emit("MmPageAlloc", addr, order, refs, runs, mm.task)
        self.waiting -= sum(n for _, n in runs) >> PAGE_SHIFT

    def _map_file(self, mm: Mm, pieces: Sequence[Piece]) -> None:
        """Map `pieces` of folios that lie at several addresses: a memfd, mapped piece by piece."""
        file = None
        for piece in pieces:
            if file is None:
                file = Memfd(mm.frames, sorted({piece.folio for piece in pieces}))
                self.waiting -= file.nrpages
            pgoff = file.index_of(piece.folio) + piece.pfn - piece.pfn_of_folio
            start = do_mmap(
                mm, piece.pages * PAGE_SIZE, "rw-", file.name, ops=file, flags=VM_SHARED, pgoff=pgoff, addr=piece.addr
            )
            file.i_mmap[mm.task] = mm
            vma = _holding([mm.space.find_vma(start)], start)
            whole = piece.order == PMD_ORDER and piece.pages == 1 << PMD_ORDER and not start % (PAGE_SIZE << PMD_ORDER)
            run = (piece.pfn << PAGE_SHIFT, piece.pages * PAGE_SIZE)
            set_ptes(mm, vma, 0, (run,), vma.pte_flags | _DIRTY, PMD_ORDER if whole else 0)
        if file is not None:
            file.close()  # it goes with the last mapping of it


class Remembered:
    """What is behind anonymous memory of a record: a fault brings the page that was seen to come, else any."""

    kind, flags = "anon", 0

    def __init__(self, placed: Placed) -> None:
        """Bring what `placed` has kept for later."""
        self._placed = placed
        self._late = {va + at * PAGE_SIZE: pfn + at for va, pfn, n in placed.late for at in range(n)}

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:
        """Map pages [first, last); return how many folios came. Errors: Anon.fault."""
        came = 0
        for at in range(first, last):
            addr = vma.start + at * PAGE_SIZE
            pfn = self._late.pop(addr, None)
            if pfn is None:
                came += ANON_OPS.fault(mm, vma, at, at + 1, write=write)
            else:
                self._placed.bring(mm, vma, addr, ((pfn << PAGE_SHIFT, PAGE_SIZE),), 0)
                came += 1
        return came


class Memfd(AddressSpace):
    """A file in memory, of folios that are somewhere already."""

    def __init__(self, frames: Frames, folios: Sequence[tuple[int, int]]) -> None:
        """Make `folios` (first PFN, order) its pages, in this order, each at a multiple of its size."""
        at, places = 0, dict[tuple[int, int], int]()
        for folio in folios:
            at = -(-at >> folio[1]) << folio[1]
            places[folio] = at
            at += 1 << folio[1]
        super().__init__(frames, "memfd", at * PAGE_SIZE, kind="memfd")
        self._places = places
        for (pfn, order), index in places.items():
            made = frames.folios.add(pfn, order, 1 << order, PG_uptodate, self)
            made.index = index
            self.i_pages.store(index, pfn, order)
            self._tell(order, PG_uptodate, made.runs)

    def index_of(self, folio: tuple[int, int]) -> int:
        """Return the page of the file at which `folio` begins."""
        return self._places[folio]


def _holding(vmas: Iterable[VMA | None], addr: int) -> VMA:
    """Return the mapping that holds `addr`. Raises BadInput EINVAL where there is none."""
    found = next((vma for vma in vmas if vma is not None and vma.start <= addr < vma.end), None)
    if found is None:
        raise BadInput("placed", f"addr={addr:#x}", "lies in no mapping", errno.EINVAL)
    return found
