import errno
import tempfile

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.watch.bpf import BioWatch
from labkit.witness.demos.frames_through_loop import DEMO, _within, kernel


def test_the_disk_below_writes_to_the_users_frames_only_by_direct_io():
    own = {(way, name): (read, into) for way, name, read, into in DEMO.replay().seen.rows}
    assert own == {
        ("direct-io=1", "the loop device"): (262144, 262144),
        ("direct-io=1", "the disk below"): (262144, 262144),
        ("direct-io=0", "the loop device"): (262144, 262144),
        ("direct-io=0", "the disk below"): (262144, 0),
    }


@pytest.mark.parametrize(
    ("bvecs", "nbytes"),
    [
        ([(0x7000, 4096)], 4096),
        ([(0x7200, 512), (0x8E00, 1024)], 1024),  # half of the second is beyond
        ([(0x6000, 0x4000)], 0x2000),  # a page before, and one behind
        ([(0x9000, 4096), (0x1000, 512)], 0),
    ],
)
def test_bytes_are_counted_in_the_frames_alone(bvecs, nbytes):
    assert _within({7, 8}, bvecs) == nbytes


@pytest.mark.host
def test_a_file_that_lies_on_no_disk_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # noqa: S108 - labkit's own directory below it
    with pytest.raises(NotAllowed, match="set TMPDIR to a directory on ext4 or xfs"):
        kernel()


@pytest.mark.host
def test_a_disk_below_that_others_keep_busy_tells_nothing(monkeypatch):
    def lost(*_):
        raise SyscallError("bpf", "7 bios", "were lost", errno.ENOBUFS)

    monkeypatch.setattr(BioWatch, "drain", lost)
    with pytest.raises(NotAllowed, match="the disk below is too busy to be looked at"):
        kernel()
