from itertools import pairwise

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.fs.space import Free, Refs, Space

K = 4096


def space_of(blocks=100, fragmentation=0.0, seed=0):
    return Space("ext4", blocks * K, K, 4 * K, fragmentation=fragmentation, seed=seed)


def all_of(space, nbytes):
    runs, goal = [], 0
    while nbytes:
        start, size = space.alloc(goal, nbytes)
        runs.append((start // K, size // K))
        goal, nbytes = start + size, nbytes - size
    return runs


def test_free_space_is_given_at_its_goal_in_one_piece():
    space = space_of()
    assert space.alloc(0, 10 * K) == (4 * K, 10 * K)
    assert space.alloc(50 * K, 10 * K) == (50 * K, 10 * K)
    assert space.alloc(45 * K, 10 * K) == (45 * K, 5 * K)
    assert space.alloc(52 * K, 5 * K) == (60 * K, 5 * K)
    assert space.alloc(99 * K, 5 * K) == (99 * K, K)
    assert space.alloc(99 * K, 5 * K) == (14 * K, 5 * K)


def test_fragmentation_cuts_into_pieces_of_chance_and_a_seed_makes_the_same_again():
    whole, some, every = (all_of(space_of(10000, share, 7), 1000 * K) for share in (0.0, 0.25, 1.0))
    assert whole == [(4, 1000)]
    assert 150 < len(some) < 400
    assert len(every) == 1000
    starts = sorted(start for start, _ in every)
    assert all(later - earlier > 1 for earlier, later in pairwise(starts))
    assert all_of(space_of(10000, 0.25, 7), 1000 * K) == some
    assert all_of(space_of(10000, 0.25, 8), 1000 * K) != some


@pytest.mark.parametrize("fragmentation", [0.0, 0.5, 1.0])
def test_every_block_is_given_once_and_then_there_is_none(fragmentation):
    space = space_of(100, fragmentation)
    given = [block for start, count in all_of(space, 96 * K) for block in range(start, start + count)]
    assert sorted(given) == list(range(4, 100))
    with pytest.raises(SyscallError) as caught:
        space.alloc(0, K)
    assert str(caught.value) == "ext4: 4096 bytes do not fit: 0 are free (-ENOSPC)"
    for block in given:
        space.release(block * K, K)
    assert list(space.free) == [Free(4 * K, 96 * K)]
    assert space.nr_free == 96 * K


def test_what_is_promised_is_for_nobody_else():
    space = space_of(10)
    space.reserve(4 * K)
    assert space.alloc(0, 6 * K)[1] == 2 * K
    with pytest.raises(SyscallError, match="do not fit: 0 are free"):
        space.alloc(0, K)
    with pytest.raises(SyscallError, match="ENOSPC"):
        space.reserve(K)
    assert space.alloc(0, 6 * K, reserved=True)[1] == 4 * K
    assert (space.reserved, space.nr_free) == (0, 0)


def test_what_several_files_have_is_free_when_the_last_lets_go():
    space = space_of()
    space.claim(10 * K, 10 * K)
    space.share(10 * K, 10 * K)
    space.share(12 * K, 2 * K)
    assert list(space.refs) == [Refs(10 * K, 2 * K, 2), Refs(12 * K, 2 * K, 3), Refs(14 * K, 6 * K, 2)]
    assert space.shared(11 * K, 9 * K) == (True, K)
    assert space.shared(8 * K, 9 * K) == (False, 2 * K)
    assert space.shared(20 * K, 3 * K) == (False, 3 * K)
    space.release(11 * K, 5 * K)
    assert list(space.refs) == [Refs(10 * K, K, 2), Refs(12 * K, 2 * K, 2), Refs(16 * K, 4 * K, 2)]
    assert space.nr_free == 86 * K
    space.release(11 * K, 5 * K)
    assert list(space.free) == [Free(4 * K, 6 * K), Free(11 * K, K), Free(14 * K, 2 * K), Free(20 * K, 80 * K)]


@pytest.mark.parametrize(
    ("start", "nbytes", "rule"),
    [
        (0, K, "is not free"),
        (3 * K, 2 * K, "is not free"),
        (99 * K, 2 * K, "is not free"),
        (200 * K, K, "is not free"),
        (4 * K, 512, "is not a range of whole blocks of 4096 bytes"),
        (512, K, "is not a range of whole blocks of 4096 bytes"),
        (4 * K, 0, "is not a range of whole blocks of 4096 bytes"),
    ],
)
def test_only_what_is_free_can_be_claimed(start, nbytes, rule):
    space = space_of()
    with pytest.raises(BadInput) as caught:
        space.claim(start, nbytes)
    assert str(caught.value) == f"ext4: [{start}, {start + nbytes}) of the device {rule} (-EINVAL)"
    assert space.nr_free == 96 * K


def test_a_fragmentation_is_a_share():
    with pytest.raises(BadInput, match=r"fragmentation=1.5 is not between 0 and 1"):
        space_of(fragmentation=1.5)
