import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.scatter.payload import cut, join, run_length
from labkit.scatter.range_array import RangeArray

RANGES = st.lists(st.tuples(st.integers(0, 40).map(lambda pfn: pfn << 12), st.integers(0, 3).map(lambda n: n << 12)))
BOTH = ((0x7000, 4096), (0x21000, 512))


def columns(ranges):
    return RangeArray([addr for addr, _ in ranges], [nbytes for _, nbytes in ranges])


def test_columns_are_a_sequence_of_pairs():
    both = columns(BOTH)
    assert (len(both), both[0], both[-1], list(both)) == (2, (0x7000, 4096), (0x21000, 512), list(BOTH))
    assert type(both[0][0]) is int
    assert both.nbytes == 4608
    assert both.ends.tolist() == [4096, 4608]
    with pytest.raises(IndexError):
        both[2]


def test_they_are_equal_to_a_tuple_of_the_same_pairs_and_hash_as_it_does():
    assert columns(BOTH) == BOTH
    assert BOTH == columns(BOTH)  # noqa: SIM300 - a tuple on the left asks the other side
    assert columns(BOTH) == columns(BOTH)
    assert columns(BOTH) != columns(BOTH[:1])
    assert columns(BOTH) != ((0x7000, 4096), (0x21000, 513))
    assert columns(BOTH) != "pairs"
    assert len({columns(BOTH), BOTH}) == 1
    assert columns(()) == ()


def test_they_are_sorted_among_tuples():
    assert sorted([columns(BOTH), ((0x6000, 1),), BOTH[:1]]) == [((0x6000, 1),), BOTH[:1], BOTH]
    assert columns(BOTH) < ((0x7000, 4097),)
    assert columns(BOTH) > BOTH[:1]


def test_nobody_writes_to_them():
    both = columns(BOTH)
    for rows in (both.rows, both[:1].rows, both.cut(512, 4096).rows):
        with pytest.raises(ValueError, match="read-only"):
            rows[0] = 0


def test_a_slice_and_a_cut_at_joints_share_the_rows():
    many = RangeArray(range(0, 1 << 24, 8192), [4096] * 2048)
    assert np.shares_memory(many[5:9].rows, many.rows)
    assert np.shares_memory(many.cut(4096, 8192).rows, many.rows)
    assert many.cut(4096, 8192) == ((8192, 4096), (16384, 4096))
    assert many.run_length() is many


def test_a_ragged_cut_leaves_the_whole_as_it_was():
    both = columns(BOTH)
    assert both.cut(3584, 768) == ((0x7E00, 512), (0x21000, 256))
    assert both.cut(512, 1024) == ((0x7200, 1024),)
    assert both.cut(4608, 1) == both.cut(0, 0) == columns(()).cut(0, 9) == ()
    assert both == BOTH


def test_a_byte_is_found_in_its_range():
    both = columns(BOTH)
    assert [both.find(at) for at in (0, 4095, 4096, 4607, 4608)] == [(0, 0), (0, 4095), (1, 0), (1, 511), (2, 0)]


def test_they_say_how_much_they_are():
    assert repr(columns(BOTH)) == "RangeArray(2 ranges, 4608 bytes from 0x7000 on)"
    assert repr(columns(())) == "RangeArray()"


def test_they_can_be_copied_and_pickled():
    assert copy.deepcopy(columns(BOTH)) == pickle.loads(pickle.dumps(columns(BOTH))) == BOTH  # noqa: S301


def test_a_quarter_of_a_million_ranges_are_four_megabytes():
    many = RangeArray(np.arange(262144) << 13, np.full(262144, 4096))
    assert many.rows.nbytes == 4 << 20
    assert many.nbytes == 1 << 30


@pytest.mark.parametrize("parts", [[], [()], [BOTH], [BOTH, ()], [columns(BOTH), BOTH], [BOTH] * 20])
def test_joined_parts_follow_each_other(parts):
    assert join(parts) == tuple(pair for part in parts for pair in part)
    assert isinstance(join(parts), RangeArray) == (len(parts) == 20)


@settings(max_examples=3000)
@given(RANGES, st.integers(0, 1 << 17), st.integers(0, 1 << 17))
def test_columns_and_tuples_are_cut_and_glued_alike(ranges, start, nbytes):
    plain, cols = tuple(ranges), columns(ranges)
    assert cols == plain
    assert (cols.nbytes, hash(cols)) == (sum(n for _, n in plain), hash(plain))
    assert cut(cols, start, nbytes) == cut(plain, start, nbytes)
    assert run_length(cols) == run_length(plain)
    assert cols[start % 7 : nbytes % 11] == plain[start % 7 : nbytes % 11]
    assert cut(cols[1:], start, nbytes) == cut(plain[1:], start, nbytes)
