"""The time of the machine: SimPy's environment, in whole nanoseconds, with a lean way to wait.

Most of what happens here is a piece of work that takes some ns and then goes on. SimPy makes an event with a list
of callbacks for that; a call kept in the heap entry itself does the same for less, at the same instant and in the same
order. Ordinary SimPy processes and events run beside it, unchanged. This is the one place that knows
SimPy's queue; simpy is pinned to 4.1 for it, and a test holds the order against stock SimPy.
"""

from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any, cast

from simpy import Environment, Event
from simpy.core import EmptySchedule, SimTime
from simpy.events import NORMAL, EventPriority

from labkit.units import Nsec

Wait = int | Event
"""What a job yields: ns that pass, or an event to wait for."""
Steps = Generator[Wait, Any, None]
"""Work that takes time and returns nothing."""


class Clock(Environment):
    """An environment whose time is an int, as long as every delay is one."""

    _shared = _running = False
    _struck: BaseException | None = None

    now: Nsec = Nsec(0)
    """The time in ns since the machine was switched on. SimPy has a property here; each record reads it, and pays."""

    @property
    def _now(self) -> Nsec:
        return self.now

    @_now.setter
    def _now(self, now: Nsec) -> None:
        self.now = now

    def later(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` after `delay` ns."""
        heappush(self._queue, (self.now + delay, NORMAL, next(self._eid), None, call, args))  # type: ignore[misc]

    def sleep(self, delay: int, resume: Callable[[], None]) -> bool:
        """Let `delay` ns pass: at once where nothing else happens in them (True), else until `resume` is called."""
        due, queue = self.now + delay, self._queue
        if self._shared or self._struck or (queue and queue[0][0] <= due):
            heappush(queue, (due, NORMAL, next(self._eid), None, resume, ()))  # type: ignore[misc]
            return False
        self.now = Nsec(due)
        return True

    def job(self, work: Generator[Wait, Any, Any]) -> "Job":
        """Start `work` now; the event that comes back fires with what it returns, or with what it raises."""
        return Job(self, work)

    def run(self, until: SimTime | Event | None = None) -> Any | None:
        """Do one thing after the other, as simpy.Environment.run. Raises also what `interrupt` was given."""
        self._running = True
        try:
            return super().run(until)
        finally:
            self._running = False
            self._raise_struck()

    def interrupt(self, bad: BaseException) -> None:
        """Raise `bad` (Ctrl-C): now if the clock stands, else between two steps, where nothing is half done."""
        if not self._running:
            raise bad
        self._struck = bad

    def step(self) -> None:
        """Do what is next. Raises simpy's EmptySchedule when nothing is."""
        if self._struck:
            self._raise_struck()
        try:
            entry: Any = heappop(self._queue)
        except IndexError:
            raise EmptySchedule from None
        self.now = entry[0]
        if entry[3] is None:
            entry[4](*entry[5])
        else:
            self._fire(entry[3])

    def _fire(self, event: Event) -> None:
        """Call whoever waits for `event`, as simpy.Environment.step does."""
        callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]  # as SimPy marks what has fired
        self._shared = len(callbacks) > 1  # whoever is told first must not let time pass for the others
        try:
            for callback in callbacks:
                callback(event)
        except BaseException:  # StopSimulation, Ctrl-C: the others are told when the clock runs again
            if rest := callbacks[callbacks.index(callback) + 1 :]:
                event.callbacks = rest
                self.schedule(event, EventPriority(-1))
            raise
        finally:
            self._shared = False
        if not event.ok and not event.defused:
            raise cast("BaseException", event.value)

    def _raise_struck(self) -> None:
        struck, self._struck = self._struck, None
        if struck is not None:
            raise struck


class Job(Event):
    """A generator on its way, as simpy's Process, that may also yield plain ns."""

    def __init__(self, clock: Clock, work: Generator[Wait, Any, Any]) -> None:
        """Take the first step of `work` as soon as the clock runs."""
        super().__init__(clock)
        self._clock, self._work = clock, work
        clock.later(0, self._resume)

    def abandon(self) -> None:
        """Nobody asks for this job any more: close its work, which leaves the rest to others, and tell nobody of it."""
        self.defused = True
        if self.callbacks:
            self.callbacks.clear()
        self._work.close()

    def _resume(self, event: Event | None = None) -> None:
        clock, send = self._clock, self._work.send
        try:
            wait = send(None) if event is None else self._deliver(event)
            while isinstance(wait, int):
                if not clock.sleep(wait, self._resume):
                    return
                wait = send(None)
        except StopIteration as end:
            self.succeed(end.value)
        except Exception as bad:  # noqa: BLE001 - whoever waits for the job gets it
            self.fail(bad)
        else:
            if wait.callbacks is None:
                clock.later(0, self._resume, wait)
            else:
                wait.callbacks.append(self._resume)

    def _deliver(self, event: Event) -> Wait:
        if event.ok:
            wait: Wait = self._work.send(event.value)
            return wait
        event.defused = True
        return self._work.throw(cast("BaseException", event.value))
