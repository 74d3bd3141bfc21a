import errno
import gc
import mmap
import os
import signal
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls import uring_abi
from labkit.host.calls.ring import Entry, Ring, Transfer
from labkit.host.memory.arena import arena
from labkit.host.probe import probe

pytestmark = pytest.mark.skipif(not probe()["io_uring"].ok, reason="this machine lets nobody have an io_uring")
PAGE = 4096


@pytest.fixture
def file(tmp_path):
    """A file of 64 pages, page i full of i, open for reading and writing."""
    path = tmp_path / "pages"
    path.write_bytes(b"".join(bytes([i]) * PAGE for i in range(64)))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def views_of(count, nbytes=PAGE):
    memory = arena(count * nbytes)
    return [memory[i * nbytes : (i + 1) * nbytes] for i in range(count)]


def batches(*lists):
    """Return a `more` that tells each of `lists` in its turn, and keeps the places that it was asked for."""
    left, asked = [np.array(each) * PAGE for each in lists], []

    def more(places):
        asked.append(places.tolist())
        return left.pop(0) if left else None

    return more, asked


@pytest.mark.parametrize("registered", [False, True])
def test_prepared_transfers_read_the_pages_that_they_are_told(file, registered):
    with Ring(4) as ring:
        views = views_of(4)
        if registered:
            ring.register(file, views)
        ring.prepare(file, views)
        more, asked = batches([7, 9], [11, 13])
        assert ring.stream(more, 2) == 4
    assert [bytes(view[:1])[0] for view in views] == [7, 9, 11, 13]
    assert asked[:2] == [[0, 1], [2, 3]]


def test_a_stream_goes_on_in_the_places_that_have_ended(file):
    with Ring(4) as ring:
        views = views_of(4)
        ring.prepare(file, views)
        rounds = [[2 * i % 64, (2 * i + 1) % 64] for i in range(50)]
        more, asked = batches(*rounds)
        assert ring.stream(more, 2) == 100
    last = dict(zip(chain(*asked), chain(*rounds), strict=False))
    assert {place: view[0] for place, view in enumerate(views)} == last


def test_all_of_them_may_be_renewed_at_a_time(file):
    with Ring(4) as ring:
        views = views_of(4)
        ring.prepare(file, views)
        more, asked = batches([1, 2, 3, 4], [5, 6, 7, 8])
        assert ring.stream(more) == 8
    assert sorted(view[0] for view in views) == [5, 6, 7, 8]
    assert [sorted(each) for each in asked] == [[0, 1, 2, 3]] * 3


def test_a_write_reaches_the_file(file):
    with Ring(2) as ring:
        views = views_of(2)
        views[0][:], views[1][:] = b"a" * PAGE, b"b" * PAGE
        ring.prepare(file, views, write=True)
        assert ring.stream(batches([5], [3])[0], 2) == 2
    assert (os.pread(file, 1, 5 * PAGE), os.pread(file, 1, 3 * PAGE)) == (b"a", b"b")


def test_a_run_moves_pieces_of_any_size_more_than_there_are_entries(file):
    views = views_of(8, 512)
    with Ring(2) as ring:
        asked = [Transfer([views[i], views[i + 1]], i * PAGE + PAGE - 512) for i in range(0, 7, 2)]
        assert ring.run(file, asked) == [1024] * 4
        assert [view[0] for view in views] == [0, 1, 2, 3, 4, 5, 6, 7]
        assert ring.run(file, [Transfer([views[7]], 0, write=True)]) == [512]
    assert os.pread(file, 513, 0) == bytes([7]) * 512 + b"\0"


def test_a_run_returns_short_counts_and_errors_by_their_place(file):
    only = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
    try:
        with Ring(4) as ring:
            view = views_of(1)[0]
            many = [Transfer([view], 63 * PAGE + 1), Transfer([view], 0, write=True), Transfer([view], 1 << 30)]
            assert ring.run(only, many) == [PAGE - 1, -errno.EBADF, 0]
            assert ring.run(only, []) == []
    finally:
        os.close(only)


def test_a_run_may_come_between_two_streams_of_odd_lengths(file):
    with Ring(8) as ring:
        views, single = views_of(8), views_of(1)
        for turn in range(9):
            ring.prepare(file, views)
            assert ring.stream(batches(range(turn, turn + 4))[0], 2) == 4
            assert ring.run(file, [Transfer(single, turn * PAGE)]) == [PAGE]
            assert [view[0] for view in (*views[:4], *single)] == [turn, turn + 1, turn + 2, turn + 3, turn]


def test_a_short_transfer_is_an_error(file):
    with Ring(2) as ring:
        ring.prepare(file, views_of(2))
        with pytest.raises(SyscallError, match=r"io_uring: a transfer of 4096 B fails: .* \(-EIO\)") as bad:
            ring.stream(batches([1], [1 << 20])[0], 2)
        assert bad.value.errno == errno.EIO


def test_a_failed_transfer_has_its_own_errno_and_the_ring_goes_on(file):
    with Ring(2) as ring:
        ring.prepare(-1, views_of(2))
        with pytest.raises(SyscallError, match="EBADF"):
            ring.stream(batches([1], [2])[0], 2)
        ring.prepare(file, views_of(2))
        assert ring.stream(batches([1], [2])[0], 2) == 2


def test_whoever_is_struck_finds_nothing_on_its_way(file):
    left, write = os.pipe()
    try:
        with Ring(2) as ring:
            views = views_of(3)
            signal.signal(signal.SIGALRM, lambda *_: os.write(write, b"x" * PAGE) and strike())
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):  # the read of an empty pipe waits until the signal writes
                ring.run(left, [Transfer(views[:1], 0)])
            assert ring._flying == 0
            assert bytes(views[0]) == b"x" * PAGE
            assert ring.run(file, [Transfer(views[1:2], 9 * PAGE)]) == [PAGE]
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.close(left)
        os.close(write)


def strike():
    raise KeyboardInterrupt


def test_what_raises_in_the_midst_of_a_stream_leaves_the_ring_usable(file):
    with Ring(4) as ring:
        views = views_of(4)
        ring.prepare(file, views)
        turns = []

        def more(_places):
            turns.append(1)
            if len(turns) == 2:
                raise KeyboardInterrupt
            return np.array([1, 2]) * PAGE

        with pytest.raises(KeyboardInterrupt):
            ring.stream(more, 2)
        assert ring._flying == 0
        assert ring.stream(batches([3, 4], [5, 6])[0], 2) == 4
        assert [view[0] for view in views] == [3, 4, 5, 6]


def test_a_closed_ring_gives_the_file_and_its_descriptors_back(file):
    gc.collect()  # what earlier tests left open
    before = len(list(Path("/proc/self/fd").iterdir()))
    ring = Ring(4)
    views = views_of(4)
    ring.register(file, views)
    ring.prepare(file, views)
    ring.close()
    ring.close()
    with pytest.raises(SyscallError, match=r"the ring is closed \(-EBADF\)"):
        ring.run(file, [Transfer(views[:1], 0)])
    del ring
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("entries", [0, -1, 3, 8192])
def test_a_ring_of_an_odd_size_is_refused(entries):
    with pytest.raises(BadInput, match=r"is no power of two from 1 to 4096 \(-EINVAL\)"):
        Ring(entries)


def test_views_that_are_not_alike_are_refused_and_so_is_a_stream_of_nothing(file):
    with Ring(2) as ring:
        with pytest.raises(BadInput, match="2 views of 2 sizes are not 2, one an entry, all alike"):
            ring.prepare(file, [arena(PAGE), arena(512)])
        with pytest.raises(BadInput, match="1 views of 1 sizes"):
            ring.prepare(file, [arena(PAGE)])
        with pytest.raises(BadInput, match="has no transfers that were prepared"):
            ring.stream(batches([1])[0], 2)


def test_registering_twice_or_a_bad_file_is_the_kernels_refusal(file):
    with Ring(2) as ring, pytest.raises(SyscallError, match="EBADF"):
        ring.register(1 << 20, views_of(2))
    with Ring(2) as ring:
        ring.register(file, views_of(2))
        with pytest.raises(SyscallError, match="EBUSY"):
            ring.register(file, views_of(2))


def test_where_there_is_no_io_uring_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(uring_abi, "SETUP", -1)
    with pytest.raises(NotAllowed, match=r"is not to be had: .*; see kernel.io_uring_disabled") as bad:
        Ring(4)
    assert bad.value.errno == errno.ENOSYS


def test_memory_that_was_mapped_otherwise_does_as_well(file):
    memory = memoryview(mmap.mmap(-1, 2 * PAGE))
    with Ring(2) as ring:
        ring.prepare(file, [memory[:PAGE], memory[PAGE:]])
        assert ring.stream(batches([42], [43])[0], 2) == 2
    assert (memory[0], memory[PAGE]) == (42, 43)


def address(memory):
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def test_entries_by_address_go_in_one_call_and_end_each_for_itself(file):
    memory = arena(4 * PAGE)
    at = address(memory)
    with Ring(4) as ring:
        do = ring.enter(file, [Entry(False, at, PAGE, 3 * PAGE), Entry(False, 0, PAGE, 0), Entry(False, at, 0, 0)])
        assert do() == [PAGE, -errno.EFAULT, 0]
    assert bytes(memory[:PAGE]) == bytes([3]) * PAGE


def test_registered_memory_is_used_by_its_index_and_may_be_registered_anew(file):
    memory = arena(4 * PAGE)
    at = address(memory)
    memory[:] = b"w" * len(memory)
    with Ring(4) as ring:
        ring.register_memory([(at, PAGE), (at + 2 * PAGE, PAGE)])
        inside, outside = Entry(True, at + 2 * PAGE, PAGE, 0, 1), Entry(True, at + 2 * PAGE, PAGE, 0, 0)
        assert ring.enter(file, [inside, outside])() == [PAGE, -errno.EFAULT]
        with pytest.raises(SyscallError, match="EBUSY"):
            ring.register_memory([(at, PAGE)])
        ring.unregister_memory()
        ring.register_memory([(at, PAGE)])
    assert os.pread(file, PAGE, 0) == b"w" * PAGE


def test_more_entries_than_the_ring_has_are_refused(file):
    with Ring(2) as ring, pytest.raises(BadInput, match="3 entries do not fit into 2"):
        ring.enter(file, [Entry(False, 0, 0, 0)] * 3)


def test_a_ring_that_cannot_be_mapped_is_told_in_a_sentence_and_closed(monkeypatch):
    fds = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(SyscallError, match=r"io_uring: a ring of 8 fails: Cannot allocate memory \(-ENOMEM\)"):
        Ring(8)
    assert len(list(Path("/proc/self/fd").iterdir())) == fds
