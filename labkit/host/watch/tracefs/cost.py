"""What watching costs: the CPU time of an event that is recorded or rejected, and the time to hand events over."""

import os
import threading
import time
from typing import NamedTuple

from labkit.host.watch.tracefs.formats import Event
from labkit.host.watch.tracefs.instance import Instance

_EVENT, _OTHER = "syscalls:sys_enter_getppid", "syscalls:sys_enter_getpgrp"


class EventCost(NamedTuple):
    """What a tracepoint that is passed costs, in ns of CPU time more than without its event.

    Where the event is `recorded`, where its filter `rejected` it, and where it is on and the instance `stopped`.
    """

    recorded: float
    rejected: float
    stopped: float


def event_ns(instance: Instance, *, rounds: int = 25, calls: int = 20_000) -> EventCost:
    """Measure it on getppid(), called `calls` times in each state in turn; the least of `rounds` counts.

    An event of another system call is on all the time: with one, every call takes a longer way, which is no event's
    cost. Raises NotAllowed where this kernel has no events of system calls, SyscallError ENOBUFS.
    """
    mine = f"common_pid == {threading.get_native_id()}"
    without, stopped, recorded, rejected = list[int](), list[int](), list[int](), list[int]()
    instance.enable(_OTHER)
    for _ in range(rounds):
        without.append(_called(calls))
        for where, spent in ((mine, recorded), (mine.replace("==", "!="), rejected)):
            instance.enable(_EVENT, where)
            stopped.append(_called(calls))
            instance.start()
            spent.append(_called(calls))
            instance.stop()
            instance.disable(_EVENT)
            instance.drain()
    instance.disable(_OTHER)
    return EventCost(*((min(each) - min(without)) / calls for each in (recorded, rejected, stopped)))


def fill(instance: Instance, events: int) -> None:
    """Let `instance` record so many events, of getppid(). Raises NotAllowed where this kernel has none of them."""
    instance.enable(_EVENT, f"common_pid == {threading.get_native_id()}")
    instance.start()
    _called(events)
    instance.stop()
    instance.disable(_EVENT)


def drain_ns(instance: Instance) -> tuple[int, list[Event]]:
    """Return the ns that a drain takes, and the events that it gives. Raises as `Instance.drain` does."""
    before = time.perf_counter_ns()
    events = instance.drain()
    return time.perf_counter_ns() - before, events


def _called(calls: int) -> int:
    """Return ns of CPU time of so many calls of getppid()."""
    call = os.getppid
    before = time.thread_time_ns()
    for _ in range(calls):
        call()
    return time.thread_time_ns() - before
