"""Where the bytes of a file lie: its extents, by position in the file, as FIEMAP tells them."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from labkit.errors import BadInput
from labkit.kernel.fs.ops import IOMAP_TYPES, NULL_ADDR, IomapType
from labkit.kernel.fs.runs import FOREVER, RunMap

Row = Sequence[Any]
"""A row of FIEMAP: logical, physical and length in bytes, and the names of its flags."""
_STATES: dict[str, IomapType] = {"UNWRITTEN": "unwritten", "DELALLOC": "delalloc", "DATA_INLINE": "inline"}
_FLAGS = {"unwritten": ["UNWRITTEN"], "delalloc": ["DELALLOC", "UNKNOWN"], "inline": ["DATA_INLINE", "NOT_ALIGNED"]}


class Extent(NamedTuple):
    """Bytes [logical, logical + length) of a file lie from byte `physical` of its device on.

    `state` is that of an iomap, and never a hole; `physical` is NULL_ADDR where nothing is allocated yet (delalloc).
    """

    logical: int
    physical: int
    length: int
    state: IomapType = "mapped"
    shared: bool = False

    @property
    def end(self) -> int:
        """The first byte of the file behind it."""
        return self.logical + self.length

    def part(self, start: int, stop: int) -> Self:
        """Return what of it lies in [start, stop) of the file, some of which does."""
        first, last = max(start, self.logical), min(stop, self.end)
        physical = NULL_ADDR if self.state == "delalloc" else self.physical + first - self.logical
        return self._replace(logical=first, physical=physical, length=last - first)

    def joined(self, other: Self) -> Self | None:
        """Return this extent and `other` as one, if that goes on where this one ends in the file and on the device."""
        follows = other.physical == (NULL_ADDR if self.state == "delalloc" else self.physical + self.length)
        alike = self.state == other.state != "inline" and self.shared == other.shared
        return self._replace(length=self.length + other.length) if follows and alike else None

    def row(self) -> list[Any]:
        """Return it as a row of FIEMAP."""
        flags = [*_FLAGS.get(self.state, ()), *(["SHARED"] if self.shared else [])]
        return [self.logical, max(0, self.physical), self.length, flags]


class ExtentMap(RunMap[Extent]):
    """The extents of one file, sorted, never two over one another; what goes on in its neighbour is one with it."""

    def __init__(self, block_size: int, *, most: int = FOREVER) -> None:
        """Begin with a hole. Extents are whole blocks of `block_size` bytes, and `most` bytes long at most."""
        super().__init__(most=most)
        self.block_size = block_size

    @classmethod
    def from_rows(cls, rows: Iterable[Row], block_size: int, *, size: int = FOREVER, most: int = FOREVER) -> Self:
        """Build the map of FIEMAP's `rows`, as far as they lie in the blocks of a file of `size` bytes.

        Rows go beyond the end where room was allocated before it is needed. Raises BadInput EINVAL as insert does.
        """
        made, stop = cls(block_size, most=most), -(-size // block_size) * block_size
        for extent in map(extent_of, rows):
            if extent.logical < stop:
                made.insert(extent.part(extent.logical, stop))
        return made

    def insert(self, extent: Extent) -> None:
        """Add `extent` where there is a hole.

        Raises BadInput EINVAL for one that is not of whole blocks, lies nowhere, or lies over another.
        """
        self._check(extent)
        other = self.at(extent.logical)
        if other and other.logical < extent.end:
            self._refuse(extent, f"lies over [{other.logical}, {other.end})")
        step = min(self.most, extent.length)
        starts = range(extent.logical, extent.end, step)
        self.splice(extent.logical, extent.end, [extent.part(at, at + step) for at in starts])

    def punch(self, start: int, stop: int) -> list[Extent]:
        """Make [start, stop), whole blocks, a hole; return what lay there. Raises BadInput EINVAL."""
        self._whole(start, stop)
        return self.splice(start, stop)

    def convert(self, start: int, stop: int) -> int:
        """Make written what is unwritten in [start, stop), whole blocks; return how many bytes. Raises BadInput EINVAL.

        An extent that is written in part only becomes two or three, and joins neighbours that it goes on in (DIO-12).
        """
        self._whole(start, stop)
        parts = list(self.parts(start, stop))
        todo = sum(part.length for part in parts if part.state == "unwritten")
        if todo:
            new = [part._replace(state="mapped") if part.state == "unwritten" else part for part in parts]
            self.splice(start, stop, new)
        return todo

    def rows(self) -> Iterator[list[Any]]:
        """Yield the rows that FIEMAP would tell, the last one marked LAST."""
        last = None
        for extent in self:
            if last:
                yield last
            last = extent.row()
        if last:
            yield [*last[:3], [*last[3], "LAST"]]

    def _check(self, extent: Extent) -> None:
        """Raise BadInput for an extent that no file can have."""
        nowhere = (extent.physical == NULL_ADDR) != (extent.state == "delalloc")
        if extent.state not in IOMAP_TYPES[1:] or nowhere or extent.physical < NULL_ADDR:
            self._refuse(extent, f"is {extent.state} at {extent.physical}: it lies nowhere")
        if extent.logical < 0 or extent.length < 1 or extent.end > FOREVER:
            self._refuse(extent, "is no part of a file")
        block = 1 if extent.state == "inline" else self.block_size
        if extent.logical % block or extent.length % block or max(0, extent.physical) % block:
            self._refuse(extent, f"is not of whole blocks of {block} bytes")

    def _whole(self, start: int, stop: int) -> None:
        if start % self.block_size or (stop % self.block_size and stop != FOREVER) or not 0 <= start < stop:
            rule = f"is not a range of whole blocks of {self.block_size} bytes"
            raise BadInput("extents", f"[{start}, {stop})", rule, errno.EINVAL)

    @staticmethod
    def _refuse(extent: Extent, rule: str) -> None:
        raise BadInput("extents", f"[{extent.logical}, {extent.end})", rule, errno.EINVAL)


def extent_of(row: Row) -> Extent:
    """Return the extent that a `row` of FIEMAP tells; one that is not allocated yet is told as lying at 0.

    Raises BadInput EINVAL for what is no row.
    """
    try:
        logical, physical, length = (int(value) for value in row[:3])
        flags = set(row[3]) if len(row) > 3 else set()  # noqa: PLR2004 - logical, physical, length, flags
    except (TypeError, ValueError):
        rule = "is not [logical, physical, length, [flags]]"
        raise BadInput("extents", repr(row)[:60], rule, errno.EINVAL) from None
    state: IomapType = next((_STATES[flag] for flag in _STATES if flag in flags), "mapped")
    return Extent(logical, NULL_ADDR if state == "delalloc" else physical, length, state, "SHARED" in flags)
