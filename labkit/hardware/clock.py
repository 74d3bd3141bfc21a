"""The time of the machine: SimPy's environment, in whole nanoseconds."""

from collections.abc import Callable

from simpy import Environment

from labkit.units import Nsec


class Clock(Environment):
    """An environment whose time is an int, as long as every delay is one."""

    @property
    def now(self) -> Nsec:
        """The time in ns since the machine was switched on."""
        return self._now  # type: ignore[return-value]  # SimPy allows floats; no delay here is one

    def later(self, delay: int, call: Callable[[], None]) -> None:
        """Call `call` after `delay` ns."""
        callbacks = self.timeout(delay).callbacks
        assert callbacks is not None  # noqa: S101 - a new event has a list
        callbacks.append(lambda _event: call())
