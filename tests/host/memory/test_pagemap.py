from itertools import pairwise

import numpy as np
import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory import pagemap as pagemap_module
from labkit.host.memory.arena import arena
from labkit.host.memory.pagemap import Pagemap, rows
from labkit.host.probe import probe

PRESENT = 1 << 63


def given(monkeypatch, frames, skew=0):
    """Return the Pagemap of a buffer whose pages are `frames`, and which begins `skew` bytes into the first."""
    words = np.array([frame | PRESENT for frame in frames], np.uint64)
    monkeypatch.setattr(pagemap_module, "_entries", lambda _first, pages: words[:pages])
    return Pagemap(arena(len(frames) * 4096)[skew:])


def test_frames_in_a_row_are_one_range(monkeypatch):
    pages = given(monkeypatch, [7, 8, 9, 33, 34, 5])
    starts, sizes = pages.ranges(0, 6 * 4096)
    assert (starts.tolist(), sizes.tolist()) == ([0x7000, 0x21000, 0x5000], [0x3000, 0x2000, 0x1000])


def test_a_part_begins_and_ends_inside_pages(monkeypatch):
    pages = given(monkeypatch, [7, 8, 9, 33, 34, 5])
    starts, sizes = pages.ranges(0x1200, 0x2000)
    assert (starts.tolist(), sizes.tolist()) == ([0x8200, 0x21000], [0x1E00, 0x200])
    starts, sizes = pages.ranges(0x3000, 0x1000)
    assert (starts.tolist(), sizes.tolist()) == ([0x21000], [0x1000])


def test_a_buffer_may_begin_inside_a_page(monkeypatch):
    pages = given(monkeypatch, [7, 33], skew=512)
    starts, sizes = pages.ranges(0, 8192 - 512)
    assert (starts.tolist(), sizes.tolist()) == ([0x7200, 0x21000], [0xE00, 0x1000])
    assert pages.phys(np.array([0, 0xE00, 0xE01])).tolist() == [0x7200, 0x21000, 0x21001]


def test_what_is_not_in_memory_has_no_frame(monkeypatch):
    monkeypatch.setattr(pagemap_module, "_entries", lambda _first, pages: np.zeros(pages, np.uint64))
    with pytest.raises(SyscallError, match=r"8192 B of buffer are not all in memory \(-EFAULT\)"):
        Pagemap(arena(8192))


def test_frames_that_are_hidden_need_root(monkeypatch):
    monkeypatch.setattr(pagemap_module, "_entries", lambda _first, pages: np.full(pages, PRESENT, np.uint64))
    with pytest.raises(NotAllowed, match="hides the frames without CAP_SYS_ADMIN: run as root"):
        Pagemap(arena(8192))


def test_the_real_pagemap_knows_every_page_of_a_buffer():
    if not (finding := probe()["pagemap"]).ok:
        pytest.skip(finding.reason)
    memory = arena(64 * 4096)
    memory[:] = b"x" * len(memory)
    pages = Pagemap(memory)
    starts, sizes = pages.ranges(0, len(memory))
    assert int(sizes.sum()) == len(memory)
    assert len(set(pages.frames.tolist())) == 64
    assert [s + n for s, n in zip(starts, sizes, strict=True)][-1] == (pages.frames[-1] + 1) * 4096


def words(monkeypatch, *entries):
    """Let the pagemap say these entries, whatever is asked."""
    monkeypatch.setattr(pagemap_module, "_entries", lambda _first, pages: np.array(entries, np.uint64)[:pages])


def test_a_row_is_as_long_as_both_addresses_go_on(monkeypatch):
    words(monkeypatch, *(frame | PRESENT for frame in (7, 8, 9, 33, 34, 5)))
    assert rows(0x10000, 6 * 4096) == [(0x10000, 7, 3), (0x13000, 33, 2), (0x15000, 5, 1)]


def test_pages_that_are_not_there_are_rows_of_their_own(monkeypatch):
    words(monkeypatch, 0, 0, 7 | PRESENT, 0, 1 << 62 | 8, 9 | PRESENT, 10 | PRESENT)
    assert rows(0, 7 * 4096) == [(0, -1, 2), (0x2000, 7, 1), (0x3000, -1, 2), (0x5000, 9, 2)]


def test_one_frame_under_many_pages_is_a_row_for_each(monkeypatch):
    words(monkeypatch, *[15156 | PRESENT] * 3)
    assert rows(0, 3 * 4096) == [(0, 15156, 1), (0x1000, 15156, 1), (0x2000, 15156, 1)]


def test_rows_are_whole_pages_however_little_of_them_is_asked_for(monkeypatch):
    words(monkeypatch, 7 | PRESENT, 8 | PRESENT, 3 | PRESENT)
    assert rows(0x10FFF, 2) == [(0x10000, 7, 2)]
    assert rows(0x10FFF, 1) == [(0x10000, 7, 1)]
    assert rows(0x10FFF, 0) == []


def test_flags_beside_the_frame_are_no_part_of_it(monkeypatch):
    words(monkeypatch, 7 | PRESENT | 1 << 61 | 1 << 56 | 1 << 55, 8 | PRESENT)
    assert rows(0, 2 * 4096) == [(0, 7, 2)]


def test_beyond_what_the_pagemap_tells_nothing_is_there(monkeypatch):
    words(monkeypatch, 7 | PRESENT)
    assert rows(0, 3 * 4096) == [(0, 7, 1), (0x1000, -1, 2)]


def test_a_frame_of_zero_is_never_told_as_one(monkeypatch):
    words(monkeypatch, 0, PRESENT)
    with pytest.raises(NotAllowed, match="hides the frames without CAP_SYS_ADMIN: run as root"):
        rows(0, 2 * 4096)
    assert rows(0, 4096) == [(0, -1, 1)]


def test_the_real_rows_are_those_of_every_page_one_by_one():
    if not (finding := probe()["pagemap"]).ok:
        pytest.skip(finding.reason)
    memory = arena(64 * 4096)
    for page in range(8, 40):
        memory[page * 4096] = 1
    start = Pagemap(memory[8 * 4096 : 40 * 4096]).address - 8 * 4096
    told = rows(start, 64 * 4096)
    assert (told[0], told[-1]) == ((start, -1, 8), (start + 40 * 4096, -1, 24))
    frames = [pfn + i for _, pfn, pages in told[1:-1] for i in range(pages)]
    assert frames == Pagemap(memory[8 * 4096 : 40 * 4096]).frames.tolist()
    assert all(a + n * 4096 == b for (a, _, n), (b, _, _) in pairwise(told))
    assert all(pfn + n != following for (_, pfn, n), (_, following, _) in pairwise(told[1:-1]))
