"""What is held is given back at every exit: newest first at the exit of the interpreter, by SIGTERM and SIGHUP too."""

import atexit
import contextlib
import os
from typing import Protocol

from labkit.host import signals

_held: list[tuple["Closing", int]] = []
"""What is to be closed, and the process that holds it."""


class Closing(Protocol):
    """Whatever is given back by one call, and bears a second one."""

    def close(self) -> None:
        """Give it back."""


def hold(thing: Closing) -> None:
    """Close `thing` at the exit of this process, should it live that long."""
    _held.append((thing, os.getpid()))
    signals.catch()


def release(thing: Closing) -> None:
    """Forget `thing`, if it is held: it is closed."""
    for at in range(len(_held) - 1, -1, -1):
        if _held[at][0] is thing:
            del _held[at]
            signals.restore()


@atexit.register
def _close_all() -> None:
    """Close what is held still; of a forked child nothing: what it sees is its parent's."""
    for thing, pid in reversed(tuple(_held)):
        if pid == os.getpid():
            with contextlib.suppress(BaseException):  # a second Ctrl-C ends this one, not the rest
                thing.close()
