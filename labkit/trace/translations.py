"""The translations of one address space, as runs: which user addresses map which physical ones."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Run(NamedTuple):
    """`len` bytes from user address `va` map the bytes from `pa` on, by entries of order `leaf` (0, 9 or 18)."""

    va: int
    pa: int
    len: int
    leaf: int


class Translations:
    """Runs in the order of user addresses, none of which overlap."""

    __slots__ = ("_runs", "_starts")

    def __init__(self) -> None:
        """Begin with none."""
        self._starts: list[int] = []
        self._runs: list[Run] = []

    def __iter__(self) -> Iterator[Run]:
        """Iterate over the runs."""
        return iter(self._runs)

    def put(self, run: Run) -> list[Run]:
        """Map `run`; return what was mapped there before."""
        gone = self.take(run.va, run.len) if self._starts and run.va < sum(self._runs[-1][::2]) else []
        i = bisect_left(self._starts, run.va)
        self._starts.insert(i, run.va)
        self._runs.insert(i, run)
        return gone

    def take(self, va: int, nbytes: int) -> list[Run]:
        """Unmap [va, va + nbytes); return what was mapped there."""
        end = va + nbytes
        i = max(0, bisect_right(self._starts, va) - 1)
        j = bisect_left(self._starts, end)
        old, kept, gone = self._runs[i:j], list[Run](), list[Run]()
        for run in old:
            lo, hi = max(va, run.va), min(end, run.va + run.len)
            if lo >= hi:
                kept.append(run)
                continue
            gone.append(_part(run, lo, hi))
            kept += [_part(run, *cut) for cut in ((run.va, lo), (hi, run.va + run.len)) if cut[0] < cut[1]]
        self._runs[i:j] = kept
        self._starts[i:j] = [run.va for run in kept]
        return gone

    def move(self, src: int, dst: int, nbytes: int) -> None:
        """Let what maps physical [src, src + nbytes) map the same bytes from `dst` on."""
        for run in tuple(self._runs):
            lo, hi = max(src, run.pa), min(src + nbytes, run.pa + run.len)
            if lo < hi:
                va = run.va + lo - run.pa
                self.put(Run(va, dst + lo - src, hi - lo, run.leaf))

    def joined(self, mm: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (user address, physical address, bytes, `mm`) of runs that go on in both, joined."""
        va = pa = length = 0
        for run in self._runs:
            if length and va + length == run.va and pa + length == run.pa:
                length += run.len
                continue
            if length:
                yield va, pa, length, mm
            va, pa, length = run.va, run.pa, run.len
        if length:
            yield va, pa, length, mm


def _part(run: Run, lo: int, hi: int) -> Run:
    """Return what of `run` lies at user addresses [lo, hi)."""
    return run if (lo, hi) == (run.va, run.va + run.len) else Run(lo, run.pa + lo - run.va, hi - lo, run.leaf)
