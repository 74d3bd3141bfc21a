"""A kind becomes a buffer: memory of this process that is present, whose folios are what was asked for."""

import errno
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from labkit.errors import BadInput, NotAllowed
from labkit.host.memory import kpageflags, pagemap, pagemap_scan
from labkit.host.memory.buffer import anonymous, shared, synth
from labkit.host.memory.buffer.space import IN_PIECES, Space, check_room
from labkit.host.memory.buffer.switches import PMD_SIZE
from labkit.host.undo import Undo
from labkit.units import PAGE_SIZE, human_bytes

_FOLIO = {
    "4KiB": PAGE_SIZE,
    "4KiB-shuffled": PAGE_SIZE,
    "16KiB": 16 << 10,
    "64KiB": 64 << 10,
    "2MiB": PMD_SIZE,
    "hugetlb": PMD_SIZE,
    "memfd": PAGE_SIZE,
    "memfd-2MiB": PMD_SIZE,
    "file": 0,
    "synth": PMD_SIZE,
}
"""The bytes of each folio of a kind; 0 where the filesystem chooses them."""
KINDS: tuple[str, ...] = tuple(_FOLIO)
_CUT = {"synth"}
"""Kinds that are cut from folios, and as long as they have to be."""
_TRIES = 3


class RealBuffer:
    """`nbytes` of memory from `address` on, as `view`; closed, its frames are given back. A context manager."""

    def __init__(self, kind: str, nbytes: int, space: Space) -> None:
        """Take the memory of `space`, which holds as many bytes."""
        self.kind, self.nbytes, self.address = kind, nbytes, space.address
        self.view = space.view(nbytes)
        self._space = space

    @property
    def got(self) -> tuple[int, ...]:
        """The bytes of its folios as they are now, each size once, sorted. Raises NotAllowed without root."""
        return kpageflags.sizes(pagemap.rows(self.address, self.nbytes))

    def close(self) -> None:
        """Unmap it, or let it go with the last slice of its view that somebody holds; a second call does nothing."""
        with suppress(BufferError):
            self.view.release()
        self._space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def real_buffer(kind: str, nbytes: int, undo: Undo, *, seed: int = 0, runs: Sequence[int] = ()) -> RealBuffer:
    """Return `nbytes` of memory of `kind` (one of KINDS), touched and present, at a multiple of its folio.

    `seed` is the order of what is shuffled; `runs` the pages of each physical run of synth. Raises BadInput, and
    NotAllowed or SyscallError ENOMEM where this machine does not give such folios: never others in their place.
    """
    _check(kind, nbytes, runs)
    align = max(_FOLIO[kind], PAGE_SIZE)
    whole = PAGE_SIZE if kind in _CUT else align
    size = -(-nbytes // whole) * whole
    if kind != "hugetlb":  # whose pool is not counted as free
        check_room(size)
    for _ in range(_TRIES):
        space = Space(size, align)
        try:
            _fill(kind, space, undo, seed, runs)
            if _kept(space, _FOLIO[kind]):
                return RealBuffer(kind, nbytes, space)
        except BaseException:
            space.close()
            raise
        space.close()
    raise NotAllowed("buffer", f"{human_bytes(nbytes)} of {kind} folios", IN_PIECES, errno.ENOMEM)


def _check(kind: str, nbytes: int, runs: Sequence[int]) -> None:
    """Raise BadInput for what is no buffer."""
    if kind not in _FOLIO:
        raise BadInput("buffer", f"kind={kind!r}", f"is none of {', '.join(KINDS)}", errno.EINVAL)
    if nbytes <= 0:
        raise BadInput("buffer", f"{nbytes} bytes", "is no size: at least 1 byte is needed", errno.EINVAL)
    if runs and kind not in _CUT:
        raise BadInput("buffer", f"runs of {kind}", "are the kernel's choice: use synth", errno.EINVAL)


def _fill(kind: str, space: Space, undo: Undo, seed: int, runs: Sequence[int]) -> None:
    """Make `space` what `kind` says, and present."""
    match kind:
        case "4KiB":
            anonymous.in_order(space)
        case "4KiB-shuffled":
            anonymous.shuffled(space, seed)
        case "16KiB" | "64KiB" | "2MiB":
            anonymous.folios(space, _FOLIO[kind], undo)
        case "hugetlb":
            anonymous.hugetlb(space, undo)
        case "memfd":
            shared.memfd(space)
        case "memfd-2MiB":
            with shared.huge_memfd(space, undo):
                pass
        case "file":
            shared.file(space)
        case _:
            synth.synth(space, undo, runs, seed)


def _kept(space: Space, folio: int) -> bool:
    """Return whether all of `space` came in folios of `folio` bytes (0 for any), as far as this user may see that."""
    try:
        return not folio or kpageflags.sizes(pagemap.rows(space.address, space.nbytes)) == (folio,)
    except NotAllowed:
        return folio != PMD_SIZE or _is_huge(space)


def _is_huge(space: Space) -> bool:
    """Return whether all of `space` is huge, as an ordinary user may ask, and where nobody can answer."""
    with suppress(NotAllowed):
        return all("HUGE" in region.what for region in pagemap_scan.scan(space.address, space.nbytes))
    return True
