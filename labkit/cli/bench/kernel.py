"""What it costs to watch this machine's kernel: an event, the frames of a buffer, a whole IO and its prediction."""

import errno
import statistics
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

import numpy as np

from labkit.cli.bench.ratio import Tick
from labkit.errors import InvariantError
from labkit.host.memory import pagemap
from labkit.host.memory.arena import arena
from labkit.host.undo import Undo
from labkit.host.watch.tracefs.cost import drain_ns, event_ns, fill
from labkit.host.watch.tracefs.instance import Instance
from labkit.witness.host_source import HostSource
from labkit.witness.outcome import Outcome
from labkit.witness.source import Asked, AskedIo

_GIB, _PAGE = 1 << 30, 4096
_BULK = 10_000
_IOS = 200


class Cost(NamedTuple):
    """What `name` takes, in ns: the least, or the median, of several times, as `how` says; `aim` is wished for."""

    name: str
    ns: float
    aim: float
    how: str

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {**self._asdict(), "ns": round(self.ns, 1), "reached": self.ns <= self.aim}


def measure(rounds: int, tick: Tick) -> list[Cost]:
    """Measure everything once, of `rounds` times each. Raises NotAllowed where this machine does not let it be."""
    return [*_events(rounds, tick), _pagemap(rounds, tick), _whole(tick)]


def _events(rounds: int, tick: Tick) -> list[Cost]:
    """Measure an event of a system call, and its way out of the ring buffer."""
    tick("an event")
    with Undo() as undo, Instance(undo) as instance:
        event = event_ns(instance, rounds=rounds)
        tick("parsing events")
        drained = []
        for _ in range(rounds):
            fill(instance, _BULK)
            spent, events = drain_ns(instance)
            drained.append(spent / len(events))
    return [
        Cost(
            "an event that is recorded", event.recorded, 130, f"more than none, CPU, least of {rounds} x 20,000 calls"
        ),
        Cost(
            "the recording of it alone", event.recorded - event.stopped, 130, "more than a stopped instance, the same"
        ),
        Cost("an event that its filter rejects", event.rejected, 130, "more than none, the same"),
        Cost("reading and parsing an event", min(drained), 2000, f"least of {rounds} x {_BULK} events"),
    ]


def _pagemap(rounds: int, tick: Tick) -> Cost:
    """Measure the runs of 1 GiB of touched memory."""
    tick("the frames of 1 GiB")
    whole = arena(_GIB)
    memory = np.frombuffer(whole, np.uint8)
    memory[::_PAGE] = 1
    address = int(memory.ctypes.data)
    found = [_timed(partial(pagemap.runs, address, _GIB)) for _ in range(rounds)]
    return Cost("pagemap of 1 GiB, with its runs", min(found), 15e6, f"least of {rounds}, 4 KiB pages")


def _whole(tick: Tick) -> Cost:
    """Measure 4 KiB of direct IO: captured, predicted, and compared."""
    tick("captured, predicted, compared")
    chance, spent = Random(1), []  # noqa: S311 - a seeded row
    with HostSource(told=False) as source:
        for at in range(_IOS):
            io = AskedIo("rw"[at % 2], chance.randrange(1024) * _PAGE, ((chance.randrange(1024) * _PAGE, _PAGE),))
            asked = Asked(str(at), "4KiB-shuffled", "pread", (io,))
            spent.append(_timed(partial(_held_against, source, asked)))
    return Cost("4 KiB captured, predicted and compared", statistics.median(spent), 2e6, f"median of {_IOS}")


def _held_against(source: HostSource, asked: Asked) -> None:
    """Capture, predict and compare. Raises InvariantError where they differ: then it is no measure of anything."""
    outcome = Outcome.of(asked, source.capture(asked))
    if not outcome.exact:
        raise InvariantError("bench", outcome.first, "is not what the rules say", errno.EPROTO)


def _timed(work: Callable[[], object]) -> int:
    """Return how many ns `work` takes."""
    before = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - before
