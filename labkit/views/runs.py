"""Addresses become places on a strip: what is touched lies to scale, and what is between is folded into small gaps."""

from collections.abc import Iterable
from typing import NamedTuple

_GAP = 26
"""Pixels for what lies between two runs, however much that is."""


class Strip(NamedTuple):
    """Where bytes lie on the page: (first byte, bytes, left, pixels) of each run, in order."""

    pieces: tuple[tuple[int, int, float, float], ...]

    def x(self, at: int) -> float:
        """Return the x of byte `at`; at the nearest end where it lies in no run."""
        best = 0.0
        for start, nbytes, left, wide in self.pieces:
            if at < start:
                return best or left
            best = left + wide * min(at - start, nbytes) / max(nbytes, 1)
            if at <= start + nbytes:
                return best
        return best

    def box(self, start: int, nbytes: int) -> tuple[float, float]:
        """Return the left and the right of `nbytes` from `start` on: in the run in which they begin."""
        for first, size, left, wide in self.pieces:
            if first <= start < first + size:
                scale = wide / max(size, 1)
                return left + (start - first) * scale, left + min(start - first + nbytes, size) * scale
        return self.x(start), self.x(start + nbytes)


def strip(places: Iterable[tuple[int, int]], left: float, right: float, gap: float = _GAP) -> Strip:
    """Return the strip between `left` and `right` on which `places`, (first byte, bytes) each, lie."""
    runs: list[list[int]] = []
    for addr, nbytes in sorted(places):
        if runs and addr <= runs[-1][1]:
            runs[-1][1] = max(runs[-1][1], addr + nbytes)
        else:
            runs.append([addr, addr + nbytes])
    gap = min(gap, (right - left) / 3 / max(len(runs), 1))
    total = sum(hi - lo for lo, hi in runs) or 1
    scale, x, pieces = (right - left - gap * max(len(runs) - 1, 0)) / total, left, []
    for lo, hi in runs:
        pieces.append((lo, hi - lo, x, (hi - lo) * scale))
        x += (hi - lo) * scale + gap
    return Strip(tuple(pieces))
