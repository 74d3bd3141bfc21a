"""Records become the moment that a still picture is of."""

import numpy as np

from labkit.trace.latency import request_spans
from labkit.trace.trace import Trace


def busiest(trace: Trace) -> int | None:
    """Return a time (ns) at which most requests are with their driver, in the middle of it; None where none ever is."""
    times, depth = request_spans(trace.records).depth()
    if len(times) < 2:  # noqa: PLR2004 - one begins, and ends
        return None
    at = int(np.argmax(depth))
    return int(times[at] + times[min(at + 1, len(times) - 1)]) // 2
