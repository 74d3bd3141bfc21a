"""Requests for a scheduler alone, without a queue."""

from itertools import count

import pytest

from labkit.kernel.drivers.ops import Request


@pytest.fixture
def make_rq():
    """Return a maker of requests of 8 sectors, numbered from 1."""
    numbers = count(1)

    def make(sector, *, write=False, nr=8, task=0, opf=0):
        addr = (1 << 20) + 2 * (sector << 9)
        rq = Request(next(numbers), 1, -1, sector, (((addr, nr << 9),), nr << 9, 1), write=write)
        rq.task, rq.opf = task, opf
        return rq

    return make


@pytest.fixture(scope="session")
def drain():
    """Return how to take everything out of a scheduler at one time; each request is over at once."""

    def take(sched, now=0):
        out = []
        while (rq := sched.dispatch_request(now)) is not None:
            out.append(("W" if rq.write else "R", rq.sector))
            sched.completed_request(rq, now)
        return out

    return take
