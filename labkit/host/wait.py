"""Patience: the kernel finishes some things a moment after the call returns."""

import time
from collections.abc import Callable

_STEP_SECONDS = 0.002


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Ask `done` until it says yes or `seconds` have passed; return its last answer."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(_STEP_SECONDS)
    return True
