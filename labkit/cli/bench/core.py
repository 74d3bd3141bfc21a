"""The timing core alone, no bytes and no trace: jobs on the Clock with Servers, against a heap written by hand."""

import errno
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import NamedTuple

from labkit.cli.bench.ratio import Ratio, Tick, cpu_seconds
from labkit.errors import InvariantError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.device import Server

JOBS, IOS = 32, 20_000


class Timing(NamedTuple):
    """What an IO takes, in ns."""

    submit: int = 1_500
    die: int = 60_000
    link: int = 569
    irq: int = 2_000
    dies: int = 32


TIMING = Timing()
Work = list[list[tuple[int, int]]]
"""Of each job, the (ns to think, number of the die) of its IOs."""


def work(seed: int = 7) -> Work:
    """Return the work of all jobs."""
    chance, each = Random(seed), IOS // JOBS  # noqa: S311 - a seeded row
    return [[(chance.randrange(20_000), chance.randrange(TIMING.dies)) for _ in range(each)] for _ in range(JOBS)]


def readable(todo: Work) -> tuple[float, list[int]]:
    """Return CPU seconds and when each IO ended, as the lab would write it."""
    clock, done = Clock(), list[int]()
    dies, link = [Server(clock) for _ in range(TIMING.dies)], Server(clock)
    for each in todo:
        clock.job(_job(clock, each, dies, link, done))
    with cpu_seconds() as spent:
        clock.run()
    return spent[0], done


def _job(clock: Clock, todo: list[tuple[int, int]], dies: list[Server], link: Server, done: list[int]) -> Steps:
    for think, die in todo:
        yield think + TIMING.submit
        yield dies[die].reserve(TIMING.die) + TIMING.die
        yield link.reserve(TIMING.link) + TIMING.link
        yield TIMING.irq
        done.append(clock.now)


def by_hand(todo: Work) -> tuple[float, list[int]]:
    """Return the same, of a state machine in one loop over one heap."""
    submit, die_ns, link_ns, irq, _ = TIMING
    free, link, done, number = [0] * TIMING.dies, 0, list[int](), count()
    heap, at = list[tuple[int, int, int, int, int]](), [0] * JOBS
    for job, each in enumerate(todo):
        heappush(heap, (each[0][0] + submit, next(number), 0, job, each[0][1]))
    with cpu_seconds() as spent:
        while heap:
            now, _, step, job, die = heappop(heap)
            if step == 0:
                free[die] = due = max(free[die], now) + die_ns
            elif step == 1:
                link = due = max(link, now) + link_ns
            elif step == 2:  # noqa: PLR2004 - steps of the loop
                due = now + irq
            else:
                done.append(now)
                at[job] += 1
                if at[job] == len(todo[job]):
                    continue
                think, die = todo[job][at[job]]
                step, due = -1, now + think + submit
            heappush(heap, (due, next(number), step + 1, job, die))
    return spent[0], done


def compare(rounds: int, tick: Tick) -> Ratio:
    """Measure both in turn. Raises InvariantError where completion times are not the same."""
    todo, pairs = work(), []
    for _ in range(rounds):
        tick("timing core")
        theirs, ours = by_hand(todo), readable(todo)
        if theirs[1] != ours[1]:
            raise InvariantError("bench", f"{IOS} IOs", "do not end at the same ns in both loops", errno.EIO)
        pairs.append((IOS / ours[0], IOS / theirs[0]))
    return Ratio.of("timing core: jobs and servers, no bytes", pairs, "a heapq loop by hand", "IO/CPU s", 0.25)
