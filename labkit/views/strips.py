"""Address ranges become a strip: runs one under the other, as tall as they are long, gaps where addresses jump."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labkit.views.fold import Place
from labkit.views.journey import NONE


class Run(NamedTuple):
    """Contiguous addresses, and where they are drawn."""

    addr: int
    nbytes: int
    top: float
    bottom: float


def runs(places: Iterable[Place]) -> list[Place]:
    """Return `places` with those joined that touch their predecessor or overlap any; the order is of first use."""
    out: list[Place] = []
    for addr, nbytes in places:
        if addr == NONE:
            continue
        at = next((i for i, (a, n) in enumerate(out) if a < addr + nbytes and addr < a + n), NONE)
        if at == NONE and out and sum(out[-1]) == addr:
            at = len(out) - 1
        if at == NONE:
            out.append((addr, nbytes))
        else:
            start = min(out[at][0], addr)
            out[at] = (start, max(sum(out[at]), addr + nbytes) - start)
    return out


def stack(places: Sequence[Place], top: float, bottom: float, gap: float) -> list[Run]:
    """Return `places` between `top` and `bottom`: heights as lengths, gaps of `gap` or less where there are many."""
    if not places:
        return []
    gap = min(gap, (bottom - top) * 0.3 / len(places))
    scale = (bottom - top - gap * (len(places) - 1)) / sum(nbytes for _, nbytes in places)
    out, y = [], top
    for addr, nbytes in places:
        out.append(Run(addr, nbytes, y, y + nbytes * scale))
        y += nbytes * scale + gap
    return out


def place(strip: Sequence[Run], addr: int, nbytes: int) -> tuple[float, float]:
    """Return (top, bottom) of `nbytes` bytes from `addr` on in the run that holds them; (0, 0) if none does."""
    for run in strip:
        if run.addr <= addr < run.addr + run.nbytes:
            scale = (run.bottom - run.top) / run.nbytes
            top = run.top + (addr - run.addr) * scale
            return top, min(run.bottom, top + nbytes * scale)
    return 0.0, 0.0
