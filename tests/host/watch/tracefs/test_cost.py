import os
import threading

import pytest

from labkit.host.watch.tracefs.cost import drain_ns, event_ns
from labkit.host.watch.tracefs.instance import Instance


@pytest.mark.host
def test_an_event_costs_more_where_it_is_recorded_than_where_it_is_rejected(undo):
    with Instance(undo) as instance:
        cost = event_ns(instance, rounds=10, calls=5000)
        assert instance.drain() == []
    assert 0 < cost.rejected < cost.recorded < 10_000
    assert 0 < cost.stopped < cost.recorded


@pytest.mark.host
def test_a_drain_is_timed_with_the_events_that_it_gives(undo):
    with Instance(undo) as instance:
        instance.enable("syscalls:sys_exit_getppid", f"common_pid == {threading.get_native_id()}")
        instance.start()
        for _ in range(4):
            os.getppid()
        instance.stop()
        spent, events = drain_ns(instance)
        assert len(events) == 4
        assert 0 < spent < 1_000_000_000
        assert drain_ns(instance)[1] == []
