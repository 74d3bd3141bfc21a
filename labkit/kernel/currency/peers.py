"""Pages of a PCI device among those of RAM: they go into a bio of their own (BIO-2, P2P-5)."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.mm.backing.provider import provider_of
from labkit.kernel.mm.gup.follow import FOLL_PCI_P2PDMA
from labkit.kernel.mm.gup.gup import Pages, pin_user_pages, unpin_user_pages
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import Ranges, cut
from labkit.scatter.range_array import RangeArray
from labkit.units import PAGE_SIZE, UserAddr


class OneClass:
    """Pins pages for one bio, all of the class that its first page is of: RAM, or the memory of one provider."""

    __slots__ = ("_end", "_flags", "_iocb", "cls")

    def __init__(self, iocb: Kiocb) -> None:
        """Pin for `iocb`; a device's pages only where its queue takes them (FOLL_PCI_P2PDMA, MM-12)."""
        self._iocb, self._flags = iocb, FOLL_PCI_P2PDMA if iocb.limits.pci_p2pdma else 0
        self._end = iocb.mm.frames.buddy.memblock.phys_end
        self.cls: MemoryClass | None = None
        """The class of the first page, once there is one."""

    def extract(self, addr: int, want: int) -> Pages:
        """Pin up to `want` pages from `addr` on. Errors: pin_user_pages; EREMOTEIO for a page of another class."""
        iocb = self._iocb
        got = pin_user_pages(iocb.mm, UserAddr(addr), want, write=not iocb.write, flags=self._flags)
        if not _beyond(got.runs, self._end) and self.cls in {None, RAM}:
            self.cls = RAM
            return got
        try:
            return self._alike(addr, got)
        except BaseException:
            unpin_user_pages(iocb.mm, got.runs)
            raise

    def _alike(self, addr: int, got: Pages) -> Pages:
        """Return the first pages of `got` that are of the bio's class, and let go of the others."""
        mm = self._iocb.mm
        cls, pages = _stretch(mm, addr, got.nr)
        if self.cls not in {None, cls}:
            rule = "is of another kind than the first of this bio (BIO-2)"
            raise SyscallError("gup", f"page addr={addr:#x}", rule, errno.EREMOTEIO)
        self.cls = cls
        if pages < got.nr:
            at = pages * PAGE_SIZE
            unpin_user_pages(mm, cut(got.runs, at, got.nr * PAGE_SIZE - at))
            got = got._replace(runs=cut(got.runs, 0, at), nr=pages)
        return got


def _beyond(runs: Ranges, end: int) -> bool:
    """Return whether any of `runs` is not RAM that was there at boot: physical addresses from `end` on."""
    if isinstance(runs, RangeArray):
        return bool(runs.addrs.max() >= end)
    return any(addr >= end for addr, _ in runs)


def _stretch(mm: Mm, addr: int, nr: int) -> tuple[MemoryClass, int]:
    """Return the class of the page at `addr`, and how many of the `nr` pages from there on are of it."""
    start = addr & -PAGE_SIZE
    at, end, found = start, start + nr * PAGE_SIZE, class_of(mm, start)
    while at < end and class_of(mm, at) == found:
        vma = mm.space.find_vma(at)
        at = end if vma is None else min(end, vma.end)
    return found, (at - start) // PAGE_SIZE


def class_of(mm: Mm, addr: int) -> MemoryClass:
    """Return what the page at user address `addr` is: a provider's if it is P2PDMA memory, else as good as RAM."""
    vma = mm.space.find_vma(addr)
    provider = provider_of(vma) if vma is not None and vma.ops.kind == "p2pdma" else None
    return provider.cls if provider is not None else RAM
