import errno
import os

import numpy as np
import pytest

from labkit.host.calls.direct import call
from labkit.host.memory.arena import arena

PAGE = 4096


@pytest.fixture
def file(tmp_path):
    """A file of two pages, one of a, one of b, open for reading and writing."""
    path = tmp_path / "pages"
    path.write_bytes(b"a" * PAGE + b"b" * PAGE)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def memory():
    """Four pages, and where they are."""
    whole = arena(4 * PAGE)
    return whole, int(np.frombuffer(whole, np.uint8).ctypes.data)


def test_pread_and_pwrite_move_bytes_by_address(file, memory):
    whole, at = memory
    assert call("pread", file, [(at, PAGE)], PAGE)() == PAGE
    assert bytes(whole[:PAGE]) == b"b" * PAGE
    assert call("pwrite", file, [(at, 512)], 0)() == 512
    assert os.pread(file, 513, 0) == b"b" * 512 + b"a"


def test_the_pieces_of_preadv_and_pwritev_are_taken_in_order(file, memory):
    whole, at = memory
    assert call("preadv", file, [(at + 2 * PAGE, 512), (at, 1024)], PAGE - 512)() == 1536
    assert bytes(whole[2 * PAGE : 2 * PAGE + 512]) == b"a" * 512
    assert bytes(whole[:1024]) == b"b" * 1024
    assert call("pwritev", file, [(at, 1), (at + 2 * PAGE, 1)], 0)() == 2
    assert os.pread(file, 3, 0) == b"baa"


def test_a_call_can_be_done_again(file, memory):
    do = call("preadv", file, [(memory[1], PAGE)], 0)
    assert [do(), do()] == [PAGE, PAGE]


def test_an_address_that_is_not_mapped_is_an_errno_and_no_crash(file):
    assert call("pread", file, [(0, PAGE)], 0)() == -errno.EFAULT
    assert call("pwritev", file, [(4096, PAGE)], 0)() == -errno.EFAULT
