import os
import tempfile
from pathlib import Path

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import direct
from labkit.host.disk import scratch
from labkit.host.disk.scratch import Scratch
from labkit.host.memory.own_pages import OwnPages

TMPFS = Path("/dev/shm")  # noqa: S108 - files without a name


def open_files():
    return sorted(Path("/proc/self/fd").iterdir())


@pytest.fixture
def file():
    try:
        with Scratch(8192) as file:
            yield file
    except NotAllowed as no:
        pytest.skip(str(no))


def test_what_is_written_by_direct_io_is_what_others_read(file):
    with OwnPages(2) as memory:
        memory.fill(b"abcd" * 2048)
        assert direct.call("pwrite", file.fd, [(memory.address, 8192)], 0)() == 8192
    assert file.peek(8192) == b"abcd" * 2048


def test_it_begins_with_bytes_of_its_own_on_the_medium(file):
    assert file.peek(8192) == bytes(range(256)) * 32
    assert os.fstat(file.fd).st_blocks >= 16


def test_what_is_filled_in_replaces_it(file):
    file.fill(bytes(8192))
    assert file.peek(8192) == bytes(8192)


def test_nothing_is_left_of_it(place):
    before = open_files()
    try:
        Scratch(4096).close()
    except NotAllowed as no:
        pytest.skip(str(no))
    assert open_files() == before
    assert list(place.iterdir()) == []


def test_a_filesystem_that_buffers_in_secret_is_refused(monkeypatch):
    if "tmpfs /dev/shm" not in Path("/proc/mounts").read_text():
        pytest.skip("no tmpfs at /dev/shm")
    before = open_files()
    monkeypatch.setattr(tempfile, "tempdir", str(TMPFS))
    with pytest.raises(NotAllowed, match="set TMPDIR to a directory on ext4 or xfs"):
        Scratch(4096)
    assert open_files() == before


def test_without_a_place_for_it_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(NotAllowed, match="a temporary file cannot be made, No such file or directory: set TMPDIR"):
        Scratch(4096)


def test_a_full_disk_is_told_as_such(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "fsync", full)
    with pytest.raises(SyscallError, match=r"cannot be written, No space left on device: set TMPDIR .*\(-ENOSPC\)"):
        Scratch(4096)
