import errno

import pytest

from labkit.errors import SyscallError
from labkit.kernel.fs.ops import Iomap
from labkit.trace.page_flags import PG_dirty, PG_uptodate, PG_writeback


def test_what_is_dirty_reaches_the_device_in_one_bio_and_is_clean(world):
    one = world()
    one.write(0, b"a" * 65536)
    one.sync()
    assert one.device.bios == [(True, 2048, 65536)]
    assert one.on_disk(0, 65536) == b"a" * 65536
    assert one.mapping.find(0).flags == PG_uptodate
    one.look()


def test_blocks_that_nobody_wrote_to_stay_where_they_are(world):
    one = world()
    one.read(0, 16384)
    one.drop()
    one.write(0, b"a" * 16384)
    one.sync()
    one.device.bios.clear()
    one.write(4096, b"b" * 4096)
    one.sync()
    assert one.device.bios == [(True, 2056, 4096)]  # one page of a folio of four
    one.look()


def test_a_range_alone_is_written_back(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.write(8192, b"b" * 4096)
    one.sync(8192, 1)
    assert one.cache.needs_writeback(0, 4096)
    assert not one.cache.needs_writeback(4096, 8192)


def test_promised_blocks_are_found_at_writeback_and_are_written_when_it_ends(world):
    one = world(8192, state="hole")
    one.write(0, b"a" * 8192)
    assert one.file.state == {0: "delalloc", 1: "delalloc"}
    one.run(one.cache.flusher())
    assert one.file.state == {0: "unwritten", 1: "unwritten"}
    one.env.run()
    assert one.file.state == {0: "mapped", 1: "mapped"}
    one.look()


def test_the_rest_of_the_last_block_goes_out_as_zeros(world):
    one = world(100)
    one.run(one.cache.fault(1, 0))
    mm, at = one.mmap(4096)
    one.store(mm, at + 50, b"x" * 100)
    one.sync()
    assert one.on_disk(50, 100) == b"x" * 50 + bytes(50)
    one.look()


def test_a_device_that_fails_is_told_once_and_the_folio_is_clean(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.device.broken.add(True)
    with pytest.raises(SyscallError, match=r"filemap: data lost a write: its device failed \(-EIO\)"):
        one.sync()
    assert one.mapping.find(0).flags & (PG_dirty | PG_writeback) == 0
    one.sync()
    one.look()


def test_no_block_for_what_was_promised_is_ENOSPC_and_leaves_no_writeback(world):
    one = world(8192, state="hole")
    one.write(0, b"a" * 8192)
    one.file.full = True
    with pytest.raises(SyscallError) as caught:
        one.run(one.cache.fsync(1))
    assert caught.value.errno == errno.ENOSPC
    assert one.device.flushes == 0
    one.look()


def test_a_folio_that_is_written_to_under_writeback_is_dirty_afterwards(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.run(one.cache.flusher())
    one.write(0, b"b" * 4096)
    assert one.mapping.find(0).flags & (PG_dirty | PG_writeback) == PG_dirty | PG_writeback
    one.env.run()
    assert one.mapping.find(0).flags & (PG_dirty | PG_writeback) == PG_dirty
    one.sync()
    assert one.on_disk(0, 4096) == b"b" * 4096
    one.look()


def test_two_who_sync_at_once_both_wait_until_it_is_there(world):
    one = world()
    one.write(0, b"a" * 65536)
    jobs = [one.env.job(one.cache.write_and_wait_range(io, 0, 65536)) for io in (1, 2)]
    for job in jobs:
        one.env.run(until=job)
        assert one.on_disk(0, 65536) == b"a" * 65536
    assert len(one.device.bios) == 1
    one.look()


def inline_world(world):
    """Return a file of 100 bytes inside its inode, and these bytes; it has a block from 160 bytes on."""
    one, inode, state = world(100, state="hole"), bytearray(b"i" * 100 + bytes(60)), {"inline": True}
    sound = one.file.iomap_begin, one.file.map_blocks

    def begin(pos, length, *, write, direct=True, nowait=False):
        state["inline"] = state["inline"] and (not write or pos + length <= 160)
        if state["inline"]:
            return Iomap("inline", 0, max(one.file.i_size, pos + length if write else 0), 60)
        return sound[0](pos, length, write=write, direct=direct, nowait=nowait)

    def map_blocks(pos, length):
        return begin(pos, 1, write=False) if state["inline"] else sound[1](pos, length)

    def drain(pos, ranges):
        inode[pos : pos + ranges[0][1]] = one.ram.gather(ranges)

    one.file.iomap_begin, one.file.map_blocks = begin, map_blocks
    one.mapping.fill = lambda pos, ranges: one.ram.scatter(ranges, bytes(inode[pos : pos + ranges[0][1]]))
    one.mapping.drain = drain
    return one, inode


def test_a_file_inside_its_inode_is_read_and_written_without_a_device(world):
    one, inode = inline_world(world)
    assert one.read(0, 200) == b"i" * 100
    one.drop()
    one.write(10, b"new")
    one.write(120, b"end")
    one.sync()
    assert inode[:123] == b"i" * 10 + b"new" + b"i" * 87 + bytes(20) + b"end"
    assert one.device.bios == []
    one.look()


def test_a_file_that_grows_out_of_its_inode_takes_its_bytes_along(world):
    one, _ = inline_world(world)
    one.write(200, b"x")
    one.sync()
    assert one.on_disk(0, 201) == b"i" * 100 + bytes(100) + b"x"
    one.look()


def test_whoever_dies_in_the_middle_leaves_nothing_under_writeback(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.write(8192, b"b" * 4096)
    work = one.cache.write_and_wait_range(1, 0, 65536)
    next(work)
    work.close()
    one.look()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_what_is_dirty_goes_out_though_nobody_waits_for_it_any_more(world, steps):
    one = world()
    one.write(0, b"a" * 65536)
    call = one.env.job(one.cache.fsync(1))
    for _ in range(steps):
        one.env.step()
    assert not call.triggered
    call.abandon()
    one.env.run()
    assert one.on_disk(0, 65536) == b"a" * 65536
    one.look()
    one.sync()
