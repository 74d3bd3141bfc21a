import os
import re
import tempfile
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host import vvar


@pytest.fixture
def said():
    try:
        return {each.kind: each for each in vvar.ask()}
    except NotAllowed as no:
        pytest.skip(str(no))


def test_ordinary_memory_is_written_both_ways(said):
    for kind in ("4KiB", "zero", "memfd"):
        assert said[kind] == (kind, vvar.NBYTES, vvar.NBYTES)


def test_vvar_is_read_by_a_copy_and_refused_to_direct_io_up_to_6_18(said):
    assert said["vvar"].buffered == vvar.NBYTES
    release = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    if release <= (6, 18):
        assert said["vvar"].direct == "-EFAULT"


def test_secret_memory_is_refused_where_there_is_any(said):
    if "secretmem" not in said:
        pytest.skip("memfd_secret gives none here: secretmem.enable=0, or a kernel without it")
    assert said["secretmem"].direct == "-EFAULT"


def test_nothing_is_left_and_nothing_stays_open(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(Path("/proc/self/fd").iterdir())
    try:
        vvar.ask()
    except NotAllowed as no:
        pytest.skip(str(no))
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_where_direct_io_is_buffered_in_secret_nobody_is_asked(monkeypatch):
    if "tmpfs /dev/shm" not in Path("/proc/mounts").read_text():
        pytest.skip("no tmpfs at /dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # noqa: S108 - a file without a name
    with pytest.raises(NotAllowed, match="set TMPDIR to a directory on ext4 or xfs"):
        vvar.ask()


def test_without_a_place_for_a_temporary_file_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(NotAllowed, match="a temporary file cannot be made, No such file or directory: set TMPDIR"):
        vvar.ask()


def test_a_process_without_vvar_is_told_so(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_: "7f00-7f01 r-xp 00000000 00:00 0    [vdso]\n")
    with pytest.raises(NotAllowed, match=r"shows no \[vvar\]"):
        vvar._vvar()


def test_a_filesystem_without_direct_io_is_told_by_its_errno(monkeypatch):
    def refuse(_file, _what, flags=0):
        if flags:
            raise OSError(22, "Invalid argument")
        return 0

    monkeypatch.setattr(vvar.fcntl, "fcntl", refuse)
    with tempfile.TemporaryFile() as file, pytest.raises(NotAllowed, match="does no O_DIRECT"):
        vvar._direct(file, 0)
