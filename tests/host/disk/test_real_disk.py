import errno
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.disk.real_disk import RealDisk, filesystem, loop_ioctl, mounts
from labkit.host.memory.arena import arena
from labkit.host.undo import Undo, sweep
from labkit.host.wait import wait_until

MIB = 1 << 20
FDS = Path("/proc/self/fd")
KINDS = ["raw", "ext4", "xfs"]
KNOBS = {"scheduler": "kyber", "max_sectors_kb": str(8 * (1 + os.getpid() % 150)), "nomerges": "1"}
"""One of them is of this process alone, so that others may turn theirs meanwhile."""
BYTES = {"raw": 4 * MIB, "ext4": 64 * MIB, "xfs": 320 * MIB}
KILLED = """
import os, sys, time
from pathlib import Path
from labkit.host.disk.real_disk import RealDisk
from labkit.host.undo import Undo, sweep
from labkit.host.wait import wait_until
print("begins", flush=True)
while True:
    with Undo() as undo, RealDisk.make(undo, {nbytes}, fs={fs!r}, directory={directory}, file_bytes=1 << 20) as disk:
        for name, value in {knobs}.items():
            disk.put(name, value)
        instance = undo.make_instance("labkit-%d-%08x" % (os.getpid(), time.monotonic_ns() & 0xffffffff))
        print(disk.name, flush=True)
        time.sleep(0.01)
"""


ORPHAN = """
import os
from labkit.host.disk.real_disk import RealDisk, filesystem
from labkit.host.undo import Undo
filesystem.MKFS = {{"ext4": ("sh", "-c", {script!r})}}
with Undo() as undo:
    RealDisk.make(undo, 4 << 20, fs="ext4")
"""
"""What makes the filesystem kills who asked for it, waits, and looks whose the device is."""


@pytest.fixture
def changes():
    with Undo() as made:
        yield made


@pytest.fixture(params=KINDS)
def disk(request, changes):
    with RealDisk.make(changes, BYTES[request.param], fs=request.param, file_bytes=2 * MIB, seed=1) as made:
        yield made


def knobs(name):
    """What the queue of `name` says of each knob."""
    said = {knob: (loop_ioctl.SYS_BLOCK / name / "queue" / knob).read_text() for knob in KNOBS}
    return said | {"scheduler": said["scheduler"].split("[")[-1].split("]")[0]}


@pytest.mark.host
def test_a_disk_tells_what_it_is(disk):
    assert disk.name == f"loop{disk.kdev & 0xFFFFF}"
    assert disk.kdev >> 20 == 7
    assert disk.nbytes == BYTES[disk.fs]
    assert disk.file_bytes == (disk.nbytes if disk.fs == "raw" else 2 * MIB)
    assert disk.backing_dio == int((loop_ioctl.SYS_BLOCK / disk.name / "loop/dio").read_text())
    assert disk.logical_block_size == 512
    limits = disk.limits()
    assert {*loop_ioctl.QUEUE_LIMITS, "nomerges", "scheduler"} <= limits.keys()
    assert (limits["logical_block_size"], "[none]" in limits["scheduler"]) == (512, True)


@pytest.mark.host
def test_its_descriptor_reads_and_writes_directly(disk):
    view = arena(4096)
    view[:] = random.Random(1).randbytes(4096)
    assert os.pwritev(disk.fd, [view], 8192) == 4096
    back = arena(4096)
    assert os.preadv(disk.fd, [back], 8192) == 4096
    assert bytes(back) == bytes(view)
    with pytest.raises(OSError, match="Invalid argument"):
        os.pread(disk.fd, 511, 0)


@pytest.mark.host
def test_extents_are_those_of_the_file(disk):
    extents = disk.extents()
    assert bool(extents) is (disk.fs != "raw")
    assert all(physical + size <= disk.nbytes for _, physical, size, _ in extents)


@pytest.mark.host
def test_every_block_of_a_raw_disk_lies_on_the_backing_file(changes, place):
    with RealDisk.make(changes, 4 * MIB, seed=1):
        (file,) = place.glob("labkit-*/labkit-loop-*")
        assert file.stat().st_blocks * 512 >= 4 * MIB


@pytest.mark.host
@pytest.mark.parametrize("after", [sweep, Undo])
def test_a_file_of_a_killed_run_is_found_whatever_tmpdir_says(start, place, tmp_path_factory, monkeypatch, after):
    script = KILLED.format(nbytes=BYTES["raw"], fs="raw", directory=None, knobs=KNOBS)
    child = start(script.replace("time.sleep(0.01)", "time.sleep(20)"))
    assert [child.stdout.readline(), child.stdout.readline()[:4]] == ["begins\n", "loop"]
    child.kill()
    child.communicate()
    (file,) = place.glob("labkit-*/labkit-loop-*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("another")))
    after()
    assert not file.exists()
    assert not list(place.iterdir())


@pytest.mark.host
def test_knobs_are_as_before_when_the_disk_is_closed(disk):
    before = knobs(disk.name)
    for name, value in KNOBS.items():
        disk.put(name, value)
    disk.put("max_sectors_kb", 4)
    assert (disk.limits()["max_sectors_kb"], "[kyber]" in disk.limits()["scheduler"]) == (4, True)
    disk.close()
    assert knobs(disk.name) == before


@pytest.mark.host
def test_nothing_is_left(disk, changes, left):
    before = Path("/proc/self/mountinfo").read_text()
    disk.put("nomerges", 2)
    assert left()[0] == [f"/dev/{disk.name}"]
    disk.close()
    disk.close()
    changes.close()
    assert left() == ([], [])
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.host
@pytest.mark.parametrize("fs", KINDS)
def test_large_blocks_and_another_directory_are_to_be_had(changes, fs, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    with RealDisk.make(changes, BYTES[fs], fs=fs, logical_block_size=4096, directory=other, file_bytes=MIB) as made:
        assert made.limits()["logical_block_size"] == 4096
        assert len(list(other.glob("labkit-*/labkit-loop-*"))) == 1
    assert list(other.iterdir()) == []


@pytest.mark.host
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_mounted_device_is_open_for_reading_alone(changes, fs):
    with RealDisk.make(changes, BYTES[fs], fs=fs, file_bytes=MIB):
        device = next(path for path in FDS.iterdir() if str(path.readlink()).startswith("/dev/loop"))
        info = Path(f"/proc/self/fdinfo/{device.name}").read_text()
        assert int(info.split("flags:")[1].split()[0], 8) & os.O_ACCMODE == os.O_RDONLY


@pytest.mark.host
@pytest.mark.parametrize(
    ("owner", "name", "fs"),
    [
        (filesystem, "mkfs", "ext4"),
        (mounts, "mount", "ext4"),
        (filesystem, "make_file", "ext4"),
        (filesystem, "make_file", "xfs"),
        (os, "fdatasync", "raw"),
        (os, "posix_fadvise", "raw"),
        (os, "fsync", "ext4"),
    ],
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["ENOSPC", "SIGINT"])
def test_a_failure_at_any_step_leaves_nothing(changes, left, monkeypatch, owner, name, fs, error):
    def fail(*_, **__):
        raise error

    fds = len(list(FDS.iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(type(error)):
            RealDisk.make(changes, BYTES[fs], fs=fs, file_bytes=MIB)
    changes.close()
    assert left() == ([], [])
    assert len(list(FDS.iterdir())) == fds


@pytest.mark.host
def test_a_full_disk_is_one_sentence_with_its_remedy(changes, left, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        NotAllowed, match=r"loop: 4194304 B in .* has no room left: free some, or .* \(-ENOSPC\)"
    ) as caught:
        RealDisk.make(changes, 4 * MIB)
    assert caught.value.exit_code == 3
    changes.close()
    assert left() == ([], [])


@pytest.mark.host
def test_a_file_that_does_not_fit_is_one_sentence(changes, left):
    with pytest.raises(
        NotAllowed, match=r"loop: a file of 134217728 B on ext4 of 67108864 B has no room left: .*ENOSPC"
    ):
        RealDisk.make(changes, 64 * MIB, fs="ext4", file_bytes=128 * MIB)
    changes.close()
    assert left() == ([], [])


@pytest.mark.host
def test_whatever_fails_at_the_end_the_rest_is_done(changes, left):
    made = RealDisk.make(changes, BYTES["ext4"], fs="ext4", file_bytes=MIB)
    before = knobs(made.name)
    made.put("nomerges", 2)
    os.close(made.fd)  # so that closing it fails
    with pytest.raises(OSError, match="Bad file descriptor"):
        made.close()
    changes.close()
    assert (left(), knobs(made.name)) == (([], []), before)


def test_what_makes_no_sense_is_bad_input(changes):
    with pytest.raises(BadInput, match=r"disk: fs=btrfs is none of raw, ext4, xfs \(-EINVAL\)"):
        RealDisk.make(changes, MIB, fs="btrfs")


@pytest.mark.host
def test_a_filesystem_that_is_too_small_is_told_in_the_programs_own_words(changes, left):
    with pytest.raises(SyscallError, match=r"mkfs: mkfs\.xfs /dev/loop\d+ fails: .* \(-EINVAL\)"):
        RealDisk.make(changes, 4 * MIB, fs="xfs")
    changes.close()
    assert left() == ([], [])


@pytest.mark.host
def test_only_the_knobs_are_turned(disk):
    with pytest.raises(BadInput, match=r"disk: queue/read_ahead_kb is none of scheduler, max_sectors_kb, nomerges"):
        disk.put("read_ahead_kb", 0)
    with pytest.raises(SyscallError, match=r"undo: .*/nomerges = x fails: Invalid argument \(-EINVAL\)"):
        disk.put("nomerges", "x")


def left_by(pids, place, directory):
    """What the killed children left: devices, mounts, instances, files, ledgers, settings."""
    places = (place, directory)
    devices = [number for number, path in loop_ioctl.attached() if any(path.startswith(f"{p}/") for p in places)]
    table = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/dev/loop" in line]
    names = [path.name for path in (mounts.tracefs() / "instances").iterdir()]
    instances = [name for name in names if name.startswith(tuple(f"labkit-{pid}-" for pid in pids))]
    files = [path for p in places for path in p.glob("labkit-*/*")]
    queues = [path.name for path in Path("/sys/block").glob("loop*")]
    changed = [name for name in queues if knobs(name)["max_sectors_kb"].strip() == KNOBS["max_sectors_kb"]]
    return devices, table, instances, files, changed


@pytest.mark.host
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_at_any_moment_nothing_is_left_after_the_next_sweep(number, start, place, tmp_path_factory):
    dice, directory = random.Random(number), tmp_path_factory.mktemp("other")
    pids, seen = [], 0
    for _ in range(4):
        children = []
        for fs in KINDS:
            where = f"Path({str(directory)!r})" if dice.random() < 0.5 else None
            script = KILLED.format(nbytes=BYTES[fs], fs=fs, directory=where, knobs=KNOBS)
            children.append(start(script))
        for child in children:
            child.stdout.readline()
        for child in sorted(children, key=lambda _: dice.random()):
            time.sleep(dice.random() * 0.25)
            child.send_signal(number)
        for child in children:
            seen += "loop" in child.communicate(timeout=20)[0]
            pids.append(child.pid)
        if number != signal.SIGKILL:
            assert left_by(pids, place, directory) == ([], [], [], [], [])
        sweep()
        assert left_by(pids, place, directory) == ([], [], [], [], [])
    assert seen > 0  # else nobody came as far as a device


@pytest.mark.host
def test_what_makes_a_filesystem_keeps_the_device_when_who_asked_for_it_is_killed(start, place, left):
    said = place / "said"
    look = f"kill -9 $PPID; sleep 0.3; cat /sys/block/${{0#/dev/}}/loop/backing_file > {said}.new; mv {said}.new {said}"
    child = start(ORPHAN.format(script=look))
    child.wait(20)
    assert wait_until(said.exists, 10)
    assert said.read_text().startswith(f"{place}/labkit-{os.geteuid()}/labkit-loop-{child.pid}-")
    assert wait_until(lambda: left()[0] == [], 5)
    sweep()
    assert left() == ([], [])


@pytest.mark.host
@pytest.mark.parametrize("room", [0, MIB])
def test_what_fails_on_a_full_disk_tells_that_it_is_full(left, changes, monkeypatch, room):
    def fail(*_):
        raise SyscallError("mkfs", "mkfs.ext4", "fails: Input/output error", errno.EINVAL)

    monkeypatch.setattr(filesystem, "mkfs", fail)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=room, f_frsize=1))
    kind, said = (SyscallError, "Input/output error") if room else (NotAllowed, r"has no room left: .* \(-ENOSPC\)")
    with pytest.raises(kind, match=said):
        RealDisk.make(changes, MIB, fs="ext4")
    assert left()[0] == []


ROUNDED = """
import os, signal
from labkit.host.disk.real_disk import RealDisk
from labkit.host.undo import Undo
undo = Undo()
disk = RealDisk.make(undo, 4 << 20, logical_block_size=4096)
before = disk.limits()["max_sectors_kb"]
disk.put("max_sectors_kb", 31)
print(disk.name, before, disk.limits()["max_sectors_kb"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.host
def test_a_limit_that_says_another_number_without_its_device_is_taken_back_all_the_same(start):
    name, before, said = start(ROUNDED).communicate(timeout=30)[0].split()
    limit = loop_ioctl.SYS_BLOCK / name / "queue/max_sectors_kb"
    assert said == "28", "whole blocks of 4 KiB"
    wait_until(lambda: limit.read_text().strip() != said, 5)
    assert any(str(limit) in line for line in sweep())
    assert limit.read_text().strip() == before
