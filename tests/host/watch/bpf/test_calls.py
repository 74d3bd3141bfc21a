import errno
import os

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.watch.bpf import calls
from labkit.host.watch.bpf.assembler import assemble


@pytest.fixture
def refusing(monkeypatch):
    """A kernel that says no."""

    def refuse(number):
        monkeypatch.setattr(calls, "syscall", lambda *_: -1)
        monkeypatch.setattr(calls.ctypes, "get_errno", lambda: number)

    return refuse


@pytest.mark.parametrize("number", [1, 13])
def test_whoever_may_not_is_told_to_be_root(refusing, number):
    refusing(number)
    with pytest.raises(NotAllowed, match="bpf: a map needs CAP_BPF and CAP_PERFMON: run as root, or go without"):
        calls.map_create(calls.ARRAY, 4, 8, 1)


@pytest.mark.parametrize("number", [22, 38, 2])
def test_a_kernel_that_cannot_is_told_by_its_errno(refusing, number):
    refusing(number)
    with pytest.raises(NotAllowed, match=rf"tp is refused, {os.strerror(number)}: run Linux 5.8 or newer") as no:
        calls.attach(3, "tp")
    assert no.value.errno == number


@pytest.mark.parametrize("number", [12, 24])
def test_what_has_no_room_is_an_error_of_the_call(refusing, number):
    refusing(number)
    with pytest.raises(SyscallError, match=rf"bpf: a map does not fit: {os.strerror(number)}"):
        calls.map_create(calls.RINGBUF, 0, 0, 4096)


def test_a_kernel_that_was_interrupted_is_asked_again(monkeypatch):
    answers = iter([-1, -1, 7])
    monkeypatch.setattr(calls, "syscall", lambda *_: next(answers))
    monkeypatch.setattr(calls.ctypes, "get_errno", lambda: errno.EAGAIN)
    assert calls.attach(3, "tp") == 7


def test_a_kernel_that_is_always_interrupted_is_not_asked_for_ever(refusing):
    refusing(errno.EAGAIN)
    with pytest.raises(NotAllowed, match="tp is refused, Resource temporarily unavailable"):
        calls.attach(3, "tp")


def test_a_machine_whose_number_is_unknown_is_told_so(monkeypatch):
    monkeypatch.setattr(calls.platform, "machine", lambda: "pdp11")
    with pytest.raises(NotAllowed, match=r"pdp11 has no known number for bpf\(2\): use x86_64 or aarch64"):
        calls.lookup(3, 0)


def test_lockdown_is_seen_before_the_kernel_is_asked(monkeypatch, tmp_path, refusing):
    (tmp_path / "lockdown").write_text("none integrity [confidentiality]\n")
    monkeypatch.setattr(calls, "_LOCKDOWN", tmp_path / "lockdown")
    with pytest.raises(NotAllowed, match="forbids to read the kernel's memory: boot without lockdown=confidentiality"):
        calls.load(bytes(8), "x")
    (tmp_path / "lockdown").write_text("none [integrity] confidentiality\n")
    refusing(22)
    with pytest.raises(NotAllowed, match="the program x is refused"):
        calls.load(bytes(8), "x")


@pytest.mark.host
def test_a_program_is_loaded_and_one_that_reads_anywhere_is_not():
    try:
        fd = calls.load(assemble("r0 = 0\nexit"), "labkit_test")
    except NotAllowed as no:
        pytest.skip(str(no))
    assert calls.recursion_misses(fd) == 0
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(NotAllowed, match="bpf: the program labkit_test"):
        calls.load(assemble("r1 = *(u64 *)(r1 + 0)\nr0 = *(u64 *)(r1 + 0)\nexit"), "labkit_test")
    with pytest.raises(NotAllowed, match="bpf: no_such_tracepoint is refused"):
        attach_to_nothing()


def attach_to_nothing():
    fd = calls.load(assemble("r0 = 0\nexit"), "labkit_test")
    try:
        calls.attach(fd, "no_such_tracepoint")
    finally:
        os.close(fd)
