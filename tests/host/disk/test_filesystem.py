import errno
import os
import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls import mounts
from labkit.host.disk import fiemap, filesystem
from labkit.host.disk.loopdev import LoopDevice

MIB = 1 << 20
FDS = Path("/proc/self/fd")


@pytest.fixture(params=["ext4", "xfs"])
def root(request):
    """The root of an empty filesystem."""
    with LoopDevice.attach(320 * MIB) as device:
        filesystem.mkfs(request.param, device.path, device.fileno())
        with mounts.mount(request.param, device.path) as made:
            yield made.path


@pytest.fixture
def make(root):
    """Make the file; its descriptor is closed before the filesystem is."""
    fds = []

    def made(file_bytes, *, fragments=True):
        fds.append(filesystem.make_file(root, file_bytes, 1, fragments=fragments))
        return fds[-1]

    yield made
    for fd in fds:
        os.close(fd)


def holes(extents, nbytes):
    """Return how many ranges of the file no extent has."""
    ends = [0, *(logical + size for logical, _, size, _ in extents)]
    starts = [*(logical for logical, *_ in extents), nbytes]
    return sum(start > end for start, end in zip(starts, ends, strict=True))


@pytest.mark.host
def test_a_file_lies_in_pieces_with_holes_and_unwritten_ones_between(make):
    fd = make(8 * MIB + 100)
    extents = fiemap.extents(fd)
    assert os.fstat(fd).st_size == 8 * MIB + 100
    assert len(extents) >= 15
    assert max(size for *_, size, _ in extents) <= MIB
    assert holes(extents, 8 * MIB + 100) > 0
    assert any("UNWRITTEN" in words for *_, words in extents)
    assert not any(a[0] + a[2] == b[0] and a[1] + a[2] == b[1] and a[3] == b[3] for a, b in pairwise(extents))


@pytest.mark.host
def test_without_fragments_it_is_whole(make):
    fd = make(2 * MIB, fragments=False)
    extents = fiemap.extents(fd)
    assert sum(size for *_, size, _ in extents) == 2 * MIB
    assert holes(extents, 2 * MIB) == 0
    assert not any("UNWRITTEN" in words for *_, words in extents)


@pytest.mark.host
def test_a_piece_reads_as_bytes_and_the_rest_as_zeros(root, make):
    extents = fiemap.extents(make(8 * MIB))
    pieces = [range(start, start + size, 4096) for start, _, size, words in extents if "UNWRITTEN" not in words]
    written = {at for piece in pieces for at in piece}
    whole = (root / "labkit").read_bytes()
    assert {at for at in range(0, 8 * MIB, 4096) if any(whole[at : at + 4096])} == written


@pytest.mark.host
def test_a_file_that_does_not_fit_is_enospc(root):
    fds = len(list(FDS.iterdir()))
    with pytest.raises(OSError, match="No space left") as caught:
        filesystem.make_file(root, 400 * MIB, 1, fragments=True)
    assert caught.value.errno == errno.ENOSPC
    assert len(list(FDS.iterdir())) == fds


def test_the_seed_decides_the_pieces():
    one, again, other = (filesystem._pieces(8 * MIB, random.Random(seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert sum(kept for kept, _, _ in one) == 8 * MIB
    assert all(kept % 4096 == cut % 4096 == 0 < cut for kept, cut, _ in one)


def test_a_type_that_is_unknown_is_bad_input():
    with pytest.raises(BadInput, match=r"mkfs: fs=btrfs is none of raw, ext4, xfs \(-EINVAL\)"):
        filesystem.mkfs("btrfs", "/dev/null", 0)


def test_what_is_not_installed_names_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(NotAllowed, match=r"mkfs: mkfs.xfs is not installed: apt-get install xfsprogs \(-ENOENT\)"):
        filesystem.mkfs("xfs", "/dev/null", 0)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_a_failure_is_told_in_the_programs_own_words(tmp_path, fs):
    if filesystem.program(fs) is None:
        pytest.skip(f"mkfs.{fs} is not installed")
    (tmp_path / "small").write_bytes(bytes(4096))
    with pytest.raises(SyscallError, match=rf"mkfs: mkfs\.{fs} .*/small fails: .*[a-z]{{4,}}.* \(-EINVAL\)"):
        filesystem.mkfs(fs, str(tmp_path / "small"), 0)


def test_one_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(filesystem, "MKFS", {"ext4": ("sleep", "9")})
    monkeypatch.setattr(filesystem, "_SECONDS", 0.1)
    with pytest.raises(SyscallError, match=r"mkfs: sleep 1 takes more than 0.1 s \(-ETIMEDOUT\)"):
        filesystem.mkfs("ext4", "1", 0)
    assert not subprocess.run(["pgrep", "-P", str(os.getpid()), "sleep"], check=False, capture_output=True).stdout


def test_a_disk_that_is_full_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "labkit").touch()
    fd = os.open(tmp_path / "labkit", os.O_RDWR)
    real = os.pwrite

    def full(fd, data, at):
        if at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    try:
        with pytest.raises(OSError, match="No space left on device"):
            filesystem._fill(fd, 2 * MIB, 1)
    finally:
        os.close(fd)


def test_a_program_that_cannot_be_run_is_told_in_a_sentence(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(filesystem, "MKFS", {"ext4": ("sleep", "9")})
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(SyscallError, match=r"mkfs: sleep 1 fails: Resource temporarily unavailable \(-EAGAIN\)"):
        filesystem.mkfs("ext4", "1", 0)
