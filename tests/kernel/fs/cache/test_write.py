import errno

import pytest

from labkit.errors import SyscallError
from labkit.trace.page_flags import PG_dirty, PG_uptodate


def test_a_large_write_makes_large_folios_where_its_place_allows(world):
    one = world(2 << 20)
    assert one.write(0, b"a" * (1 << 20)) == 1 << 20
    assert one.folios() == [(0, 8)]
    one.write((1 << 20) + 4096, b"b" * 65536)
    assert one.folios()[1:] == [(257, 0), (258, 1), (260, 2), (264, 3), (272, 0)]
    assert one.device.bios == []
    one.look()


def test_a_write_in_the_middle_of_a_block_reads_it_first(world):
    one = world()
    expected = bytearray(one.on_disk(0, 8192))
    expected[100:5000] = b"x" * 4900
    one.write(100, b"x" * 4900)
    assert one.device.bios == [(False, 2048, 4096), (False, 2056, 4096)]
    assert one.read(0, 8192) == bytes(expected)
    one.look()


def test_a_write_of_whole_blocks_reads_nothing(world):
    one = world()
    one.write(4096, b"x" * 4096)
    assert one.device.bios == []
    assert one.mapping.find(1).flags == PG_dirty | PG_uptodate


def test_half_a_block_of_a_hole_is_zeros_and_needs_no_device(world):
    one = world(state="hole")
    one.write(100, b"x")
    assert one.device.bios == []
    assert one.read(0, 4096) == bytes(100) + b"x" + bytes(3995)
    assert one.file.state[0] == "delalloc"


def test_small_blocks_of_a_page_that_were_not_written_come_when_they_are_read(world):
    one = world(block_size=512)
    one.write(512, b"x" * 512)
    assert (one.device.bios, one.mapping.find(0).flags & PG_uptodate) == ([], 0)
    assert one.read(512, 512) == b"x" * 512
    assert one.device.bios == []  # those that are wanted are uptodate
    expected = bytearray(one.on_disk(0, 4096))
    expected[512:1024] = b"x" * 512
    assert one.read(0, 4096) == bytes(expected)
    assert [bio[:3] for bio in one.device.bios] == [(False, 2048, 512), (False, 2050, 3072)]
    one.look()


def test_a_write_beyond_the_end_lets_the_file_grow_and_zeros_lie_between(world):
    one = world(10_000)
    one.write(20_000, b"end")
    assert (one.file.i_size, one.mapping.nbytes) == (20_003, 20_003)
    assert one.read(9990, 20_000) == one.on_disk(9990, 10) + bytes(10_000) + b"end"
    one.look()


def test_what_a_mapping_wrote_beyond_the_end_is_zeros_when_the_file_grows(world):
    one = world(100)
    one.run(one.cache.fault(1, 0))
    mm, at = one.mmap(4096)
    one.store(mm, at + 200, b"hidden")
    one.write(300, b"x")
    assert one.read(100, 200) == bytes(200)


def test_no_space_for_a_block_is_ENOSPC_and_what_went_before_counts(world):
    one = world(8192)
    one.file.full = True
    assert one.write(4096, b"x" * 8192) == 4096
    with pytest.raises(SyscallError) as caught:
        one.write(8192, b"x")
    assert caught.value.errno == errno.ENOSPC
    assert one.file.i_size == 8192
    one.look()


def test_who_may_not_wait_gets_EAGAIN_for_half_a_block_and_for_a_new_one(world):
    one = world(8192)
    for pos in (100, 8192):
        with pytest.raises(SyscallError) as caught:
            one.write(pos, b"x" * 50, nowait=True)
        assert caught.value.errno == errno.EAGAIN
    assert one.write(4096, b"x" * 4096, nowait=True) == 4096
    one.look()


def test_a_user_who_cannot_be_read_makes_the_count_short_and_at_once_it_is_EFAULT(world):
    one = world()
    before = one.on_disk(0, 16384)
    assert one.write(0, b"x" * 16384, good=10_000) == 8192  # half a block that nobody read counts for nothing
    assert one.read(0, 16384) == b"x" * 8192 + before[8192:]
    assert one.write(0, b"y" * 16384, good=10_000) == 10_000  # now it is known what the rest of it holds
    with pytest.raises(SyscallError, match=r"write: the user's buffer cannot be read \(-EFAULT\)"):
        one.write(0, b"x" * 100, good=0)
    one.look()


def test_a_block_that_cannot_be_read_first_is_EIO_and_nothing_is_dirty(world):
    one = world()
    one.device.broken.add(False)
    with pytest.raises(SyscallError, match=r"write: half a block at 100 of data could not be read \(-EIO\)"):
        one.write(100, b"x")
    assert not one.cache.needs_writeback(0, 4096)
    one.look()


def test_without_a_large_block_of_memory_the_folios_are_smaller(world):
    one = world(2 << 20)
    one.frames.buddy.alloc_pages = _none_above(one.frames.buddy.alloc_pages, 4)
    assert one.write(0, b"x" * (1 << 20)) == 1 << 20
    assert {order for _, order in one.folios()} == {4}


def _none_above(alloc, most):
    def alloc_pages(order, *more):
        if order > most:
            raise SyscallError("page_alloc", f"order {order}", "is not to be had", errno.ENOMEM)
        return alloc(order, *more)

    return alloc_pages


def test_a_write_beyond_a_device_is_ENOSPC(world):
    one = world()
    one.file.blocks = 300
    with pytest.raises(SyscallError) as caught:
        one.write(300 * 4096, b"x")
    assert caught.value.errno == errno.ENOSPC
