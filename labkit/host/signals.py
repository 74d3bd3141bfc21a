"""Signals become exceptions: SIGTERM and SIGHUP end the process through `finally` blocks and atexit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_caught: set[signal.Signals] = set()


def catch() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number), where their disposition is the default one.

    Outside the main thread Python can set no handler, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)
            _caught.add(number)


def restore() -> None:
    """Give SIGTERM and SIGHUP back their default disposition, unless somebody else has set another since."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _caught:
        if signal.getsignal(number) is _exit:
            signal.signal(number, signal.SIG_DFL)
    _caught.clear()


@contextmanager
def held() -> Iterator[None]:
    """Keep SIGINT, SIGTERM and SIGHUP pending for this thread, so that a step is not left half done.

    A process with more threads may still see one inside: the steps that use this bear an interruption as well.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *_ENDING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit(number: int, _frame: FrameType | None) -> None:
    """End the process the way an exception does, with the exit status that a shell gives to the signal."""
    raise SystemExit(128 + number)
