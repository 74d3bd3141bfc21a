import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.fs.filesystem import Filesystem
from labkit.kernel.fs.ops import File, Iomap

K = 4096
BASE = 96 << 10


def file_of(nbytes=0, kind="xfs", **more):
    return Filesystem(1 << 20, kind, **more).create("file", nbytes)


def told(inode):
    return [(row[0], row[2], *row[3]) for row in inode.fiemap()]


def test_an_inode_is_a_file_as_direct_io_sees_it():
    inode: File = file_of(8192)
    assert (inode.ino, inode.i_size, inode.block_size) == (131, 8192, 4096)


def test_a_read_of_a_file_with_holes_maps_as_on_a_real_kernel():
    """Measured: ext4 on Linux 6.18, a read of 96 KiB, its iomap_iter_dstmap one after the other."""
    rows = [[0, 136323072, 4096, []], [8192, 136327168, 4096, []], [73728, 8896512, 20480, []]]
    inode, at, told = Filesystem(512 << 20).create("holes", 20 << 20, extents=rows), 0, []
    while at < 98304:
        told.append(inode.iomap_begin(at, 98304 - at, write=False))
        at += told[-1].length
    assert told == [
        Iomap("mapped", 0, 4096, 136323072), Iomap("hole", 4096, 4096), Iomap("mapped", 8192, 4096, 136327168),
        Iomap("hole", 12288, 61440), Iomap("mapped", 73728, 20480, 8896512), Iomap("hole", 94208, 4096),
    ]  # fmt: skip


def test_a_mapping_is_of_whole_blocks_and_ends_with_that_of_the_last_byte():
    inode = file_of(10 * K)
    assert inode.iomap_begin(5000, 5000, write=False) == Iomap("mapped", 4096, 8192, BASE + 4096)
    assert inode.iomap_begin(100 * K, 1, write=False) == Iomap("hole", 100 * K, K)


def test_rule_dio_10_a_direct_write_into_a_hole_is_unwritten_until_its_end():
    inode = file_of()
    inode.truncate(64 * K)
    found = inode.iomap_begin(8192, 8192, write=True)
    assert found == Iomap("unwritten", 8192, 8192, BASE, new=True, dirty=True)
    assert inode.iomap_begin(0, 64 * K, write=False) == Iomap("hole", 0, 8192)
    assert inode.iomap_begin(8192, 64 * K, write=False) == Iomap("unwritten", 8192, 8192, BASE)
    inode.end_io(8192, 4096, unwritten=True, extend=False)
    assert told(inode) == [(8192, 4096), (12288, 4096, "UNWRITTEN", "LAST")]


def test_rule_dio_12_the_file_grows_when_the_bytes_are_there():
    inode = file_of()
    inode.iomap_begin(0, 6000, write=True)
    assert inode.i_size == 0
    inode.end_io(0, 6000, unwritten=True, extend=True)
    inode.end_io(0, 100, unwritten=False, extend=True)
    assert inode.i_size == 6000
    assert told(inode) == [(0, 8192, "LAST")]


def test_what_is_written_over_is_not_dirty_once_the_metadata_is_safe():
    inode = file_of(8192)
    assert inode.iomap_begin(0, 4096, write=True).dirty
    inode.commit()
    assert not inode.iomap_begin(0, 8192, write=True).dirty
    assert inode.iomap_begin(4096, 8192, write=True).dirty  # the size will change


def test_nowait_allocates_nothing():
    inode = file_of(4096)
    assert inode.iomap_begin(0, 8192, write=True, nowait=True).length == 4096
    with pytest.raises(SyscallError, match=r"iomap: file would have to allocate \(NOWAIT\) \(-EAGAIN\)"):
        inode.iomap_begin(4096, 4096, write=True, nowait=True)
    assert told(inode) == [(0, 4096, "LAST")]


def test_a_file_that_cannot_do_direct_io_says_so():
    fs = Filesystem(1 << 20)
    for inode in (fs.create("journalled", 4096, dio=False), fs.create("tiny", 33, inline=True)):
        for write in (False, True):
            with pytest.raises(SyscallError, match=r"cannot do direct IO \(DIO-17\) \(-ENOTBLK\)"):
                inode.iomap_begin(0, 33, write=write)
    assert fs.open("journalled").iomap_begin(0, 33, write=True, direct=False).type == "mapped"


def test_delayed_blocks_are_allocated_by_writeback_or_by_a_direct_write():
    inode = file_of()
    assert inode.iomap_begin(0, 5 * K, write=True, direct=False) == Iomap("delalloc", 0, 5 * K, new=True, dirty=True)
    assert inode.iomap_begin(0, K, write=False) == Iomap("delalloc", 0, K)
    assert told(inode) == [(0, 5 * K, "DELALLOC", "UNKNOWN", "LAST")]
    assert inode.map_blocks(K, K) == Iomap("unwritten", K, K, BASE, new=True)
    assert inode.iomap_begin(2 * K, K, write=True).type == "unwritten"
    assert [row[:1] + row[2:] for row in inode.fiemap()] == [
        [0, K, ["DELALLOC", "UNKNOWN"]], [K, 2 * K, ["UNWRITTEN"]], [3 * K, 2 * K, ["DELALLOC", "UNKNOWN", "LAST"]],
    ]  # fmt: skip


def test_without_delayed_allocation_a_buffered_write_has_its_blocks_at_once():
    inode = file_of(delalloc=False)
    found = inode.iomap_begin(100, 100, write=True, direct=False)
    assert found == Iomap("unwritten", 0, K, BASE, new=True, dirty=True)


@pytest.mark.parametrize("delalloc", [True, False])
def test_a_buffered_write_to_a_shared_block_is_told_of_the_old_one_which_it_may_have_to_read(delalloc):
    fs = Filesystem(1 << 20, "xfs", delalloc=delalloc)
    fs.create("file", 2 * K)
    copy = fs.reflink("file", "copy")
    assert copy.iomap_begin(100, 50, write=True, direct=False) == Iomap("mapped", 0, K, BASE, shared=True, dirty=True)
    assert copy.map_blocks(0, K) == Iomap("mapped", 0, K, BASE + 2 * K, new=True, shared=True)
    assert copy.iomap_begin(0, K, write=False).addr == BASE
    copy.end_io(0, K, unwritten=True, extend=False)
    assert copy.iomap_begin(0, K, write=False).addr == BASE + 2 * K
    fs.check()


def test_a_file_inside_its_inode_grows_there_and_then_out_of_it():
    inode = Filesystem(1 << 20).create("tiny", 33, inline=True)
    place = (16 << 10) + 11 * 256 + 40
    assert inode.iomap_begin(0, 100, write=False, direct=False) == Iomap("inline", 0, 33, place)
    assert inode.iomap_begin(40, 10, write=False, direct=False).type == "hole"
    assert inode.iomap_begin(33, 27, write=True, direct=False) == Iomap("inline", 0, 60, place)
    assert told(inode) == [(0, 60, "DATA_INLINE", "NOT_ALIGNED", "LAST")]
    assert inode.map_blocks(0, 33).type == "inline"
    assert inode.iomap_begin(33, 28, write=True, direct=False) == Iomap("delalloc", 0, K, dirty=True)
    assert inode.iomap_begin(0, K, write=True).type == "unwritten"


def test_a_file_inside_its_inode_is_cut_and_grows():
    inode = Filesystem(1 << 20).create("tiny", 33, inline=True)
    assert inode.truncate(50) == []
    assert told(inode)[0][:2] == (0, 50)
    inode.truncate(61)
    assert told(inode) == [(0, K, "DELALLOC", "UNKNOWN", "LAST")]
    other = Filesystem(1 << 20).create("tiny", 33, inline=True)
    other.truncate(0)
    assert told(other) == []


def test_what_is_cut_off_is_free_and_the_rest_of_a_block_is_to_be_zeroed():
    inode = file_of(10 * K)
    free = inode.forks.space.nr_free
    assert inode.truncate(5 * K + 100) == [(5 * K + 100, K - 100)]
    assert (inode.i_size, told(inode)) == (5 * K + 100, [(0, 6 * K, "LAST")])
    assert inode.forks.space.nr_free == free + 4 * K
    assert inode.truncate(1 << 40) == []
    assert (inode.i_size, inode.forks.space.nr_free) == (1 << 40, free + 4 * K)


def test_room_is_made_unwritten_and_the_file_grows_unless_it_must_not():
    inode = file_of()
    inode.fallocate(100, 5000, keep_size=True)
    assert (inode.i_size, told(inode)) == (0, [(0, 2 * K, "UNWRITTEN", "LAST")])
    inode.fallocate(0, 9000)
    assert (inode.i_size, told(inode)) == (9000, [(0, 3 * K, "UNWRITTEN", "LAST")])
    with pytest.raises(SyscallError, match="ENOSPC"):
        inode.fallocate(0, 1 << 30)
    assert (inode.i_size, told(inode)) == (9000, [(0, 3 * K, "UNWRITTEN", "LAST")])


@pytest.mark.parametrize(
    ("pos", "length", "edges", "left"),
    [
        (K, 2 * K, [], [(0, K), (3 * K, 7 * K, "LAST")]),
        (100, 50, [(100, 50)], [(0, 10 * K, "LAST")]),
        (4000, 200, [(4000, 96), (4096, 104)], [(0, 10 * K, "LAST")]),
        (4000, 4396, [(4000, 96), (8192, 204)], [(0, K), (2 * K, 8 * K, "LAST")]),
        (8 * K, 100 * K, [], [(0, 8 * K, "LAST")]),
        (20 * K + 1, 100, [], [(0, 10 * K, "LAST")]),
    ],
)
def test_whole_blocks_become_a_hole_and_edges_are_to_be_zeroed(pos, length, edges, left):
    inode = file_of(10 * K)
    assert inode.punch_hole(pos, length) == edges
    assert told(inode) == left
    assert inode.i_size == 10 * K


@pytest.mark.parametrize(
    ("pos", "length", "name"), [(-1, 5, "-EINVAL"), (0, 0, "-EINVAL"), (0, -5, "-EINVAL"), (1 << 63, 1, "-EFBIG")]
)
def test_what_is_no_part_of_a_file_is_refused(pos, length, name):
    inode = file_of(4096)
    for verb in (inode.fallocate, inode.punch_hole, inode.map_blocks, lambda *a: inode.iomap_begin(*a, write=True)):
        with pytest.raises(SyscallError) as caught:
            verb(pos, length)
        assert caught.value.errno_name == name
    with pytest.raises(SyscallError, match="is not a range of bytes"):
        inode.truncate(-1)


def test_a_direct_write_without_room_takes_what_there_is_and_leaks_nothing():
    fs = Filesystem(BASE + 3 * K)
    inode = fs.create("file")
    assert inode.iomap_begin(0, 8 * K, write=True).length == 3 * K
    with pytest.raises(SyscallError, match=r"ext4: 4096 bytes do not fit: 0 are free \(-ENOSPC\)"):
        inode.iomap_begin(3 * K, 5 * K, write=True)
    fs.check()
    assert inode.iomap_begin(0, 8 * K, write=False).type == "unwritten"
    fs.unlink("file")
    fs.check()
    assert fs.df().free == 3 * K


@given(
    spots=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(0, 2)), max_size=8),
    pos=st.integers(0, 40 * K),
    length=st.integers(1, 20 * K),
    fragmentation=st.sampled_from([0.0, 0.5, 1.0]),
    write=st.booleans(),
    direct=st.booleans(),
)
def test_mappings_cover_what_is_asked_for_in_order_without_gap_or_overlap(
    spots, pos, length, fragmentation, write, direct
):
    inode = file_of(fragmentation=fragmentation)
    for first, count, kind in spots:
        if kind == 2:  # the third of three ways to get a block
            inode.iomap_begin(first * K, count * K, write=True, direct=False)
        else:
            inode.fallocate(first * K, count * K)
            inode.end_io(first * K, count * K * kind, unwritten=True, extend=False)
    at, end, places = pos, pos + length, []
    while at < end:
        found = inode.iomap_begin(at, end - at, write=write, direct=direct)
        assert found.offset <= at < found.offset + found.length <= -(-end // K) * K
        assert found.offset == at // K * K
        assert not write or found.type != "hole"
        assert (found.addr == -1) == (found.type in ("hole", "delalloc"))
        assert not (write and direct) or found.addr >= BASE
        places += range(found.addr, found.addr + found.length, K) if found.addr >= 0 else []
        at = found.offset + found.length
    assert at == -(-end // K) * K
    assert len(set(places)) == len(places)
