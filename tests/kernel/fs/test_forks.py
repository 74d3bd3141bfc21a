import pytest

from labkit.errors import SyscallError
from labkit.kernel.fs.extents import Extent
from labkit.kernel.fs.forks import Forks
from labkit.kernel.fs.ops import Iomap
from labkit.kernel.fs.space import Space

K = 4096


def forks_of(blocks=100):
    return Forks("file", Space("xfs", blocks * K, K, 4 * K, fragmentation=0.0, seed=0), 1 << 40)


def shared_of(blocks=100):
    """Blocks [0, 8) of a file, of which another file has [2, 6) too."""
    forks = forks_of(blocks)
    forks.fill(0, 8 * K)
    forks.data.convert(0, 8 * K)
    forks.space.share(6 * K, 4 * K)
    return forks


def test_a_hole_gets_unwritten_blocks_and_the_next_hole_those_behind():
    forks = forks_of()
    assert forks.take(2 * K, 4 * K) == Iomap("unwritten", 2 * K, 2 * K, 4 * K, new=True)
    assert forks.take(2 * K, 9 * K) == Iomap("unwritten", 2 * K, 2 * K, 4 * K)
    assert forks.take(4 * K, 9 * K) == Iomap("unwritten", 4 * K, 5 * K, 6 * K, new=True)
    assert forks.take(20 * K, 21 * K).addr == 22 * K  # as far behind as the bytes are


def test_what_is_there_is_taken_as_it_is():
    forks = shared_of()
    assert forks.take(0, 8 * K) == Iomap("mapped", 0, 2 * K, 4 * K)
    assert forks.take(6 * K, 8 * K, nowait=True, whole=False) == Iomap("mapped", 6 * K, 2 * K, 10 * K)


def test_a_shared_block_is_never_taken_but_a_copy_of_it():
    forks = shared_of()
    assert forks.take(3 * K, 8 * K) == Iomap("mapped", 3 * K, 3 * K, 12 * K, new=True, shared=True)
    assert forks.take(3 * K, 8 * K, nowait=True) == Iomap("mapped", 3 * K, 3 * K, 12 * K, shared=True)
    assert forks.find(3 * K, 4 * K).addr == 7 * K  # what is read meanwhile
    assert forks.take(0, 8 * K).length == 2 * K
    assert forks.swap(3 * K, 5 * K)
    assert list(forks.data) == [Extent(0, 4 * K, 3 * K), Extent(3 * K, 12 * K, 2 * K), Extent(5 * K, 9 * K, 3 * K)]
    assert list(forks.cow) == [Extent(5 * K, 14 * K, K)]
    assert forks.space.shared(7 * K, K) == (False, K)  # the other file has it alone now


def test_a_copy_that_waits_is_not_written_over_from_what_lies_before_it():
    forks = shared_of()
    forks.take(4 * K, 5 * K)
    forks.space.release(6 * K, 4 * K)  # the other file is gone
    assert forks.take(2 * K, 8 * K) == Iomap("mapped", 2 * K, 2 * K, 6 * K)
    assert forks.take(4 * K, 8 * K).shared


@pytest.mark.parametrize(
    ("first", "flags", "errno_name", "why"),
    [
        (2, {"nowait": True}, "-EAGAIN", "would have to allocate (NOWAIT)"),
        (9, {"nowait": True}, "-EAGAIN", "would have to allocate (NOWAIT)"),
        (2, {"whole": False}, "-ENOTBLK", "shares a block of which this is a part (DIO-10)"),
    ],
)
def test_what_may_not_be_allocated_is_refused_and_nothing_is(first, flags, errno_name, why):
    forks = shared_of()
    free = forks.space.nr_free
    with pytest.raises(SyscallError) as caught:
        forks.take(first * K, 10 * K, **flags)
    assert str(caught.value) == f"iomap: file {why} ({errno_name})"
    assert (forks.space.nr_free, len(forks.cow)) == (free, 0)


def test_a_buffered_write_is_promised_blocks_and_finds_them_at_writeback():
    forks = forks_of(10)
    assert forks.promise(K, 4 * K) == Iomap("delalloc", K, 3 * K, new=True)
    assert forks.promise(2 * K, 9 * K) == Iomap("delalloc", 2 * K, 2 * K)
    assert (forks.space.nr_free, forks.space.reserved, forks.promised()) == (6 * K, 3 * K, 3 * K)
    assert forks.promise(4 * K, 9 * K) == Iomap("delalloc", 4 * K, 3 * K, new=True)
    with pytest.raises(SyscallError, match="ENOSPC"):
        forks.promise(8 * K, 9 * K)
    assert forks.take(2 * K, 4 * K) == Iomap("unwritten", 2 * K, 2 * K, 4 * K, new=True)
    assert (forks.space.nr_free, forks.space.reserved) == (4 * K, 4 * K)
    forks.free(0, 9 * K)
    assert (forks.space.nr_free, forks.space.reserved, forks.promised()) == (6 * K, 0, 0)


def test_a_buffered_write_to_a_shared_block_sees_the_old_bytes_until_writeback():
    forks = shared_of()
    assert forks.promise(K, 8 * K) == Iomap("mapped", K, K, 5 * K)
    assert forks.promise(2 * K, 8 * K) == Iomap("mapped", 2 * K, 4 * K, 6 * K, shared=True)
    assert forks.promise(2 * K, 8 * K) == Iomap("mapped", 2 * K, 4 * K, 6 * K, shared=True)
    assert forks.space.reserved == 4 * K
    assert forks.take(2 * K, 3 * K) == Iomap("mapped", 2 * K, K, 12 * K, new=True, shared=True)
    assert forks.space.reserved == 3 * K
    assert forks.swap(0, 8 * K)
    assert (forks.space.reserved, len(forks.cow)) == (0, 0)


def test_room_for_all_is_had_or_nothing_is():
    forks = forks_of(10)
    forks.take(2 * K, 4 * K)
    with pytest.raises(SyscallError, match="20480 bytes do not fit: 16384 are free"):
        forks.fill(0, 7 * K)
    assert forks.space.reserved == 0
    assert list(forks.data) == [Extent(2 * K, 4 * K, 2 * K, "unwritten")]
    forks.fill(0, 6 * K)
    assert sorted(forks.owned()) == [(4 * K, 6 * K), (6 * K, 8 * K), (8 * K, 10 * K)]
