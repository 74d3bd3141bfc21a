from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.fs import runs
from labkit.kernel.fs.runs import RunMap
from labkit.kernel.fs.space import Free, Refs

SPANS = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda span: (span[0], span[0] + span[1]))
CHANGES = st.lists(st.tuples(SPANS, st.integers(0, 3)), max_size=40)


def runs_of(cells):
    """Return the runs of equal, non-zero cells: what a map of them must hold, seen cell by cell."""
    out = []
    for at, files in enumerate(cells):
        if out and out[-1][1] == at and out[-1][2] == files:
            out[-1][1] = at + 1
        else:
            out.append([at, at + 1, files])
    return [Refs(lo, hi - lo, files) for lo, hi, files in out if files]


@given(CHANGES, st.integers(1, 6), SPANS)
def test_a_map_of_runs_is_an_array_of_cells(changes, leaf, look):
    old, runs._LEAF = runs._LEAF, leaf
    try:
        found, cells = RunMap(), [0] * 100
        for (lo, hi), files in changes:
            gone = found.splice(lo, hi, [Refs(lo, hi - lo, files)] if files else [])
            assert gone == [run._replace(start=run.start + lo) for run in runs_of(cells[lo:hi])]
            cells[lo:hi] = [files] * (hi - lo)
        want = runs_of(cells)
        assert list(found) == want
        assert len(found) == len(want)
        lo, hi = look
        assert list(found.parts(lo, hi)) == [run._replace(start=run.start + lo) for run in runs_of(cells[lo:hi])]
        empty = runs_of([0 if files else 1 for files in cells[lo:hi]])
        assert list(found.gaps(lo, hi)) == [(run.start + lo, run.end + lo) for run in empty]
        assert found.at(lo) == next((run for run in want if run.end > lo), None)
        assert found.before(lo) == next((run for run in reversed(want) if run.start < lo), None)
    finally:
        runs._LEAF = old


def test_neighbours_join_up_to_the_most():
    found = RunMap(most=100)
    for start in range(0, 300, 50):
        found.splice(start, start + 50, [Free(start, 50)])
    assert list(found) == [Free(0, 100), Free(100, 100), Free(200, 100)]


def test_a_change_copies_a_leaf_and_not_the_whole():
    found = RunMap(Free(2 * start, 1) for start in range(100_000))
    assert max(map(len, found._leaves)) == 256
    before = [id(leaf) for leaf in found._leaves]
    found.splice(100_000, 100_001)
    assert len(set(before) - {id(leaf) for leaf in found._leaves}) == 1
    assert len(found) == 99_999


def test_a_map_that_joins_nothing_keeps_neighbours_apart():
    found = RunMap[Free]()
    found.joins = False
    found.splice(0, 100, [Free(0, 10), Free(10, 10)])
    found.splice(20, 30, [Free(20, 10)])
    assert list(found) == [Free(0, 10), Free(10, 10), Free(20, 10)]
    found.joins = True
    found.splice(30, 40, [Free(30, 10)])
    assert list(found) == [Free(0, 10), Free(10, 10), Free(20, 20)]
