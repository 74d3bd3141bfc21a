import errno
import fcntl
import os

import pytest

from labkit.errors import SyscallError
from labkit.host.disk import fiemap

BLOCK = 4096


@pytest.fixture
def answering(monkeypatch, tmp_path):
    """An fd of a file of `size`, of which FIEMAP tells `extents`: (logical, physical, bytes, flags)."""
    asked = []

    def make(size, extents, room=256):
        monkeypatch.setattr(fiemap, "_ROOM", room)

        def ioctl(_fd, request, page):
            start, _, flags, _, count, _ = fiemap._HEAD.unpack_from(page)
            asked.append((request, flags, start))
            some = [each for each in extents if each[0] + each[2] > start][:count]
            fiemap._HEAD.pack_into(page, 0, start, 0, flags, len(some), count, 0)
            for at, each in enumerate(some):
                page[32 + 56 * at : 32 + 56 * at + 24] = b"".join(word.to_bytes(8, "little") for word in each[:3])
                page[32 + 56 * at + 40 : 32 + 56 * at + 44] = each[3].to_bytes(4, "little")

        monkeypatch.setattr(fcntl, "ioctl", ioctl)
        path = tmp_path / "file"
        path.write_bytes(b"")
        os.truncate(path, size)
        return os.open(path, os.O_RDONLY)

    make.asked = asked
    return make


def test_extents_of_many_pages_are_read_in_turns(answering):
    extents = [(at * BLOCK, at * 3 * BLOCK, BLOCK, int(at == 6)) for at in range(7)]
    fd = answering(7 * BLOCK, extents, room=3)
    assert fiemap.extents(fd) == [(at * BLOCK, at * 3 * BLOCK, BLOCK, ["LAST"] * (at == 6)) for at in range(7)]
    assert answering.asked == [(0xC020660B, 1, at * BLOCK) for at in (0, 3, 6)]
    os.close(fd)


def test_what_lies_beyond_the_end_is_clipped(answering):
    fd = answering(5000, [(0, BLOCK, BLOCK, 0), (BLOCK, 9 * BLOCK, 1 << 20, 0x801)])
    assert fiemap.extents(fd) == [(0, BLOCK, BLOCK, []), (BLOCK, 9 * BLOCK, 904, ["LAST", "UNWRITTEN"])]
    os.close(fd)


def test_what_lies_in_the_inode_keeps_its_word(answering):
    fd = answering(33, [(0, 1234, 33, 0x301)])
    assert fiemap.extents(fd) == [(0, 1234, 33, ["LAST", "NOT_ALIGNED", "DATA_INLINE"])]
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_file_of_nothing_but_holes_has_no_extents(answering, size):
    fd = answering(size, [])
    assert fiemap.extents(fd) == []
    os.close(fd)


def test_a_filesystem_that_does_not_tell_is_an_error():
    fd = os.open("/proc/self/stat", os.O_RDONLY)
    try:
        if not os.fstat(fd).st_size:
            fd, old = os.open("/sys/kernel/uevent_seqnum", os.O_RDONLY), fd
            os.close(old)
        with pytest.raises(SyscallError, match=r"fiemap: the file at byte 0 fails: .* \(-EOPNOTSUPP\)") as caught:
            fiemap.extents(fd)
        assert caught.value.errno == errno.EOPNOTSUPP
    finally:
        os.close(fd)
