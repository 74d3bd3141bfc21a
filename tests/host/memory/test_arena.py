import errno
import mmap
import os
import re
import resource
from pathlib import Path

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.host.memory.arena import arena, arena_or_chunks, release

TIB = 1 << 40


def rss_kb():
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_an_arena_is_zeros_that_can_be_written():
    view = arena(3 * 4096)
    assert bytes(view) == bytes(3 * 4096)
    view[4095:4099] = b"abcd"
    assert bytes(view[4090:4100]) == b"\0\0\0\0\0abcd\0"


def test_an_arena_has_exactly_the_bytes_that_were_asked_for():
    assert len(arena(1)) == 1
    assert len(arena(4097)) == 4097


def test_a_terabyte_costs_what_is_touched():
    before = rss_kb()
    view = arena(TIB)
    for pos in range(0, TIB, TIB // 64):
        view[pos] = 1
    assert len(view) == TIB
    assert 64 * 4 <= rss_kb() - before < 64 * 4 + 1024


def test_the_bytes_live_as_long_as_a_slice():
    part = arena(1 << 20)[4096:8192]
    part[0] = 9
    assert bytes(part[:2]) == b"\x09\0"


def test_a_slice_on_a_page_can_be_used_for_direct_io(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 8192)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip(f"no O_DIRECT in {tmp_path}")
    view = arena(1 << 20)
    try:
        assert os.preadv(fd, [view[4096:8192], view[65536:69632]], 0) == 8192
    finally:
        os.close(fd)
    assert bytes(view[4095:4097]) == b"\0x"
    assert bytes(view[69631:69633]) == b"x\0"


def test_a_part_of_an_arena_is_released_and_what_lies_elsewhere_stays():
    whole = arena(6 * 4096)
    whole[:] = b"x" * len(whole)
    release(whole[3 * 4096 :], 0, 2 * 4096)
    assert bytes(whole) == b"x" * 3 * 4096 + bytes(2 * 4096) + b"x" * 4096


def test_two_arenas_share_nothing():
    one, two = arena(4096), arena(4096)
    one[0] = 1
    assert two[0] == 0


@pytest.mark.parametrize("nbytes", [0, -1, -4096])
def test_no_bytes_are_no_size(nbytes):
    with pytest.raises(BadInput, match=rf"arena: {nbytes} bytes is no size.*\(-EINVAL\)"):
        arena(nbytes)


@pytest.mark.parametrize("nbytes", [1 << 50, 1 << 62, 1 << 80])
def test_more_than_the_address_space_is_refused_with_enomem(nbytes):
    with pytest.raises(SyscallError, match=r"does not fit into the address space.*\(-ENOMEM\)") as caught:
        arena(nbytes)
    assert caught.value.errno == errno.ENOMEM


def test_a_limit_on_the_address_space_is_refused_with_enomem():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 36, before[1]))
    try:
        with pytest.raises(SyscallError, match=r"arena: 1024 GiB does not fit"):
            arena(TIB)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_where_a_large_mapping_is_refused_there_are_smaller_ones():
    assert arena_or_chunks(1 << 20).nbytes == 1 << 20
    assert arena_or_chunks(1 << 62) is arena
    with pytest.raises(BadInput):
        arena_or_chunks(0)


def test_released_pages_are_zeros_and_go_back_to_the_host():
    view = arena(64 << 20)
    view[:] = b"x" * (64 << 20)
    before = rss_kb()
    release(view, 100, (32 << 20) - 200)
    assert before - rss_kb() > 31 << 10
    assert bytes(view[:101]) == b"x" * 100 + b"\0"
    assert bytes(view[(32 << 20) - 101 : (32 << 20) + 1]) == b"\0" + b"x" * 101
    assert not any(view[4096 : 4096 + 65536])


@pytest.mark.parametrize(("at", "nbytes"), [(0, 10), (100, 4096), (4096, 4096), (4000, 9000), (0, 16384), (50, 0)])
def test_any_part_may_be_released(at, nbytes):
    for view in (arena(16384), memoryview(bytearray(16384))):
        view[:] = b"x" * 16384
        release(view, at, nbytes)
        assert bytes(view) == b"x" * at + bytes(nbytes) + b"x" * (16384 - at - nbytes)


def test_a_kernel_without_huge_pages_gives_an_arena_as_well(monkeypatch):
    class Plain(mmap.mmap):
        def madvise(self, *_args):
            raise OSError(errno.EINVAL, "no THP")

    monkeypatch.setattr(mmap, "mmap", Plain)
    assert bytes(arena(4096)) == bytes(4096)
