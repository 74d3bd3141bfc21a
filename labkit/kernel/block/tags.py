"""The tags of a queue: as many requests as may be on their way at a time; whoever finds none sleeps (MQ-2)."""

from collections import deque
from collections.abc import Generator
from typing import Any, cast

from simpy import Event

from labkit.hardware.clock import Clock, Wait


class Tags:
    """`depth` numbers from 0 on. A tag that comes back is handed to whoever waits longest."""

    def __init__(self, env: Clock, depth: int) -> None:
        """Begin with all of them free."""
        self.depth = depth
        self._env = env
        self._free = list(range(depth - 1, -1, -1))
        self._waiting: deque[Event] = deque()

    @property
    def free(self) -> int:
        """How many tags nobody has."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """How many tasks sleep until they get one."""
        return len(self._waiting)

    def take(self) -> int | None:
        """Return a tag, or None where none is free."""
        return self._free.pop() if self._free else None

    def get(self) -> Generator[Wait, Any, int]:
        """Return a tag, and sleep until there is one. Who is interrupted meanwhile leaves nothing behind."""
        if self._free:
            return self._free.pop()
        turn = Event(self._env)
        self._waiting.append(turn)
        try:
            tag: int = yield turn
        except BaseException:
            if turn.triggered:
                self.put(cast("int", turn.value))
            else:
                self._waiting.remove(turn)
            raise
        return tag

    def put(self, tag: int) -> None:
        """Give `tag` back: the first who waits has it from now on, though his task is woken later."""
        if self._waiting:
            self._waiting.popleft().succeed(tag)
        else:
            self._free.append(tag)
