import fcntl
import os
import random
import signal
import threading
import time

import pytest

from labkit.host import signals
from labkit.host.disk.loopdev import LoopDevice, sweep
from labkit.host.wait import wait_until

MIB = 1 << 20
IO = """
from labkit.host.memory.arena import arena
from labkit.host.disk.loopdev import LoopDevice
device = LoopDevice.attach(1 << 24)
view = arena(1 << 20)
print(device.path, flush=True)
while True:
    device.pwritev([view], 0)
    device.preadv([view], 1 << 20)
"""
WITH = IO.replace("device = LoopDevice.attach(1 << 24)", "import contextlib\nstack = contextlib.ExitStack()").replace(
    "view = ", "device = stack.enter_context(LoopDevice.attach(1 << 24))\nview = "
)
CYCLE = """
from labkit.host.disk.loopdev import LoopDevice
print("go", flush=True)
while True:
    with LoopDevice.attach(1 << 20):
        pass
"""
FORK = """
import os, sys
from labkit.host.memory.arena import arena
from labkit.host.disk.loopdev import LoopDevice
with LoopDevice.attach(1 << 20) as device:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    assert device.backing.exists()
    print(device.pwritev([arena(512)], 0), device.peek(0, 1))
"""


@pytest.mark.host
@pytest.mark.parametrize("script", [IO, WITH], ids=["bare", "with"])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_in_the_middle_of_io_detaches(start, left, script, number, status):
    child = start(script)
    device = child.stdout.readline().strip()
    time.sleep(0.05)
    assert left()[0] == [device]
    assert len(left()[1]) == 1
    child.send_signal(number)
    assert child.wait(30) == status
    assert left() == ([], [])


@pytest.mark.host
def test_sigkill_in_the_middle_of_io_detaches_and_the_next_sweep_removes_the_file(start, left):
    child = start(IO)
    device = child.stdout.readline().strip()
    time.sleep(0.05)
    assert left()[0] == [device]
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    assert wait_until(lambda: left()[0] == [], 5)
    (file,) = left()[1]
    (line,) = [line for line in sweep() if file in line]
    assert line.endswith(file)
    assert left() == ([], [])


@pytest.mark.host
def test_a_device_that_outlives_its_owner_does_not_hold_the_lock(start, left, place):
    child = start(IO)
    device = child.stdout.readline().strip()
    fd = os.open(device, os.O_RDONLY)
    try:
        child.kill()
        assert child.wait(30) == -signal.SIGKILL
        ((_, (file,)), (home,)) = left(), place.iterdir()
        assert left()[0] == [device]
        with (home / file).open() as backing:
            fcntl.flock(backing, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
    assert left() == ([], [file])
    assert str(home / file) in sweep()


@pytest.mark.host
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_signal_at_any_moment_leaves_no_device(start, left, number):
    dice = random.Random(number)  # dice, not secrets
    for _ in range(6):
        child = start(CYCLE)
        assert child.stdout.readline() == "go\n"
        time.sleep(dice.uniform(0, 0.03))
        child.send_signal(number)
        assert child.wait(30) != 0
        assert wait_until(lambda: left()[0] == [], 5)
        if number != signal.SIGKILL:
            assert left() == ([], [])
    sweep()
    assert left() == ([], [])


@pytest.mark.host
def test_the_end_of_the_process_detaches(start, left):
    child = start(IO.replace("while True", "for _ in range(3)"))
    assert child.stdout.readline().startswith("/dev/loop")
    assert child.wait(30) == 0
    assert left() == ([], [])


@pytest.mark.host
def test_the_exit_of_a_forked_child_takes_nothing_from_its_parent(start, left):
    child = start(FORK)
    assert child.communicate(timeout=30) == ("512 b'\\x00'\n", "")
    assert left() == ([], [])


@pytest.mark.host
def test_the_dispositions_come_back_with_the_last_device():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with LoopDevice.attach(MIB):
        with LoopDevice.attach(MIB):
            pass
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.host
def test_a_handler_of_somebody_else_is_kept():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with LoopDevice.attach(MIB):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIGTERM, signal.SIGTERM]


@pytest.mark.host
def test_a_handler_that_came_later_is_kept():
    with LoopDevice.attach(MIB):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.host
def test_outside_the_main_thread_no_handler_is_set(left):
    devices = []
    thread = threading.Thread(target=lambda: devices.append(LoopDevice.attach(MIB)))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    devices[0].detach()
    assert left() == ([], [])


def test_a_held_signal_comes_when_the_step_is_done():
    done = []

    def step():
        with signals.held():
            signal.raise_signal(signal.SIGINT)
            done.append("step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["step"]


def test_a_first_ctrl_c_is_taken_and_a_second_is_raised():
    taken = []
    with signals.taken(taken.append):
        signal.raise_signal(signal.SIGINT)
        assert [type(bad) for bad in taken] == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(taken) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_of_somebody_else_stays():
    theirs, taken = [], []
    before = signal.signal(signal.SIGINT, lambda *_: theirs.append(1))
    try:
        with signals.taken(taken.append):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (theirs, taken) == ([1], [])


def test_outside_the_main_thread_ctrl_c_is_not_taken():
    inside = []

    def other():
        with signals.taken(inside.append):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert inside == [signal.default_int_handler]


def test_what_is_done_as_a_whole_is_done_before_ctrl_c_is_raised():
    done = []

    @signals.whole()
    def work():
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_end_that_comes_late_leaves_the_handler_of_who_came_after():
    first, second = signals.taken(print), signals.taken(print)
    first.__enter__()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with second:
        handler = signal.getsignal(signal.SIGINT)
        first.__exit__(None, None, None)
        assert signal.getsignal(signal.SIGINT) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_that_came_just_before_a_step_leaves_nothing_blocked(monkeypatch):
    real, calls = signal.pthread_sigmask, []
    before = real(signal.SIG_BLOCK, ())

    def interrupted(how, numbers):
        old = real(how, numbers)
        calls.append(how)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return old

    monkeypatch.setattr(signal, "pthread_sigmask", interrupted)
    with pytest.raises(KeyboardInterrupt), signals.held():
        raise AssertionError
    assert real(signal.SIG_BLOCK, ()) == before


def test_handlers_stay_until_the_last_one_gives_them_back():
    before = signal.getsignal(signal.SIGTERM)
    signals.catch()
    signals.catch()
    during = signal.getsignal(signal.SIGTERM)
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) is during is not before
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_another_thread_took_waits_as_well():
    done = []
    signals.catch()
    try:
        with pytest.raises(SystemExit) as ended, signals.held():
            done.append(signals._exit(signal.SIGTERM, None))  # so Python calls it, wherever the kernel delivered it
    finally:
        signals.restore()
    assert (done, ended.value.code) == ([None], 128 + signal.SIGTERM)
