import errno

import numpy as np
import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory import frames as room
from labkit.host.memory.frames import Frames, frames, mapcounts, moved, runs
from labkit.host.memory.own_pages import MADV_DONTNEED, OwnPages, madvise
from labkit.units import PAGE_SIZE

FRAMES = Frames(np.array([7, 8, -1, 33]), np.ones(4, bool))
HIDDEN = Frames(None, np.ones(4, bool))


@pytest.fixture
def words(monkeypatch):
    """Let the pagemap say these words."""

    def say(*entries):
        monkeypatch.setattr(room, "_words", lambda *_: np.array(entries, np.uint64))

    return say


def test_a_word_of_the_pagemap_is_a_frame_and_whether_nobody_else_has_it(words):
    words((1 << 63) | (1 << 56) | 7, (1 << 63) | 8, 0)
    found = frames(0x7000, 3)
    assert found.pfns.tolist() == [7, 8, -1]
    assert found.exclusive.tolist() == [True, False, False]


def test_frame_zero_is_never_shown_where_frames_are_hidden(words):
    words((1 << 63) | (1 << 56), 1 << 63)
    found = frames(0x7000, 2)
    assert found.pfns is None
    assert found.hexes == ["hidden", "hidden"]
    assert found.exclusive.tolist() == [True, False]


def test_what_was_never_touched_has_no_frame(words):
    words(0, 0)
    assert frames(0x7000, 2).pfns.tolist() == [-1, -1]


def test_frames_are_told_in_hex():
    assert FRAMES.hexes == ["0x7", "0x8", "none", "0x21"]


def test_runs_are_counted_where_frames_are_known():
    assert runs(Frames(np.array([7, 8, 9, 33, 34, 2]), np.ones(6, bool))) == 3
    assert runs(HIDDEN) == 0


def test_what_moved_has_another_frame():
    assert moved(FRAMES, FRAMES._replace(pfns=np.array([7, 9, -1, 34]))).tolist() == [False, True, False, True]


@pytest.mark.parametrize("pair", [(HIDDEN, FRAMES), (FRAMES, HIDDEN)])
def test_hidden_frames_cannot_be_compared(pair):
    with pytest.raises(NotAllowed, match="hides the frames without CAP_SYS_ADMIN: run as root"):
        moved(*pair)


def test_a_process_that_is_not_there_cannot_be_looked_at():
    with pytest.raises(NotAllowed, match=r"/proc/0/pagemap cannot be read, No such file or directory: run as root"):
        frames(0x7000, 1, 0)


def test_a_short_pagemap_is_an_error(monkeypatch):
    monkeypatch.setattr(room.os, "pread", lambda *_: bytes(8))
    with pytest.raises(SyscallError, match="tells 1 of 2 pages") as no:
        frames(0x7000, 2)
    assert no.value.errno == errno.EIO


def test_a_page_that_is_given_back_has_no_frame_any_more():
    with OwnPages(2) as memory:
        assert frames(memory.address, 2).exclusive.tolist() == [True, True]
        assert madvise(memory.address + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED) == 0
        assert frames(memory.address, 2).exclusive.tolist() == [True, False]


@pytest.mark.host
def test_root_sees_frames_and_how_often_they_are_mapped():
    with OwnPages(3) as memory:
        pfns = frames(memory.address, 3).pfns
        assert len(set(pfns.tolist())) == 3
        assert (pfns > 0).all()
        assert mapcounts(pfns) == [1, 1, 1]
