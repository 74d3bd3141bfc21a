import errno
import os

import pytest

from labkit.host.disk.backing import Backing

MIB = 1 << 20


@pytest.fixture
def backing():
    made = Backing(None, 3 * MIB + 512)
    yield made
    made.close(mine=True)


def test_it_is_sparse_until_it_is_filled_and_whole_afterwards(backing):
    assert (backing.path.stat().st_size, backing.path.stat().st_blocks) == (3 * MIB + 512, 0)
    backing.fill(7)
    assert backing.path.stat().st_blocks * 512 >= 3 * MIB + 512
    assert backing.path.stat().st_size == 3 * MIB + 512


def test_the_seed_decides_the_bytes():
    read = []
    for seed in (1, 1, 2):
        made = Backing(None, MIB)
        made.fill(seed)
        read.append(made.read(0, MIB))
        made.close(mine=True)
    assert read[0] == read[1] != read[2]
    assert any(read[0])


def test_what_is_written_is_read(backing):
    backing.write(511, b"phyr")
    assert backing.read(510, 6) == b"\0phyr\0"


def test_it_goes_once_and_only_if_it_is_ones_own():
    made = Backing(None, 512)
    made.close(mine=False)
    assert made.path.exists()
    made.close(mine=True)
    assert made.path.exists()


def test_a_disk_that_is_full_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        Backing(None, 512)
    assert list(place.iterdir()) == []


def test_it_is_opened_again_by_itself_and_not_by_its_name(backing):
    inode = backing.path.stat().st_ino
    backing.path.rename(backing.path.with_suffix(".moved"))
    backing.path.write_bytes(b"planted")
    fd = backing.open_again()
    try:
        assert os.fstat(fd).st_ino == inode
    finally:
        os.close(fd)
        backing.path.with_suffix(".moved").unlink()
