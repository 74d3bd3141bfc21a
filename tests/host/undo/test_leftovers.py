import fcntl
import os
from pathlib import Path

import pytest

from labkit.host.calls import loop_ioctl
from labkit.host.disk.loopdev import LoopDevice, sweep
from labkit.host.undo import leftovers

MIB = 1 << 20
NAME = "labkit-loop-999999-0123456789abcdef.img"
HOLD = """
import sys
from labkit.host.disk.loopdev import LoopDevice
with LoopDevice.attach(1 << 20) as device:
    print(device.path, flush=True)
    sys.stdin.read()
"""
BUSY = """
from labkit.host.memory.arena import arena
from labkit.host.disk.loopdev import LoopDevice
for _ in range(25):
    with LoopDevice.attach(1 << 20) as device:
        assert device.pwritev([arena(4096)], 4096) == 4096
        assert device.backing.exists()
"""


def number(device):
    return int(device.removeprefix("/dev/loop"))


@pytest.fixture
def dead(place):
    """The path of a leftover: marked, of this user, with no owner."""
    return place / f"labkit-{os.geteuid()}" / NAME


@pytest.mark.host
def test_a_dead_leftover_is_detached_and_removed(dead, losetup, left):
    device = losetup(dead)
    assert left() == ([device], [NAME])
    lines = [line for line in sweep() if str(dead) in line]
    assert lines == [f"{device} (detached from {dead})", str(dead)]
    assert left() == ([], [])
    assert not dead.parent.exists()


@pytest.mark.host
def test_every_attach_sweeps_first(dead, losetup, left):
    losetup(dead)
    with LoopDevice.attach(MIB) as device:
        assert left() == ([device.path], [device.backing.name])


@pytest.mark.host
def test_a_dead_leftover_whose_file_is_unlinked_is_detached(dead, losetup, left):
    device = losetup(dead)
    dead.unlink()
    assert loop_ioctl.backing_file(number(device)) == f"{dead} (deleted)"
    assert f"{device} (detached from {dead})" in sweep()
    assert left() == ([], [])


@pytest.mark.host
def test_an_unlinked_file_with_a_living_owner_is_left_alone(dead, losetup, left):
    device = losetup(dead)
    with dead.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        dead.unlink()
        assert not [line for line in sweep() if str(dead) in line]
        assert left() == ([device], [])
    assert f"{device} (detached from {dead})" in sweep()


@pytest.mark.host
def test_a_leftover_in_another_directory_is_known_by_its_device(dead, losetup, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / dead.parent.name / NAME
    device = losetup(other)
    assert [line for line in sweep() if str(other) in line] == [f"{device} (detached from {other})", str(other)]
    assert not other.parent.exists()


@pytest.mark.host
@pytest.mark.parametrize(
    "name",
    [
        "plain.img",
        "labkit-loop-1-0123456789abcdef.img",  # the name alone is no mark
        "labkit-{uid}/plain.img",  # nor is the directory
        "labkit-{uid}/labkit-loop-x-0123456789abcdef.img",
        "labkit-{uid}/labkit-loop-1-0123456789abcdef.img.bak",
        "labkit-{uid}/xlabkit-loop-1-0123456789abcdef.img",
        "labkit-12345/labkit-loop-1-0123456789abcdef.img",  # somebody else's
    ],
)
def test_a_foreign_device_is_left_alone(losetup, place, name):
    path = place / name.format(uid=os.geteuid())
    device = losetup(path)
    path.touch()
    sweep()
    with LoopDevice.attach(MIB) as mine:
        assert mine.path != device
    assert loop_ioctl.backing_file(number(device)) == str(path)
    assert path.exists()


@pytest.mark.host
def test_the_device_of_a_living_process_is_left_alone(start, left):
    child = start(HOLD.replace("sys.stdin.read()", "import time; time.sleep(600)"))
    device = child.stdout.readline().strip()
    before = left()
    assert before[0] == [device]
    assert len(before[1]) == 1
    assert not [line for line in sweep() if device in line]
    assert left() == before
    child.terminate()
    assert child.wait(30) == 143
    assert left() == ([], [])


@pytest.mark.host
def test_the_devices_of_this_process_are_left_alone(left):
    with LoopDevice.attach(MIB) as one, LoopDevice.attach(MIB) as two:
        before = left()
        sweep()
        assert left() == before
        assert sorted(before[0]) == sorted([one.path, two.path])


@pytest.mark.host
def test_a_leftover_that_somebody_has_open_goes_when_it_is_closed(dead, losetup, left, monkeypatch):
    monkeypatch.setattr(leftovers, "_CLEAR_SECONDS", 0.05)
    device = losetup(dead)
    fd = os.open(device, os.O_RDONLY)
    assert not [line for line in sweep() if str(dead) in line]
    assert left() == ([device], [NAME])
    os.close(fd)
    assert str(dead) in sweep()
    assert left() == ([], [])


@pytest.mark.host
def test_processes_that_attach_at_once_do_not_sweep_each_other(start, left, place):
    children = [start(BUSY) for _ in range(4)]
    while any(child.poll() is None for child in children):
        assert not [line for line in sweep() if str(place) in line]  # there may be leftovers of others
    assert [child.communicate()[1] for child in children] == ["", "", "", ""]
    assert left() == ([], [])


def test_a_file_without_an_owner_is_removed_and_one_with_an_owner_is_not(dead):
    dead.parent.mkdir(mode=0o700)
    dead.touch()
    with dead.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert str(dead) not in sweep()
        assert dead.exists()
    assert str(dead) in sweep()
    assert not dead.parent.exists()


def test_a_directory_that_others_may_write_is_not_swept(dead):
    dead.parent.mkdir(mode=0o777)
    dead.parent.chmod(0o777)
    dead.touch()
    assert str(dead) not in sweep()
    assert dead.exists()


def test_a_link_in_place_of_the_directory_is_not_followed(dead, place):
    (place / "real").mkdir(mode=0o700)
    (place / "real" / NAME).touch()
    dead.parent.symlink_to(place / "real")
    assert str(dead) not in sweep()
    assert dead.exists()


def test_a_sweep_of_nothing_does_nothing(place):
    assert not [line for line in sweep(place / "nowhere") if str(place) in line]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("backing", "path"),
    [
        (f"/y/labkit-{os.geteuid()}/{NAME}", f"/y/labkit-{os.geteuid()}/{NAME}"),
        (f"/x/labkit-{os.geteuid()}/{NAME} (deleted)", f"/x/labkit-{os.geteuid()}/{NAME}"),
        (f"/y/labkit-{os.geteuid() + 1}/{NAME}", None),
        (f"/y/labkit-{os.geteuid()}/sub/{NAME}", None),
        (f"/y/labkit-{os.geteuid()}/{NAME}x", None),
        ("", None),
    ],
)
def test_the_mark_is_the_whole_path_of_this_user(backing, path):
    assert leftovers.marked(backing) == (path and Path(path))
