"""Where captures come from: a kernel that is asked for IO, and tells what it did.

This machine's kernel is the first source (host_source.py). Whatever has a kernel, buffers and a device of its own can
be another: an emulated machine, say. So IO is asked for by bytes of a buffer, and the source knows its addresses.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from labkit.scatter.payload import Range
from labkit.witness.capture import Capture

Extent = tuple[int, int, int, list[str]]
"""Byte of the file, byte of the device, bytes, and FIEMAP's words."""


class AskedIo(NamedTuple):
    """One IO: `op` r or w, at byte `pos` of the device or file; (byte of the buffer, bytes) of each piece."""

    op: str
    pos: int
    pieces: tuple[Range, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all pieces."""
        return sum(n for _, n in self.pieces)


class Asked(NamedTuple):
    """What a source is to do: `ios`, one of a call or several of one submission, with memory of `buffer`.

    `api` is pread, preadv, io_uring or io_uring-fixed; of the last, `region` (byte of the buffer, bytes) is registered.
    `knobs` are settings of the queue that hold from now on: max_sectors_kb, nomerges, scheduler.
    """

    id: str
    buffer: str
    api: str
    ios: tuple[AskedIo, ...]
    region: Range | None = None
    knobs: Mapping[str, int | str] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all IOs."""
        return sum(io.nbytes for io in self.ios)


class Space(NamedTuple):
    """What may be asked of a source: IO within `nbytes` of its device or file, in blocks of `block` bytes.

    `buffers`: bytes of each buffer by its kind; `extents` of the file, None for a device.
    """

    nbytes: int
    block: int
    buffers: Mapping[str, int]
    extents: Sequence[Extent] | None = None


class Source(Protocol):
    """A kernel that can be asked."""

    @property
    def kernel(self) -> str:
        """Its version, such as 6.18.44."""

    @property
    def space(self) -> Space:
        """What may be asked of it."""

    def capture(self, asked: Asked) -> Capture:
        """Do `asked` and return what was seen. Raises LabkitError; nothing is left then."""

    def close(self) -> None:
        """Undo all that was made and changed for it. A second call does nothing."""
