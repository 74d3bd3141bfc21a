import errno
import os
import subprocess
from pathlib import Path

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import mounts
from labkit.host.disk import filesystem
from labkit.host.disk.loopdev import LoopDevice

WHERE = """
import os
from labkit.host.calls import mounts
mounts._tracefs.clear()
root = mounts.tracefs()
print(root, sorted(os.listdir(root))[:0], (root / "events").is_dir())
"""


def table():
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.host
@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_mount_is_in_no_table_and_goes_with_its_descriptor(left, fs):
    before = table()
    with LoopDevice.attach(320 << 20) as device:
        filesystem.mkfs(fs, device.path, device.fileno())
        with mounts.mount(fs, device.path) as root:
            (root.path / "file").write_text("phyr")
            assert (root.path / "file").read_text() == "phyr"
            assert table() == before
            for flag in (os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC):
                assert os.statvfs(root.path).f_flag & flag
        with mounts.mount(fs, device.path) as again:
            assert (again.path / "file").read_text() == "phyr"
        again.close()
    assert left() == ([], [])


@pytest.mark.host
def test_what_is_no_filesystem_is_refused_with_the_filesystems_own_words():
    with LoopDevice.attach(1 << 20) as device, pytest.raises((SyscallError, NotAllowed)) as caught:
        mounts.mount("ext4", device.path)
    assert str(caught.value).startswith(f"mount: ext4 of {device.path} fails: ")
    assert caught.value.errno == errno.EINVAL


@pytest.mark.host
def test_a_type_that_the_kernel_does_not_know_is_not_allowed():
    fds = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotAllowed, match=r"mount: phyrfs is nothing that this kernel mounts: run one .* \(-ENODEV\)"):
        mounts.mount("phyrfs")
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_a_user_that_may_not_mount_is_told_what_to_do(monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(mounts, "_call", refuse)
    monkeypatch.setattr(mounts, "_tracefs", [])
    monkeypatch.setattr(mounts, "mounted", lambda _: None)
    with pytest.raises(NotAllowed, match=r"mount: tracefs .*: run ") as caught:
        mounts.tracefs()
    assert (caught.value.errno, caught.value.exit_code) == (number, 3)


@pytest.mark.host
def test_a_tracefs_of_ones_own_is_kept_by_this_process_alone(start):
    if mounts.mounted("tracefs"):
        pytest.skip("tracefs is mounted")
    before = table()
    root = mounts.tracefs()
    assert (root / "instances").is_dir()
    assert mounts.tracefs() == root
    assert table() == before
    out, err = start(WHERE).communicate(timeout=20)
    assert (out.startswith("/proc/self/fd/"), out.endswith("True\n"), err) == (True, True, "")


@pytest.mark.host
def test_a_tracefs_that_is_mounted_is_taken(place):
    inside = 'mount -t tracefs nodev "$0" && exec python3 -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, place / "a b", WHERE], check=False, capture_output=True, text=True
    )
    if "unshare:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == ""  # the directory is not there
    (place / "a b").mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, place / "a b", WHERE], check=False, capture_output=True, text=True
    )
    assert done.stdout == f"{place}/a b [] True\n", done.stderr


def test_a_filesystem_is_found_where_it_is_mounted_as_a_whole():
    assert mounts.mounted("proc") == Path("/proc")
    assert mounts.mounted("phyrfs") is None
