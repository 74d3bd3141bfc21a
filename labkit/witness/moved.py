"""Whether the bytes came: what an IO left in memory, against what lies on the disk, read anew into other memory."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from labkit.host.calls import direct
from labkit.host.memory.arena import arena
from labkit.scatter.payload import Range
from labkit.units import PAGE_SIZE
from labkit.witness.source import AskedIo


def moved(ios: Sequence[AskedIo], result: Sequence[int], view: memoryview, fd: int) -> bool | None:
    """Return whether the first `result` bytes of each IO are the same in the buffer `view` and behind `fd` (O_DIRECT).

    None where that cannot be told: nothing came, or the IOs touch the same bytes in an order that nobody knows.
    """
    if not any(n > 0 for n in result) or _overlap([piece for io in ios for piece in io.pieces]):
        return None
    if len(ios) > 1 and _overlap([(io.pos, io.nbytes) for io in ios]):
        return None
    return all(_same(io, n, view, fd) for io, n in zip(ios, result, strict=True) if n > 0)


def _same(io: AskedIo, nbytes: int, view: memoryview, fd: int) -> bool:
    """Return whether the first `nbytes` of `io` are those on the disk."""
    whole = -(-io.nbytes // PAGE_SIZE) * PAGE_SIZE
    again = arena(whole)
    memory = np.frombuffer(again, np.uint8)
    came = direct.call("pread", fd, [(int(memory.ctypes.data), io.nbytes)], io.pos)()
    if came < nbytes:
        return False
    mine = np.concatenate([np.frombuffer(view[start : start + n], np.uint8) for start, n in io.pieces])
    return bool(np.array_equal(mine[:nbytes], memory[:nbytes]))


def _overlap(ranges: Sequence[Range]) -> bool:
    """Return whether two of `ranges` share a byte."""
    return any(start + n > following for (start, n), (following, _) in pairwise(sorted(ranges)))
