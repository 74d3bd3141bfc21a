import os
import re
import tempfile
import time
from pathlib import Path

import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls import mounts
from labkit.host.undo import Undo, ledger, settings
from labkit.host.undo import changes as undo

QUEUE = "/sys/block/loop{}/queue/{}"
DIES = """
import os, signal
from pathlib import Path
from labkit.host.undo import settings, changes as undo
settings._MAY = settings.re.compile(".*/setting-[a-z]+")
one = undo.Undo()
one.put(Path(os.getcwd()) / "setting-a", "064")
one.note_place(Path("/srv/other"))
os.kill(os.getpid(), signal.{})
"""


@pytest.fixture
def setting(place, monkeypatch):
    """Make files that stand for settings; each says three digits."""
    monkeypatch.setattr(settings, "_MAY", re.compile(f"{place}/setting-[a-z]+"))

    def make(name, says="000"):
        path = place / f"setting-{name}"
        path.write_text(says)
        return path

    return make


@pytest.fixture
def ledgers(place):
    return lambda: sorted(place.glob(f"labkit-{os.geteuid()}/labkit-undo-*"))


def name_of(fd):
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def test_everything_says_at_the_end_what_it_said_before(setting, ledgers):
    a, b = setting("a", "001"), setting("b", "002")
    with Undo() as changes:
        assert changes.put(a, "111") == "001"
        assert changes.put(b, "222") == "002"
        assert changes.put(a, "112") == "111"
        assert (a.read_text(), b.read_text(), len(ledgers())) == ("112", "222", 1)
    assert (a.read_text(), b.read_text(), ledgers()) == ("001", "002", [])


def test_the_newest_is_taken_back_first(setting, monkeypatch):
    order, real = [], settings.write
    with Undo() as changes:
        for name in "abc":
            changes.put(setting(name), "111")
        monkeypatch.setattr(settings, "write", lambda fd, value: order.append(name_of(fd)[-1]) or real(fd, value))
    assert order == ["c", "b", "a"]


def test_nothing_is_written_before_something_is_changed(ledgers, setting):
    with Undo() as changes:
        assert ledgers() == []
        with pytest.raises(
            NotAllowed, match=r"undo: .*/setting-none = 111 is no setting of this kernel: .* \(-ENOENT\)"
        ):
            changes.put(setting("a").with_name("setting-none"), "111")
        assert ledgers() == []


def test_it_is_noted_before_it_is_done(setting, ledgers, monkeypatch):
    path, noted = setting("a"), []
    monkeypatch.setattr(settings, "write", lambda *_: noted.extend(ledger.read(ledgers()[0]).made.values()))
    with Undo() as changes:
        changes.put(path, "111")
        (note,) = noted
        assert note[:3] == (str(path), "000", "")


def test_a_value_that_is_refused_changes_nothing_and_leaves_nothing(setting, ledgers, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    path = setting("a")
    with Undo() as changes:
        monkeypatch.setattr(settings, "write", refuse)
        with pytest.raises(SyscallError, match=r"undo: .*setting-a = 111 fails: Invalid argument \(-EINVAL\)"):
            changes.put(path, "111")
    assert (path.read_text(), ledgers()) == ("000", [])


def test_only_what_still_says_what_was_put_is_taken_back(setting, ledgers):
    a, b = setting("a"), setting("b")
    with Undo() as changes:
        changes.put(a, "111")
        changes.put(b, "111")
        a.write_text("777")
    assert (a.read_text(), b.read_text(), ledgers()) == ("777", "000", [])


def test_who_puts_again_after_a_stranger_takes_back_to_the_strangers_value(setting):
    path = setting("a")
    with Undo() as changes:
        changes.put(path, "111")
        path.write_text("777")
        assert changes.put(path, "222") == "777"
    assert path.read_text() == "777"


def test_a_part_is_taken_back_and_the_rest_later(setting, ledgers):
    a, b = setting("a"), setting("b")
    changes = Undo()
    changes.put(a, "111")
    changes.put(b, "111")
    changes.back(a)
    assert (a.read_text(), b.read_text(), len(ledgers())) == ("000", "111", 1)
    changes.close()
    changes.close()
    assert (b.read_text(), ledgers()) == ("000", [])


def test_it_can_be_used_again(setting, ledgers):
    path, changes = setting("a"), Undo()
    for _ in range(2):
        changes.put(path, "111")
        changes.back()
        assert (path.read_text(), ledgers()) == ("000", [])


def test_an_exception_takes_everything_back_and_stays_the_one_to_tell(setting):
    path = setting("a")

    def fail():
        with Undo() as changes:
            changes.put(path, "111")
            return 1 // 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "000"


def test_one_that_cannot_be_taken_back_stops_no_other_and_is_left_to_the_next_sweep(setting, ledgers, monkeypatch):
    a, b = setting("a"), setting("b")
    changes, real = Undo(), settings.write
    changes.put(a, "111")
    changes.put(b, "111")

    def refuse(fd, value):
        if name_of(fd) == str(b):
            raise OSError(16, "busy")
        real(fd, value)

    with monkeypatch.context() as patch:
        patch.setattr(settings, "write", refuse)
        with pytest.raises(NotAllowed, match=rf"undo: {b} is in use: end what uses it \(-EBUSY\)"):
            changes.back()
        assert (a.read_text(), b.read_text(), len(ledgers())) == ("000", "111", 1)
        undo.sweep()
        assert (b.read_text(), len(ledgers())) == ("111", 1)
    assert undo.sweep() == [f"{b} = 111 (is 000 again)"]
    assert (b.read_text(), ledgers()) == ("000", [])


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_takes_everything_back(setting, ledgers, start, number):
    path, child = setting("a"), start(DIES.format(number))
    child.communicate(timeout=20)
    assert child.returncode != 0
    assert (path.read_text(), ledgers()) == ("000", [])


def test_what_sigkill_leaves_is_taken_back_by_the_next_sweep(setting, ledgers, start):
    path = setting("a")
    start(DIES.format("SIGKILL")).communicate(timeout=20)
    assert (path.read_text(), len(ledgers())) == ("064", 1)
    assert undo.sweep() == [f"{path} = 064 (is 000 again)"]
    assert not list(path.parent.glob("labkit-*"))
    assert (path.read_text(), ledgers(), undo.sweep()) == ("000", [], [])


@pytest.mark.parametrize("after", [undo.sweep, Undo])
def test_every_sweep_and_every_undo_does_it(setting, ledgers, start, after):
    path = setting("a")
    start(DIES.format("SIGKILL")).communicate(timeout=20)
    after()
    assert (path.read_text(), ledgers()) == ("000", [])


def test_a_sweep_leaves_what_says_something_else_by_now(setting, ledgers, start):
    path = setting("a")
    start(DIES.format("SIGKILL")).communicate(timeout=20)
    path.write_text("777")
    assert undo.sweep() == []
    assert (path.read_text(), ledgers()) == ("777", [])


def test_what_the_kernel_takes_from_nobody_is_told_once(setting, ledgers, start, monkeypatch):
    path = setting("a")
    start(DIES.format("SIGKILL")).communicate(timeout=20)

    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(settings, "write", refuse)
    assert undo.sweep() == [f"undo: {path} fails: Invalid argument (-EINVAL)"]
    assert (undo.sweep(), ledgers(), path.read_text()) == ([], [], "064")


def test_a_sweep_leaves_the_living_alone(setting, ledgers):
    path = setting("a")
    with Undo() as changes:
        changes.put(path, "111")
        assert undo.sweep() == []
        assert (path.read_text(), len(ledgers())) == ("111", 1)


def killed_while_writing(path):
    """Leave what an owner leaves that was killed within a write: a note without what was put."""
    book = ledger.Ledger()
    book.change(str(path), "000", "", "032")
    book.close(mine=True)


def test_a_write_that_was_cut_off_is_taken_back_whatever_came_of_it(setting, ledgers):
    path = setting("a", "032")
    killed_while_writing(path)
    assert undo.sweep() == [f"{path} = 032 (is 000 again)"]
    assert (path.read_text(), ledgers()) == ("000", [])


@pytest.mark.parametrize("now", ["028", "031"])
def test_what_the_kernel_rounded_is_ours_rounded_and_not(setting, ledgers, now):
    path, book = setting("a", now), ledger.Ledger()
    book.change(str(path), "000", "028", "031")
    book.close(mine=True)
    with Undo() as changes:
        assert path.read_text() == "000"
        changes.put(path, "500")
    assert (path.read_text(), ledgers()) == ("000", [])


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("one", "other"), [("064", "128"), ("064", "064"), ("064", "000")])
def test_of_two_that_change_one_setting_neither_leaves_its_value_behind(setting, ledgers, first, one, other):
    path, both = setting("a"), (Undo(), Undo())
    both[0].put(path, one)
    both[1].put(path, other)
    both[first].back()
    both[1 - first].back()
    assert (path.read_text(), ledgers()) == ("000", [])


def test_who_ends_first_leaves_the_value_of_the_other(setting):
    path, one, other = setting("a"), Undo(), Undo()
    one.put(path, "064")
    other.put(path, "128")
    one.back()
    assert path.read_text() == "128"
    one.put(path, "256")
    one.back()
    assert path.read_text() == "128"
    one.put(path, "256")
    other.back()
    assert path.read_text() == "256"
    one.back()
    assert path.read_text() == "000"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_of_three_the_last_one_leaves_what_was_there_before_the_first(setting, order):
    path, all_three = setting("a"), [Undo() for _ in range(3)]
    for number, each in enumerate(all_three):
        each.put(path, f"{number + 1}00")
    for number in order:
        all_three[number].back()
    assert path.read_text() == "000"


def test_a_dead_owners_value_is_not_taken_for_what_was_there_before(setting, start):
    path, changes = setting("a"), Undo()
    start(DIES.format("SIGKILL")).communicate(timeout=20)
    changes.put(path, "128")
    assert undo.sweep() == []
    changes.back()
    assert path.read_text() == "000"


def test_a_forked_child_takes_nothing_back(setting):
    path = setting("a")
    with Undo() as changes:
        changes.put(path, "111")
        if not (child := os.fork()):
            changes.back()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.read_text() == "111"
    assert path.read_text() == "000"


def test_nothing_but_settings_is_put(place):
    with Undo() as changes, pytest.raises(BadInput, match=r"is none of the settings and words of labkit"):
        changes.put(place / "x", "1")


def test_a_machine_without_a_temporary_directory_is_told_so(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with Undo() as changes, pytest.raises(NotAllowed, match=r"undo: TMPDIR is no directory: set TMPDIR .* \(-ENOENT\)"):
        changes.note_place(None)


def test_an_instance_has_a_name_of_labkits():
    with Undo() as changes, pytest.raises(BadInput, match=r"undo: instance '../x' is not named labkit-<pid>-<8 hex"):
        changes.make_instance("../x")


@pytest.fixture
def free_number():
    """The number of a loop device that has no file."""
    numbers = [int(path.name[4:]) for path in Path("/sys/block").glob("loop*") if not (path / "loop").exists()]
    if not numbers:
        pytest.skip("every loop device is in use")
    return max(numbers)


@pytest.mark.host
def test_settings_of_a_detached_loop_device_are_taken_back(free_number):
    paths = {name: Path(QUEUE.format(free_number, name)) for name in ("scheduler", "nomerges")}
    before = {name: path.read_text() for name, path in paths.items()}
    with Undo() as changes:
        assert changes.put(paths["scheduler"], "mq-deadline") == "none"
        changes.put(paths["nomerges"], "1")
        assert "[mq-deadline]" in paths["scheduler"].read_text()
    assert {name: path.read_text() for name, path in paths.items()} == before


@pytest.mark.host
def test_the_same_setting_again_and_again_is_cheap(free_number):
    path, fastest = Path(QUEUE.format(free_number, "nomerges")), 1.0
    with Undo() as changes:
        for number in range(400):
            begun = time.perf_counter()
            changes.put(path, str(number % 3))
            fastest = min(fastest, time.perf_counter() - begun)
    assert fastest < 100e-6


@pytest.fixture
def instances():
    try:
        return mounts.tracefs() / "instances"
    except NotAllowed as no:
        pytest.skip(str(no))


NAME = f"labkit-{os.getpid()}-0123abcd"


@pytest.mark.host
def test_an_instance_is_made_and_goes(instances, ledgers):
    with Undo() as changes:
        path = changes.make_instance(NAME)
        assert (path.name, (path / "tracing_on").exists(), len(ledgers())) == (NAME, True, 1)
    assert not (instances / NAME).exists()
    assert ledgers() == []


@pytest.mark.host
@pytest.mark.usefixtures("instances")
def test_an_instance_that_vanished_is_no_error(ledgers):
    with Undo() as changes:
        path = changes.make_instance(NAME)
        path.rmdir()
        changes.drop_instance(path)
        changes.drop_instance(path)
        changes.make_instance(NAME).rmdir()
    assert ledgers() == []


@pytest.mark.host
@pytest.mark.usefixtures("instances")
def test_a_busy_instance_is_told_and_left_to_the_next_sweep(ledgers, monkeypatch):
    monkeypatch.setattr(undo, "_BUSY_SECONDS", 0.05)
    changes = Undo()
    path = changes.make_instance(NAME)
    with (path / "tracing_on").open():
        with pytest.raises(NotAllowed, match=rf"undo: instance {NAME} is in use: close its files \(-EBUSY\)"):
            changes.drop_instance(path)
        with pytest.raises(NotAllowed, match="-EBUSY"):
            changes.back()
        assert undo.sweep() == []
        assert (len(ledgers()), path.exists()) == (1, True)
    assert undo.sweep() == [f"trace instance {NAME}"]
    assert (ledgers(), path.exists()) == ([], False)


@pytest.mark.host
@pytest.mark.usefixtures("instances")
def test_the_instance_of_somebody_else_is_not_taken(ledgers):
    with Undo() as owner, Undo() as changes:
        path = owner.make_instance(NAME)
        with pytest.raises(SyscallError, match=rf"undo: instance {NAME} fails: File exists \(-EEXIST\)"):
            changes.make_instance(NAME)
        changes.back()
        assert path.exists()
    assert ledgers() == []


def test_a_look_at_the_others_that_fails_leaves_no_ledger_without_a_sweep(setting, ledgers, monkeypatch):
    path, fds = setting("a"), len(list(Path("/proc/self/fd").iterdir()))
    changes = Undo()
    changes.put(path, "111")

    def refuse(_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "names", refuse)
        with pytest.raises(SyscallError, match=r"undo: what was changed fails: Too many open files \(-EMFILE\)"):
            changes.back()
    assert len(list(Path("/proc/self/fd").iterdir())) == fds
    assert undo.sweep() == [f"{path} = 111 (is 000 again)"]
    assert (path.read_text(), ledgers()) == ("000", [])
