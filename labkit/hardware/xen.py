"""The hypervisor's side of memory: which machine frame is behind each frame of the guest, and a bus that knows it."""

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from labkit.hardware.ram import RAM
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

WINDOW = 1024
"""Frames that are mixed among themselves: 4 MiB, a block of the buddy's greatest order."""
_SHORTEST, _LONGEST = 2, 64
_LOW = PAGE_SIZE - 1


class P2m:
    """Guest frame to machine frame (D-16). Made a window at a time: a terabyte costs what was looked at.

    A machine frame has the number of a guest frame, mostly another's.
    """

    def __init__(self, grants: Mapping[int, int] | None = None, ranges: Iterable[Range] = (), seed: int = 0) -> None:
        """`grants`: frames of another domain, by the guest frames that stand for them; whoever has it may change it.

        Windows that lie as a whole in `ranges` (physical, bytes) are mixed in runs of 2 to 64 frames, as `seed` says.
        """
        self.grants = {} if grants is None else grants
        self._ranges = [(start >> PAGE_SHIFT, (start + nbytes) >> PAGE_SHIFT) for start, nbytes in ranges]
        self._seed = seed
        self._windows: dict[int, tuple[list[int], list[int]] | None] = {}

    def machine(self, pfn: int) -> int:
        """Return the machine frame behind guest frame `pfn`."""
        granted = self.grants.get(pfn)
        if granted is not None:
            return granted
        mixed = self._window(pfn // WINDOW)
        return pfn if mixed is None else pfn - pfn % WINDOW + mixed[0][pfn % WINDOW]

    def guest(self, mfn: int) -> int:
        """Return the guest frame whose machine frame is `mfn`: the guest's own, not one that stands for a grant."""
        mixed = self._window(mfn // WINDOW)
        return mfn if mixed is None else mfn - mfn % WINDOW + mixed[1][mfn % WINDOW]

    def ranges(self, phys: int, nbytes: int) -> list[Range]:
        """Return the machine ranges behind `nbytes` at guest-physical `phys`, joined where they touch."""
        out: list[Range] = []
        end = phys + nbytes
        while phys < end:
            take = min(end - phys, PAGE_SIZE - (phys & _LOW))
            addr = (self.machine(phys >> PAGE_SHIFT) << PAGE_SHIFT) + (phys & _LOW)
            if out and sum(out[-1]) == addr:
                out[-1] = (out[-1][0], out[-1][1] + take)
            else:
                out.append((addr, take))
            phys += take
        return out

    def exchange(self, phys: int, nbytes: int) -> None:
        """Put one run of machine frames behind `nbytes` at `phys`, in whole pages (XENMEM_exchange).

        For memory that no device uses yet; the run lies in one window, or is whole windows.
        """
        first, pages = phys >> PAGE_SHIFT, -(-nbytes // PAGE_SIZE)
        for pfn in range(first, first + pages):
            mixed = self._window(pfn // WINDOW)
            if mixed is not None:
                to_machine, to_guest = mixed
                at, other = pfn % WINDOW, to_guest[pfn % WINDOW]
                to_machine[other], to_guest[to_machine[at]] = to_machine[at], other
                to_machine[at] = to_guest[at] = at

    def _window(self, number: int) -> tuple[list[int], list[int]] | None:
        """Return both ways of a window; None where each frame is its own."""
        if number not in self._windows:
            first = number * WINDOW
            inside = any(start <= first and first + WINDOW <= end for start, end in self._ranges)
            self._windows[number] = _mixed(random.Random(self._seed << 40 | number)) if inside else None  # noqa: S311 - no secret
        return self._windows[number]


class MachineBus:
    """Memory by machine address, as every device has it where a hypervisor is below the kernel."""

    def __init__(self, ram: RAM, p2m: P2m) -> None:
        """`ram` has the bytes by guest-physical address; `p2m` says where those are."""
        self._ram, self._p2m = ram, p2m

    def views(self, addr: int, nbytes: int, write: bool = False) -> Sequence[memoryview]:
        """Return views of the `nbytes` bytes at machine address `addr`. Raises BusFault in a hole."""
        out: list[memoryview] = []
        end = addr + nbytes
        while addr < end:
            take = min(end - addr, PAGE_SIZE - (addr & _LOW))
            guest = (self._p2m.guest(addr >> PAGE_SHIFT) << PAGE_SHIFT) + (addr & _LOW)
            out += self._ram.views(guest, take, write)
            addr += take
        return out


def _mixed(rng: random.Random) -> tuple[list[int], list[int]]:
    """Return a window in runs of another order: to the machine, and back."""
    cuts = [0]
    while cuts[-1] < WINDOW:
        cuts.append(min(WINDOW, cuts[-1] + rng.randint(_SHORTEST, _LONGEST)))
    runs = [range(start, end) for start, end in pairwise(cuts)]
    rng.shuffle(runs)
    to_guest = [frame for run in runs for frame in run]
    to_machine = [0] * WINDOW
    for mfn, pfn in enumerate(to_guest):
        to_machine[pfn] = mfn
    return to_machine, to_guest
