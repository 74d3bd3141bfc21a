"""What works side by side in a medium. No queue is kept: each unit knows when it will be free."""

from heapq import heapreplace

from labkit.hardware.clock import Clock
from labkit.hardware.media.ops import Turn


class Dies:
    """Units that own their pages: page p is served by unit p modulo their number, first come, first served."""

    __slots__ = ("_env", "_free", "count")

    def __init__(self, env: Clock, count: int) -> None:
        """Begin with `count` idle units."""
        self._env, self._free, self.count = env, [0] * count, count

    def reserve(self, first: int, pages: int, service: int) -> Turn:
        """Take `service` ns for each of `pages` pages from `first` on; call it at the arrival."""
        now: int = self._env.now
        count, free = self.count, self._free
        unit = first % count
        if pages == 1:
            start = free[unit] if free[unit] > now else now  # noqa: FURB136 - each 4 KiB comes by here: max costs twice
            free[unit] = start + service
            return Turn(start - now, service, unit)
        begin, end = -1, 0
        for i in range(min(pages, count)):
            die = (unit + i) % count
            start = max(free[die], now)
            free[die] = done = start + (pages - i + count - 1) // count * service
            begin = start if begin < 0 else min(begin, start)
            end = max(end, done)
        return Turn(begin - now, end - begin, unit)

    def occupy(self, unit: int, service: int) -> None:
        """Keep `unit` busy for another `service` ns with work of its own."""
        self._free[unit] = max(self._free[unit], self._env.now) + service

    def idle(self) -> int:
        """Return the ns until every unit is through with what it has taken."""
        return max(0, max(self._free) - self._env.now)


class Lanes:
    """Units that serve anything: whoever comes next is served by the one that is free first."""

    __slots__ = ("_env", "_heap")

    def __init__(self, env: Clock, count: int) -> None:
        """Begin with `count` idle units."""
        self._env = env
        self._heap = [(0, unit) for unit in range(count)]

    def start(self) -> int:
        """Return the ns until one is free."""
        return max(0, self._heap[0][0] - self._env.now)

    def reserve(self, service: int) -> Turn:
        """Take `service` ns of the one that is free first."""
        now = self._env.now
        free, unit = self._heap[0]
        start = max(free, now)
        heapreplace(self._heap, (start + service, unit))
        return Turn(start - now, service, unit)

    def idle(self) -> int:
        """Return the ns until all are through with what they have taken."""
        return max(0, max(self._heap)[0] - self._env.now)
