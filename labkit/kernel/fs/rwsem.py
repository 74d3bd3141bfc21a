"""Who may touch a file meanwhile: its lock, and how many direct IOs are on their way (i_rwsem, i_dio_count)."""

from collections import deque
from contextlib import suppress

from simpy import Event

from labkit.hardware.clock import Clock, Steps


class InodeLock:
    """Many may read, or overwrite, at once; whoever changes what lies where is alone. First come, first served."""

    __slots__ = ("_idle", "_waiting", "dios", "held")

    def __init__(self) -> None:
        """Begin with nobody in it."""
        self.held = 0
        """How many share it; -1 where one has it alone."""
        self.dios = 0
        """Direct IOs that have begun and not ended."""
        self._waiting: deque[tuple[Event, bool]] = deque()
        self._idle: list[Event] = []

    @property
    def busy(self) -> bool:
        """Whether anybody is in it, or any direct IO is on its way."""
        return bool(self.held or self.dios)

    def trylock(self, *, shared: bool) -> bool:
        """Take it if that needs no waiting; return whether it did (inode_trylock)."""
        if self._waiting or not self._free(shared=shared):
            return False
        self._take(shared=shared)
        return True

    def down(self, env: Clock, *, shared: bool) -> Steps:
        """Sleep until it can be had, and take it (inode_lock). Who is interrupted meanwhile leaves nothing behind."""
        if self.trylock(shared=shared):
            return
        turn = Event(env)
        self._waiting.append((turn, shared))
        try:
            yield turn
        except BaseException:
            if turn.triggered:
                self.up()
            else:
                self._waiting.remove((turn, shared))
                self._hand_over()
            raise

    def up(self) -> None:
        """Let go of it; those who wait longest have it from now on (inode_unlock)."""
        self.held += 1 if self.held < 0 else -1
        self._hand_over()

    def dio_begin(self) -> None:
        """Count one direct IO more (inode_dio_begin)."""
        self.dios += 1

    def dio_end(self) -> None:
        """Count one less; with the last one all go on who waited for that (inode_dio_end)."""
        self.dios -= 1
        if not self.dios:
            idle, self._idle = self._idle, []
            for turn in idle:
                turn.succeed()

    def dio_wait(self, env: Clock) -> Steps:
        """Sleep until no direct IO is on its way (inode_dio_wait)."""
        while self.dios:
            turn = Event(env)
            self._idle.append(turn)
            try:
                yield turn
            except BaseException:
                with suppress(ValueError):
                    self._idle.remove(turn)
                raise

    def _free(self, *, shared: bool) -> bool:
        return not self.held or (shared and self.held > 0)

    def _take(self, *, shared: bool) -> None:
        self.held = self.held + 1 if shared else -1

    def _hand_over(self) -> None:
        while self._waiting and self._free(shared=self._waiting[0][1]):
            turn, shared = self._waiting.popleft()
            self._take(shared=shared)
            turn.succeed()
