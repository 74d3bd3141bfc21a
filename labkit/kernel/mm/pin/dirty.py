"""Memory that an IO wrote to becomes dirty: physical ranges find their folios again (MM-25, P10)."""

from typing import Protocol

from labkit.kernel.mm.frames.folios import Folios
from labkit.scatter.payload import Ranges, join, run_length
from labkit.trace.page_flags import PG_dirty
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class Memory(Protocol):
    """As much of a task's memory as is wanted here."""

    @property
    def folios(self) -> Folios:
        """Return the folios of the machine."""

    def emit(self, name: str, *fields: object, io: int = 0) -> None:
        """Tell the trace of a change of memory."""


def mark_dirty(mm: Memory, ranges: Ranges, io: int = 0) -> None:
    """Mark the folios of `ranges` dirty, and tell the trace of those that were clean, if there are any.

    Memory without folios is passed over: nobody keeps account of it (D-17).
    """
    if len(ranges) == 1 and _dirty_page(mm.folios, *ranges[0]):
        return
    clean = mm.folios.set_dirty(ranges)
    if clean:
        mm.emit("FolioFlags", run_length(join(clean)), PG_dirty, 0, io=io)


def _dirty_page(folios: Folios, addr: int, nbytes: int) -> bool:
    """Return whether that is within one page, whose folio stands alone and is dirty already: the most common case."""
    folio = folios.by_head.get(addr >> PAGE_SHIFT)
    if folio is None or folio.private is not None:
        return False
    return folio.flags & PG_dirty != 0 and addr % PAGE_SIZE + nbytes <= PAGE_SIZE
