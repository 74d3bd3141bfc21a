import copy
import pickle

import numpy as np
import pytest

from labkit.trace.others import Others

ROWS = ((4096, 3, "anon"), (5000, 1, "slab"), (9000, 1024, "anon"))


@pytest.fixture
def others():
    return Others.of(ROWS)


def test_it_reads_like_a_tuple_of_triples(others):
    assert tuple(others) == ROWS
    assert others == ROWS
    assert others == ROWS
    assert others != ROWS[:2]
    assert others != "no triples"
    assert (len(others), others[1], others[-1]) == (3, (5000, 1, "slab"), (9000, 1024, "anon"))
    assert others[1:] == ROWS[1:]
    assert (5000, 1, "slab") in others
    assert hash(others) == hash(ROWS)
    assert repr(others) == "3 runs of frames, 1028 in all"


def test_it_holds_plain_numbers(others):
    assert [type(value) for value in others[0]] == [int, int, str]
    assert [type(value) for value in next(iter(others))] == [int, int, str]
    with pytest.raises(IndexError):
        others[3]


def test_nothing_is_nothing():
    assert Others.of(()) == ()
    assert not Others.of(())
    assert Others.of(()) + ROWS == ROWS
    assert Others.of(()).inside(np.array([0]), 512) == ()


def test_more_goes_behind_whatever_kinds_it_has(others):
    more = others
    more += ((7, 1, "pagetable"), (8, 2, "slab"))
    assert more == (*ROWS, (7, 1, "pagetable"), (8, 2, "slab"))
    assert others == ROWS
    assert Others.of(more) is more


def test_what_lies_in_some_tiles_is_found_at_once(others):
    assert others.inside(np.array([4608, 9216, 9728]), 512) == ROWS[1:]
    assert others.inside(np.array([4097]), 1) == ROWS[:1]
    assert others.inside(np.array([4099]), 512) == ()
    assert others.inside(np.array([0]), 4096) == ()
    assert others.inside(np.array([], np.int64), 512) == ()


def test_it_is_a_value(others):
    with pytest.raises(ValueError, match="read-only"):
        others.first[0] = 1
    assert pickle.loads(pickle.dumps(others)) == others  # noqa: S301 - of this test's own making
    assert copy.deepcopy(others) == others


def test_an_entry_costs_13_bytes(others):
    assert sum(column.itemsize for column in (others.first, others.frames, others.kind)) == 13
