"""Where the IOs of a load go on the device, and a second copy of what must be there."""

import errno
from collections import Counter
from collections.abc import Callable
from random import Random

from labkit.errors import BadInput
from labkit.host.memory.arena import arena
from labkit.machine.workload.load import Load

_TRIES = 1000


class Places:
    """The device in cells as large as the largest IO. In a cell several IOs read at a time, or one writes."""

    def __init__(self, load: Load, nbytes: int, poke: Callable[[int, bytes], None]) -> None:
        """Cut a device of `nbytes`, whose medium `poke(pos, data)` sets. Raises BadInput ENOSPC for too few cells."""
        nbytes = min(nbytes, load.span_bytes or nbytes)
        self.sizes, self.load, self._poke = load.sizes, load, poke
        self.cell, self._align = max(self.sizes), min(self.sizes)
        self.cells = nbytes // self.cell
        if self.cells < 2 * load.jobs * load.depth:
            what = f"{load.jobs} x {load.depth} IOs of {self.cell} bytes"
            raise BadInput("load", what, f"find no room side by side in {nbytes} bytes", errno.ENOSPC)
        self.shadow = arena(self.cells * self.cell)
        self.known: set[int] = set()
        """Cells whose bytes are the same on the medium and in `shadow`, or were, before those that write now."""
        self._readers: Counter[int] = Counter()
        self._writers: set[int] = set()
        self._chance = Random(load.seed + 1)  # noqa: S311 - a seeded row
        self._next = [job * self.cells // load.jobs for job in range(load.jobs)]
        self._stamp = 0

    def take(self, job: int) -> tuple[int, int, bool]:
        """Return (byte of the device, bytes, whether to write) of the next IO of task `job`, and mark its cell."""
        chance, load = self._chance, self.load
        write, nbytes = chance.random() >= load.read, chance.choice(self.sizes)
        cell = self._free(job, write=write)
        if cell not in self.known:
            self._fill(cell)
        if write:
            self._writers.add(cell)
        else:
            self._readers[cell] += 1
        inside = chance.randrange((self.cell - nbytes) // self._align + 1) * self._align
        return cell * self.cell + inside, nbytes, write

    def fresh(self, nbytes: int) -> bytes:
        """Return `nbytes` that nobody has written before: the number of this call, again and again."""
        self._stamp += 1
        return self._stamp.to_bytes(8, "little") * (nbytes // 8)

    def give(self, pos: int, *, write: bool) -> None:
        """Free the cell of an IO at byte `pos` that is over."""
        cell = pos // self.cell
        if write:
            self._writers.remove(cell)
        else:
            self._readers[cell] -= 1

    def forget(self, pos: int) -> None:
        """Trust no longer in what the cell of byte `pos` holds: a write to it has failed."""
        self.known.discard(pos // self.cell)

    def _free(self, job: int, *, write: bool) -> int:
        """Return a cell where one more IO may be: at random, or the next one of the row."""
        for _ in range(_TRIES):
            if self.load.random:
                cell = self._chance.randrange(self.cells)
            else:
                cell = self._next[job]
                self._next[job] = (cell + 1) % self.cells
            if cell not in self._writers and not (write and self._readers[cell]):
                return cell
        raise BadInput("load", f"{self.cells} cells", "are all busy: offer less at once, or smaller IOs", errno.ENOSPC)

    def _fill(self, cell: int) -> None:
        """Put bytes into a cell that nobody has been at, and into the shadow."""
        pos, data = cell * self.cell, self.fresh(self.cell)
        self._poke(pos, data)
        self.shadow[pos : pos + self.cell] = data
        self.known.add(cell)
