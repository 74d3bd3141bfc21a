"""Anonymous memory becomes present: page by page, in folios of a chosen size, or from the pool of huge pages.

What was touched is kept from khugepaged, which would make one huge page of many small ones while somebody looks.
"""

import mmap
from random import Random

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory.buffer import switches
from labkit.host.memory.buffer.space import HUGEPAGE, IN_PIECES, NOHUGEPAGE, Space
from labkit.host.undo import Undo
from labkit.units import PAGE_SIZE, human_bytes

_HUGETLB = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 21 << 26
"""MAP_HUGETLB with MAP_HUGE_2MB (uapi/asm-generic/hugetlb_encode.h); the mmap module of Python 3.11 lacks both."""


def in_order(space: Space) -> None:
    """Touch pages of 4 KiB one after the other: some of their frames follow each other, as the buddy gives them."""
    space.advise(NOHUGEPAGE)
    space.populate()


def shuffled(space: Space, seed: int) -> None:
    """Touch pages of 4 KiB in a random order: hardly two frames follow each other."""
    pages = list(range(space.nbytes // PAGE_SIZE))
    Random(seed).shuffle(pages)  # noqa: S311 - a layout, not a secret
    space.advise(NOHUGEPAGE)
    space.touch(pages)


def folios(space: Space, nbytes: int, undo: Undo) -> None:
    """Touch it in folios of `nbytes`, as far as there are such. Raises NotAllowed."""
    with switches.switched(undo, lambda: switches.anonymous(nbytes)):
        space.advise(HUGEPAGE)
        space.populate()
        space.advise(NOHUGEPAGE)


def hugetlb(space: Space, undo: Undo) -> None:
    """Put huge pages over it, of the pool or beyond it. Raises NotAllowed ENOMEM where there are none."""
    with switches.switched(undo, lambda: switches.hugetlb(space.nbytes)):
        try:
            space.place(-1, _HUGETLB)
        except SyscallError as no:
            raise NotAllowed("buffer", f"{human_bytes(space.nbytes)} of hugetlb", IN_PIECES, no.errno) from no
    space.populate()
