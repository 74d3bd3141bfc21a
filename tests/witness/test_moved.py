"""Whether the bytes came, by a second look at the disk."""

import os

import pytest

from labkit.host.memory.arena import arena
from labkit.witness.moved import moved
from labkit.witness.source import AskedIo

PAGE = 4096


@pytest.fixture
def disk(tmp_path):
    """A file of four pages, page i full of i, and its bytes."""
    data = b"".join(bytes([i]) * PAGE for i in range(4))
    path = tmp_path / "disk"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    yield fd, data
    os.close(fd)


def test_what_was_read_is_what_is_there_piece_by_piece(disk):
    fd, data = disk
    view = arena(4 * PAGE)
    io = AskedIo("r", PAGE, ((2 * PAGE, 512), (0, PAGE)))
    view[2 * PAGE : 2 * PAGE + 512] = data[PAGE : PAGE + 512]
    view[:PAGE] = data[PAGE + 512 : 2 * PAGE + 512]
    assert moved([io], [io.nbytes], view, fd) is True
    view[PAGE - 1] ^= 1
    assert moved([io], [io.nbytes], view, fd) is False
    assert moved([io], [io.nbytes - 512], view, fd) is True, "what did not come is not looked at"


def test_a_short_disk_is_a_difference(disk):
    fd, _ = disk
    view = arena(2 * PAGE)
    assert moved([AskedIo("w", 3 * PAGE, ((0, 2 * PAGE),))], [2 * PAGE], view, fd) is False


def test_nothing_is_told_where_nothing_came_or_nobody_knows_the_order(disk):
    fd, _ = disk
    view = arena(4 * PAGE)
    assert moved([AskedIo("r", 0, ((0, PAGE),))], [-14], view, fd) is None
    assert moved([AskedIo("r", 0, ((0, PAGE), (512, PAGE)))], [2 * PAGE], view, fd) is None
    twice = [AskedIo("w", 0, ((0, PAGE),)), AskedIo("w", 512, ((PAGE, PAGE),))]
    assert moved(twice, [PAGE, PAGE], view, fd) is None
