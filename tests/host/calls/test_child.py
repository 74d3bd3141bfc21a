import errno
import os
import signal
import time
from pathlib import Path

import pytest

from labkit.errors import SyscallError
from labkit.host.calls.child import child

SCRIPT = """
import time
from labkit.host.calls.child import child
with child() as pid:
    print(pid, flush=True)
    time.sleep(60)
"""


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "XZ"


def gone(pid):
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def test_the_child_waits_and_is_gone_when_it_is_left():
    before = open_files()
    with child() as pid:
        assert pid != os.getpid()
        assert alive(pid)
    assert not Path(f"/proc/{pid}").exists()
    assert open_files() == before


def test_the_child_is_gone_where_something_fails():
    with pytest.raises(KeyError), child() as pid:
        raise KeyError
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_goes_with_who_made_it(start, number):
    parent = start(SCRIPT)
    pid = int(parent.stdout.readline())
    assert alive(pid)
    os.kill(parent.pid, number)
    parent.wait(10)
    assert gone(pid)


def test_where_no_process_can_be_had_it_is_said_so(monkeypatch):
    def refuse():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    before = open_files()
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(SyscallError, match=r"fork: this process is not copied: Resource .*\(-EAGAIN\)"), child():
        pass
    assert open_files() == before
