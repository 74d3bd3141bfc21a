import itertools

from hypothesis import given
from hypothesis import strategies as st

from labkit.scatter.payload import cut, run_length

RANGES = st.lists(st.tuples(st.integers(0, 60).map(lambda pfn: pfn << 12), st.integers(1, 9000)), max_size=12)


def test_a_cut_inside_one_range_is_arithmetic():
    assert cut(((0x7000, 4096), (0x21000, 4096)), 512, 1024) == ((0x7200, 1024),)


def test_a_cut_across_a_joint_has_two_parts():
    assert cut(((0x7000, 4096), (0x21000, 4096)), 3584, 1024) == ((0x7E00, 512), (0x21000, 512))


def test_a_cut_of_nothing_is_empty_and_one_beyond_the_end_is_what_is_left():
    assert cut(((0x7000, 4096),), 0, 0) == ()
    assert cut(((0x7000, 4096),), 4096, 512) == ()
    assert cut(((0x7000, 4096),), 3584, 9999) == ((0x7E00, 512),)


def test_what_touches_is_glued_and_what_does_not_is_left():
    assert run_length(((0x1000, 4096), (0x2000, 512), (0x2200, 512), (0x9000, 1))) == ((0x1000, 5120), (0x9000, 1))


def test_order_matters_backwards_neighbours_are_not_glued():
    assert run_length(((0x2000, 4096), (0x1000, 4096))) == ((0x2000, 4096), (0x1000, 4096))


@given(RANGES, st.lists(st.integers(0, 40_000), max_size=6))
def test_the_pieces_of_a_cut_put_together_are_the_whole(ranges, marks):
    total = sum(nbytes for _, nbytes in ranges)
    marks = [0, *sorted(min(mark, total) for mark in marks), total]
    pieces = [cut(ranges, lo, hi - lo) for lo, hi in itertools.pairwise(marks)]
    assert [sum(n for _, n in piece) for piece in pieces] == [hi - lo for lo, hi in itertools.pairwise(marks)]
    together = [part for piece in pieces for part in piece]
    assert run_length(together) == run_length(ranges)


@given(RANGES)
def test_gluing_keeps_every_byte_in_its_place_and_leaves_no_joint(ranges):
    glued = run_length(ranges)
    expected = [addr + i for addr, nbytes in ranges for i in range(nbytes)]
    assert [addr + i for addr, nbytes in glued for i in range(nbytes)] == expected
    assert all(a + n != b for (a, n), (b, _) in itertools.pairwise(glued))
