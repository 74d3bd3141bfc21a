import ctypes
import errno
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host.memory.own_pages import MADV_DONTNEED, OwnPages, compact_memory, madvise
from labkit.units import PAGE_SIZE


def mapped(address):
    starts = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(first, 16) <= address < int(last, 16) for first, last in starts)


def test_pages_begin_where_they_are_asked_to():
    with OwnPages(4, align=1 << 21) as memory:
        assert memory.address % (1 << 21) == 0
        assert memory.nbytes == 16384


def test_each_page_has_its_address():
    with OwnPages(4) as memory:
        assert memory.regions([0, 3]) == [(memory.address, 4096), (memory.address + 12288, 4096)]


def test_what_is_filled_in_stands_there_until_it_is_given_back():
    with OwnPages(2) as memory:
        memory.fill(b"x" * PAGE_SIZE + b"y")
        assert ctypes.string_at(memory.address + PAGE_SIZE - 1, 2) == b"xy"
        assert madvise(memory.address, PAGE_SIZE, MADV_DONTNEED) == 0
        assert ctypes.string_at(memory.address + PAGE_SIZE - 1, 2) == b"\0y"


def test_what_is_closed_is_unmapped_though_it_was_looked_at():
    with OwnPages(64) as memory:
        memory.fill(b"x")
        assert mapped(memory.address)
    assert not mapped(memory.address)


def test_advice_that_is_none_is_refused_by_its_errno():
    with OwnPages(1) as memory:
        assert madvise(memory.address, PAGE_SIZE, 4711) == -errno.EINVAL
        assert madvise(memory.address + 1, PAGE_SIZE, MADV_DONTNEED) == -errno.EINVAL


def test_who_may_not_compact_memory_is_told_the_remedy(monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(NotAllowed, match=r"compact_memory cannot be written: run as root.*\(-EACCES\)"):
        compact_memory()
