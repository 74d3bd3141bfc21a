import numpy as np
import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host import pagemap as pagemap_module
from labkit.host.arena import arena
from labkit.host.pagemap import Pagemap
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
