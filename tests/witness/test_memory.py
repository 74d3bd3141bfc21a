import builtins

import pytest

from labkit.errors import NotAllowed
from labkit.host import vvar
from labkit.witness import memory
from labkit.witness.demos import DEMOS


def kept():
    return memory.answers(DEMOS["memory-kinds"].replay().seen.rows)


@pytest.fixture
def answers():
    try:
        return memory.ask()
    except NotAllowed as no:
        pytest.skip(str(no))


def test_the_model_of_today_agrees_with_what_was_recorded():
    found = kept()
    assert [each.kind for each in found] == ["4KiB", "zero", "memfd", "secretmem", "vvar"]
    assert all(each.agree for each in found)


def test_what_direct_io_refuses_a_copy_may_read():
    found = {each.kind: each for each in kept()}
    assert found["vvar"] == ("vvar", "-EFAULT", "-EFAULT", "-EFAULT", 4096)
    assert found["4KiB"] == ("4KiB", 4096, 4096, 4096, 4096)


def test_a_wrong_model_is_found_out(monkeypatch):
    monkeypatch.setattr(memory, "_model", lambda _system, _kind: 4096)
    assert [each.kind for each in kept() if not each.agree] == ["secretmem", "vvar"]


def test_this_kernel_is_asked_about_the_same_kinds(answers):
    assert [each.kind for each in answers if each.kind != "secretmem"] == ["4KiB", "zero", "memfd", "vvar"]
    assert all(each.buffered == vvar.NBYTES for each in answers)


def test_a_python_without_fcntl_is_not_allowed_rather_than_broken(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **knobs):
        if name == "labkit.host" and "vvar" in (args[2] or ()):
            raise ImportError("No module named 'fcntl'", name="fcntl")
        return real(name, *args, **knobs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotAllowed, match="lacks fcntl: run it on Linux"):
        memory.ask()
