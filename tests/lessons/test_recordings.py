import errno

import pytest

from labkit.errors import NotAllowed
from labkit.host import vvar
from labkit.host.disk.loopdev import LoopDevice
from labkit.lessons.recordings import kernel_or_recorded, real_or_recorded
from labkit.trace.events import SysExit
from labkit.witness.record import RECORDINGS


@pytest.fixture
def no_loop(monkeypatch):
    def refuse(*_args, **_knobs):
        raise NotAllowed("loop", "/dev/loop-control", "needs root: run as root", errno.EACCES)

    monkeypatch.setattr(LoopDevice, "attach", refuse)


@pytest.mark.usefixtures("no_loop")
@pytest.mark.parametrize("name", RECORDINGS)
def test_without_a_loop_device_the_recording_is_shown_and_said_to_be_one(name, capsys):
    trace = real_or_recorded(name)
    said = capsys.readouterr().out
    assert said.startswith("loop: /dev/loop-control needs root: run as root (-EACCES). Shown instead: a recording of")
    assert trace.meta["recorded"]["kernel"] in said
    assert trace.of(SysExit)[0].ret == 65536


@pytest.mark.host
def test_with_a_loop_device_the_run_is_real_and_of_now(capsys):
    trace = real_or_recorded("first-io-loop")
    assert "Run just now on loop" in capsys.readouterr().out
    assert "recorded" not in trace.meta


@pytest.mark.usefixtures("no_loop")
def test_an_unknown_name_is_no_recording():
    with pytest.raises(KeyError):
        real_or_recorded("second-io")


def test_a_kernel_that_may_not_be_asked_is_replaced_by_a_recording_that_says_so(monkeypatch, capsys):
    def refuse():
        raise NotAllowed("vvar", "/tmp", "does no O_DIRECT: set TMPDIR", errno.EINVAL)  # noqa: S108 - no file is made

    monkeypatch.setattr(vvar, "ask", refuse)
    answers = {answer.kind: answer for answer in kernel_or_recorded()}
    said = capsys.readouterr().out
    assert said.startswith("vvar: /tmp does no O_DIRECT: set TMPDIR (-EINVAL). Shown instead: a recording of 2026")
    assert said.endswith("Linux 6.18.44.\n")
    assert answers["vvar"].kernel == "-EFAULT"


def test_a_kernel_that_is_asked_is_said_to_be_asked_now(monkeypatch, capsys):
    monkeypatch.setattr(vvar, "ask", lambda: (vvar.Said("vvar", 4096, 4096),))
    (answer,) = kernel_or_recorded()
    assert "Asked just now" in capsys.readouterr().out
    assert answer == ("vvar", "-EFAULT", "-EFAULT", 4096, 4096)
    assert not answer.agree
