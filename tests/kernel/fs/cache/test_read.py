import errno

import pytest

from labkit.errors import SyscallError
from labkit.trace.page_flags import PG_locked, PG_readahead, PG_referenced, PG_uptodate


def test_the_first_read_brings_a_window_and_the_second_no_bio(world):
    one = world()
    assert one.read(0, 4096) == one.on_disk(0, 4096)
    assert one.folios() == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert one.device.bios == [(False, 2048, 16384)]
    assert [folio.flags & PG_readahead for folio in one.mapping.folios(0, 4)] == [0, PG_readahead, 0, 0]
    assert one.mapping.find(0).flags == PG_uptodate | PG_referenced
    one.read(100, 50)
    assert len(one.device.bios) == 1
    one.look()


def test_a_stream_reads_ahead_in_folios_that_grow(world):
    one = world()
    assert b"".join(one.read(pos, 4096) for pos in range(0, 131072, 4096)) == one.on_disk(0, 131072)
    orders = [order for _, order in one.folios()]
    assert orders[:6] == [0, 0, 0, 0, 2, 2]
    assert max(orders) == 4  # a window is of 32 pages, and none begins where 32 in a row fit
    assert all(index % (1 << order) == 0 for index, order in one.folios())
    one.look()


def test_a_read_in_the_middle_brings_what_it_asks_for(world):
    one = world()
    one.read(400_000, 5000)
    assert one.folios() == [(97, 0), (98, 0)]


def test_a_read_beyond_the_end_is_short_and_one_at_the_end_is_0(world):
    one = world(10_000)
    assert one.read(8000, 4096) == one.on_disk(8000, 2000)
    assert one.read(10_000, 1) == b""
    assert one.read(1 << 40, 1) == b""
    assert one.folios() == [(1, 0), (2, 0)]
    one.look()


@pytest.mark.parametrize("state", ["hole", "unwritten"])
def test_what_was_never_written_is_zeros_and_needs_no_device(world, state):
    one = world(state=state)
    assert one.read(5, 9000) == bytes(9000)
    assert one.device.bios == []
    one.look()


def test_a_window_over_a_hole_is_two_bios_around_it(world):
    one = world()
    one.file.state[1] = "hole"
    expected = bytearray(one.on_disk(0, 16384))
    expected[4096:8192] = bytes(4096)
    assert one.read(0, 16384) == bytes(expected)
    assert one.device.bios[:2] == [(False, 2048, 4096), (False, 2064, 24576)]
    one.look()


def test_a_window_across_two_places_of_the_device_is_two_bios(world):
    one = world(2 << 20)
    one.read((1 << 20) - 4096, 8192)
    assert one.device.bios == [(False, 4088, 4096), (False, 0, 4096)]


def test_a_device_that_fails_is_EIO_for_who_reads_and_nothing_stays_locked(world):
    one = world()
    one.device.broken.add(False)
    with pytest.raises(SyscallError, match=r"filemap: page 0 of data could not be read \(-EIO\)"):
        one.read(0, 4096)
    assert [folio.flags & (PG_locked | PG_uptodate) for folio in one.mapping.folios(0, 99)] == [0, 0, 0, 0]
    assert len(one.device.bios) == 2  # the window, and then the page alone
    one.device.broken.clear()
    assert one.read(0, 4096) == one.on_disk(0, 4096)
    one.look()


def test_what_was_read_before_the_failure_counts(world):
    one = world()
    one.read(0, 4096)
    one.device.broken.add(False)
    assert one.read(0, 65536) == one.on_disk(0, 16384)
    one.look()


def test_a_file_that_cannot_say_where_it_lies_fails_the_read_and_unlocks(world):
    one = world()

    def lost(*_, **__):
        raise SyscallError("fs", "the extent tree", "is broken", errno.EIO)

    one.file.iomap_begin = lost
    with pytest.raises(SyscallError, match="the extent tree is broken"):
        one.read(0, 4096)
    one.look()


def test_who_may_not_wait_starts_the_read_and_gets_EAGAIN(world):
    one = world()
    with pytest.raises(SyscallError) as caught:
        one.read(0, 4096, nowait=True)
    assert caught.value.errno == errno.EAGAIN
    one.env.run()
    assert one.read(0, 4096, nowait=True) == one.on_disk(0, 4096)
    assert one.read(12288, 8192, nowait=True) == one.on_disk(12288, 4096)
    one.look()


def test_a_fault_of_the_user_makes_the_count_short_and_at_once_it_is_EFAULT(world):
    one = world()
    assert one.read(0, 8192, good=5000) == one.on_disk(0, 5000)
    with pytest.raises(SyscallError, match=r"read: the user's buffer cannot be written to \(-EFAULT\)"):
        one.read(0, 8192, good=0)
    one.look()


def test_two_who_read_the_same_page_wait_for_one_bio(world):
    one = world()
    users = [type("U", (), {"copy_to_iter": staticmethod(lambda ranges: ranges[0][1])})() for _ in range(2)]
    jobs = [one.env.job(one.cache.read(io, 0, 4096, user)) for io, user in enumerate(users, 1)]
    assert [one.env.run(until=job) for job in jobs] == [4096, 4096]
    assert len(one.device.bios) <= 2  # the second one may come to the mark
    assert one.device.bios[0] == (False, 2048, 16384)
    one.look()


def all_of(buddy):
    taken = []
    try:
        while True:
            taken.append(buddy.alloc_pages(0))
    except SyscallError:
        return taken


def test_without_memory_it_is_ENOMEM_and_nothing_is_left(world):
    one = world()
    taken = all_of(one.frames.buddy)
    with pytest.raises(SyscallError) as caught:
        one.read(0, 4096)
    assert caught.value.errno == errno.ENOMEM
    one.frames.buddy.free_pages(taken.pop(), 0)
    assert one.read(0, 4096) == one.on_disk(0, 4096)
    assert one.folios() == [(0, 0)]


def test_a_copy_costs_time_by_the_byte(world):
    one = world()
    one.read(0, 8192)
    before = one.env.now
    one.read(0, 4096)
    assert one.env.now - before == 400
    assert [(rec.pos, rec.nbytes, rec.write) for rec in one.records("CopyFolio")][-1] == (0, 4096, False)
