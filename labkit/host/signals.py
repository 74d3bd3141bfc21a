"""Signals become exceptions: SIGTERM and SIGHUP end the process through `finally` blocks and atexit."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_caught: set[signal.Signals] = set()
_catchers: list[None] = []
"""One for each who wants them caught."""
_holding: list[None] = []
"""One for each step that is not to be left half done."""
_late: list[int] = []
"""What came meanwhile."""


def catch() -> None:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number), where their disposition is the default one.

    Outside the main thread Python can set no handler, and nothing is done.
    """
    _catchers.append(None)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)
            _caught.add(number)


def restore() -> None:
    """Take one `catch` back. The last gives SIGTERM and SIGHUP their default disposition back, unless another is set.

    Where the last one is taken back outside the main thread, they stay caught until the next.
    """
    if _catchers:
        _catchers.pop()
    if _catchers or threading.current_thread() is not threading.main_thread():
        return
    for number in _caught:
        if signal.getsignal(number) is _exit:
            signal.signal(number, signal.SIG_DFL)
    _caught.clear()


@contextmanager
def held() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait for the end of what is done within it, so that no step is left half done.

    They are blocked for this thread. A process with more threads (numpy has some) may still be given one in another:
    `_exit` waits then, and a Ctrl-C comes through: the steps that use this bear an interruption as well.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    _holding.append(None)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *_ENDING))  # raises for one that came just before
        yield
    finally:
        _holding.pop()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        while _late and not _holding:
            signal.raise_signal(_late.pop())


@contextmanager
def taken(take: Callable[[BaseException], None]) -> Iterator[None]:
    """Give a first Ctrl-C to `take`, in place of raising it at whatever is being done; a second one is raised there.

    Where somebody else has set a handler, or outside the main thread, nothing is done.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        take(KeyboardInterrupt())

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:  # else it is that of somebody later: this end may be a late one
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def whole() -> Iterator[None]:
    """Let a first Ctrl-C wait for the end of what is done within it, and raise it then; otherwise as `taken`."""
    struck = list[BaseException]()
    with taken(struck.append):
        yield
    if struck:
        raise struck[0]


def _exit(number: int, _frame: FrameType | None) -> None:
    """End the process the way an exception does, with the exit status that a shell gives to the signal."""
    if _holding:
        _late.append(number)
    else:
        raise SystemExit(128 + number)
