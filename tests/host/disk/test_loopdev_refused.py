import errno
import fcntl
import itertools
import os
import signal
from pathlib import Path

import pytest

from labkit.errors import LabkitError, NotAllowed, SyscallError
from labkit.host.calls import loop_ioctl
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.arena import arena

MIB = 1 << 20


@pytest.mark.host
def test_a_number_that_somebody_else_took_is_not_used(monkeypatch):
    with LoopDevice.attach(MIB) as first:
        taken, real = int(first.path.removeprefix("/dev/loop")), loop_ioctl.get_free
        answers = [taken, taken]
        monkeypatch.setattr(loop_ioctl, "get_free", lambda control: answers.pop() if answers else real(control))
        with LoopDevice.attach(MIB) as second:
            assert answers == []
            assert second.path != first.path
        assert first.pwritev([arena(512)], 0) == 512


@pytest.mark.host
def test_a_system_whose_numbers_are_all_taken_is_busy(left, monkeypatch):
    with LoopDevice.attach(MIB) as first:
        monkeypatch.setattr(loop_ioctl, "get_free", lambda _: int(first.path.removeprefix("/dev/loop")))
        with pytest.raises(NotAllowed, match=r"loop: LOOP_CONFIGURE is in use: end what uses it \(-EBUSY\)"):
            LoopDevice.attach(MIB)
        assert left() == ([first.path], [first.backing.name])
        assert first.pwritev([arena(512)], 0) == 512


INJECTED = [
    (os, "open"),
    (os, "fstat"),
    (os, "ftruncate"),
    (os, "listdir"),
    (fcntl, "flock"),
    (fcntl, "ioctl"),
    (os, "mkdir"),
    (Path, "exists"),
    (os, "stat"),
    (Path, "read_text"),
    (signal, "signal"),
]


def traces_of(left, place):
    """What an attach could leave: devices, files, fds, handlers, a signal mask."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    fds = sorted(Path("/proc/self/fd").iterdir())
    handlers = [signal.getsignal(number) for number in numbers]
    return left(), list(place.iterdir()), len(fds), handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ())


def attach_failing_at(step, error, monkeypatch):
    """Attach once, raising at call number `step` of the injected ones; return (where, what was raised)."""
    calls = itertools.count()
    where = []

    def wrap(name, real):
        def call(*args, **kwargs):
            if next(calls) == step:
                where.append(name)
                raise type(error)(*error.args)
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(
            loop_ioctl, "attached", lambda: iter(())
        )  # else others' devices, as they come and go, shift steps
        for owner, name in INJECTED:
            patch.setattr(owner, name, wrap(name, getattr(owner, name)))
        try:
            device = LoopDevice.attach(MIB)
        except (LabkitError, KeyboardInterrupt) as raised:
            return where, raised
    device.detach()
    return where, None


@pytest.mark.host
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.EBUSY, "busy"), OSError(errno.EPERM, "no"), KeyboardInterrupt()],
    ids=["ENOSPC", "EBUSY", "EPERM", "KeyboardInterrupt"],
)
def test_a_failure_at_any_step_of_attach_leaves_nothing(left, place, monkeypatch, error):
    before, failed = traces_of(left, place), set()
    for step in itertools.count():
        where, raised = attach_failing_at(step, error, monkeypatch)
        assert traces_of(left, place) == before, where
        if not where:
            break
        if raised:
            failed.add(where[0])
            assert getattr(raised, "errno", None) in {getattr(error, "errno", None), errno.EBUSY}
    assert step > 15
    assert {"open", "ftruncate", "flock", "mkdir", "stat", "fstat"} <= failed
    assert "ioctl" in failed or error.errno == errno.EBUSY


@pytest.mark.host
@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, NotAllowed), (errno.ENOENT, NotAllowed)])
def test_without_loop_control_the_error_names_the_remedy(left, monkeypatch, number, kind):
    real = os.open

    def refuse(path, *args, **kwargs):
        if path == "/dev/loop-control":
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        kind, match=r"loop: /dev/loop-control .* or simulate one: labkit run --device nvme \(-E"
    ) as caught:
        LoopDevice.attach(MIB)
    assert caught.value.exit_code == 3
    assert left() == ([], [])


@pytest.mark.host
def test_a_directory_of_somebody_else_is_not_used(place, left):
    (place / f"labkit-{os.geteuid()}").mkdir(mode=0o777)
    (place / f"labkit-{os.geteuid()}").chmod(0o777)
    with pytest.raises(NotAllowed, match=r"is not private to this user: .* set TMPDIR .* \(-EPERM\)"):
        LoopDevice.attach(MIB)
    assert left() == ([], [])


@pytest.mark.host
def test_a_file_in_place_of_the_directory_is_named(place):
    (place / f"labkit-{os.geteuid()}").touch()
    with pytest.raises(SyscallError, match=r"loop: TMPDIR fails: Not a directory \(-ENOTDIR\)"):
        LoopDevice.attach(MIB)


@pytest.mark.host
def test_a_directory_that_is_not_there_is_named(place):
    with pytest.raises(SyscallError, match=r"loop: .*/nowhere fails: No such file or directory \(-ENOENT\)"):
        LoopDevice.attach(MIB, directory=place / "nowhere")


DROP = """
import contextlib, io, os
from pathlib import Path
from labkit.cli.doctor import doctor
from labkit.errors import NotAllowed
from labkit.host.disk.loopdev import LoopDevice
with contextlib.redirect_stdout(io.StringIO()):
    doctor(json=True), doctor(json=False)  # import while root what is imported late
LoopDevice.attach(4096).detach()
Path.cwd().chmod(0o777)
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
try:
    LoopDevice.attach(4096)
except NotAllowed as error:
    print(error, error.exit_code)
print(doctor(json=True))
"""


@pytest.mark.host
def test_an_ordinary_user_is_told_the_remedy(start, place):
    child = start(DROP)
    out, err = child.communicate(timeout=60)
    lines = out.splitlines()
    assert child.returncode == 0, err
    assert (
        lines[0]
        == "loop: /dev/loop-control needs root: run as root, or simulate one: labkit run --device nvme (-EACCES) 3"
    )
    assert '"loop": false' in lines[1]
    assert '"pagemap": false' in lines[1]
    assert lines[2] == "0"
    assert list(place.glob("labkit-*")) == []
