import errno
import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls import mounts
from labkit.host.undo import Undo
from labkit.host.watch.tracefs.instance import Instance

CALL = "syscalls:sys_enter_getppid"
RETURN = "syscalls:sys_exit_getppid"


@pytest.fixture
def trace(undo):
    """An instance that records the getppid() of this thread."""
    with Instance(undo) as instance:
        watch(instance, CALL, RETURN)
        yield instance


def watch(instance, *events):
    for event in events:
        instance.enable(event, f"common_pid == {threading.get_native_id()}")


def instances():
    return sorted(path.name for path in (mounts.tracefs() / "instances").glob(f"labkit-{os.getpid()}-*"))


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.host
def test_an_event_lies_between_before_and_after_by_the_clock_of_python(trace):
    before = time.monotonic_ns()
    trace.start()
    parent = os.getppid()
    trace.stop()
    after = time.monotonic_ns()
    enter, leave = trace.drain()
    assert before < enter.t < leave.t < after
    assert (enter.name, leave.name) == (CALL, RETURN)
    assert leave.fields["ret"] == parent
    assert enter.pid == leave.pid == threading.get_native_id()


@pytest.mark.host
def test_what_was_drained_is_not_drained_again(trace):
    trace.start()
    os.getppid()
    trace.stop()
    assert len(trace.drain()) == 2
    assert trace.drain() == []


@pytest.mark.host
def test_nothing_is_recorded_before_start_and_after_stop(trace):
    os.getppid()
    trace.start()
    trace.stop()
    os.getppid()
    assert trace.drain() == []


@pytest.mark.host
def test_a_pause_of_more_than_27_bits_of_ns_is_told_right(trace):
    trace.start()
    os.getppid()
    before = time.monotonic_ns()
    time.sleep(0.2)
    os.getppid()
    trace.stop()
    events = trace.drain()
    assert events[1].t < before
    assert events[2].t - before > 200_000_000 > 1 << 27


@pytest.mark.host
def test_many_sub_buffers_are_read_to_the_end_in_the_order_of_time(trace):
    trace.start()
    for _ in range(10_000):
        os.getppid()
    trace.stop()
    events = trace.drain()
    assert [event.name for event in events] == [CALL, RETURN] * 10_000
    assert all(first.t <= second.t for first, second in itertools.pairwise(events))


@pytest.mark.host
def test_events_of_all_cpus_are_merged_by_time(trace):
    if len(cpus := sorted(os.sched_getaffinity(0))) < 2:
        pytest.skip("one CPU here, nothing to merge")
    trace.start()
    try:
        for at in range(20):
            os.sched_setaffinity(0, {cpus[at % 2]})
            os.getppid()
    finally:
        os.sched_setaffinity(0, cpus)
        trace.stop()
    assert [event.cpu for event in trace.drain() if event.name == CALL] == [cpus[0], cpus[1]] * 10


@pytest.mark.host
def test_events_that_are_lost_are_an_error_which_counts_them_and_the_next_drain_is_good(undo):
    with Instance(undo, kib=8) as small, Instance(undo) as large:
        for instance in (small, large):
            watch(instance, CALL)
            instance.start()
        for _ in range(2000):
            os.getppid()
        small.stop()
        large.stop()
        kept = sum(int((small.path / f"per_cpu/cpu{n}/stats").read_text().split()[1]) for n in range(os.cpu_count()))
        with pytest.raises(SyscallError) as lost:
            small.drain()
        assert str(lost.value) == (
            f"tracefs: {2000 - kept} events are lost: the ring buffer of 8 KiB for each CPU was full, "
            "take a larger one (kib) (-ENOBUFS)"
        )
        assert len(large.drain()) == 2000
        assert small.drain() == []
        small.start()
        os.getppid()
        small.stop()
        assert [event.name for event in small.drain()] == [CALL]


@pytest.mark.host
def test_a_filter_keeps_out_what_it_does_not_hold_for(undo):
    with Instance(undo) as trace:
        trace.enable(CALL, f"common_pid != {threading.get_native_id()}")
        trace.start()
        os.getppid()
        trace.stop()
        assert threading.get_native_id() not in {event.pid for event in trace.drain()}


@pytest.mark.host
def test_an_event_that_is_disabled_is_recorded_no_more(trace):
    trace.start()
    os.getppid()
    trace.disable(RETURN)
    os.getppid()
    trace.stop()
    assert [event.name for event in trace.drain()] == [CALL, RETURN, CALL]


@pytest.mark.host
@pytest.mark.parametrize("event", ["block:block_nothing", "nobody:nothing"])
def test_an_event_that_the_kernel_has_not_is_not_allowed_with_the_remedy(trace, event):
    rule = f"{event} is no tracepoint of this kernel: take a newer one, or one with CONFIG_EVENT_TRACING"
    with pytest.raises(NotAllowed, match=rule):
        trace.enable(event)


@pytest.mark.host
@pytest.mark.parametrize("event", ["block", "block:../block_rq_issue", "", "block:", "a:b:c"])
def test_what_is_not_named_as_an_event_is_bad_input(trace, event):
    with pytest.raises(BadInput, match="is not of the form group:name"):
        trace.enable(event)


@pytest.mark.host
def test_a_filter_that_the_kernel_does_not_take_is_bad_input_in_its_words(undo):
    with Instance(undo) as trace, pytest.raises(BadInput) as bad:
        trace.enable("block:block_rq_issue", "colour == 3")
    said = "tracefs: block:block_rq_issue if 'colour == 3' is no filter: parse_error: Field not found (-EINVAL)"
    assert str(bad.value) == said


@pytest.mark.host
def test_an_event_that_nobody_asked_for_is_an_error(trace):
    trace.start()
    (trace.path / "trace_marker").write_text("somebody was here")
    trace.stop()
    with pytest.raises(SyscallError, match=r"an event of type \d+ in labkit-.* was asked for: .*EBADMSG"):
        trace.drain()


@pytest.mark.host
def test_nobody_can_remove_an_instance_that_is_open_and_nothing_is_left_of_a_closed_one(undo):
    trace = Instance(undo)
    with pytest.raises(OSError, match="busy"):
        trace.path.rmdir()
    assert instances() == [trace.path.name]
    trace.close()
    trace.close()
    assert instances() == []


@pytest.mark.host
def test_a_closed_instance_is_gone(undo):
    with Instance(undo) as trace:
        pass
    for use in (trace.start, trace.stop, trace.drain, lambda: trace.enable(CALL), lambda: trace.disable(CALL)):
        with pytest.raises(NotAllowed, match="is gone: it was closed, or somebody removed it; begin again") as gone:
            use()
        assert gone.value.errno == errno.ENODEV


@pytest.mark.host
def test_an_instance_that_cannot_be_prepared_leaves_nothing(undo):
    Instance(undo).close()
    before = open_files()
    with pytest.raises(SyscallError, match="ask for a smaller kib"):
        Instance(undo, kib=1 << 40)
    assert instances() == []
    assert open_files() == before


def test_an_instance_that_vanished_at_once_is_one_sentence(tmp_path):
    class Nowhere(Undo):
        def make_instance(self, name):
            return tmp_path / name

    with pytest.raises(NotAllowed, match=r"tracefs: instance labkit-\d+-[0-9a-f]{8} is gone: .* \(-ENODEV\)"):
        Instance(Nowhere())


LEFT_OPEN = """
import sys, time
from labkit.host.watch.tracefs.instance import Instance
from labkit.host.undo import Undo
trace = Instance(Undo())
trace.enable("syscalls:sys_enter_getppid", "common_pid == 1")
trace.start()
print(trace.path.name, flush=True)
{then}
"""


@pytest.mark.host
@pytest.mark.usefixtures("undo")
@pytest.mark.parametrize("then", ["sys.exit(3)", "1 / 0"])
def test_an_instance_that_was_left_open_is_gone_with_the_interpreter(start, then):
    child = start(LEFT_OPEN.format(then=then))
    name = child.stdout.readline().strip()
    assert name.startswith(f"labkit-{child.pid}-")
    child.wait(20)
    assert not (mounts.tracefs() / "instances" / name).exists()


@pytest.mark.host
@pytest.mark.usefixtures("undo")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_instance_of_a_killed_process_is_gone_at_the_next_call(start, number):
    child = start(LEFT_OPEN.format(then="time.sleep(60)"))
    place = mounts.tracefs() / "instances" / child.stdout.readline().strip()
    assert place.exists()
    child.send_signal(number)
    child.wait(20)
    with Undo():
        assert not place.exists()
