from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.host.memory import pagemap
from labkit.host.memory.buffer.space import Space
from labkit.host.memory.buffer.synth import MIX, Piece, plan, synth

PAGE = 4096


def test_runs_are_taken_in_turn_and_the_last_is_cut():
    pieces, _ = plan(12, (5, 2), seed=0)
    assert [(piece.at, piece.pages) for piece in pieces] == [(0, 5), (5, 2), (7, 5)]
    pieces, _ = plan(8, (5, 2), seed=0)
    assert [(piece.at, piece.pages) for piece in pieces] == [(0, 5), (5, 2), (7, 1)]


def test_one_run_lies_at_the_beginning_of_one_huge_page():
    assert plan(1, (), seed=9) == ([Piece(0, 0, 1)], 1)


def test_without_runs_there_is_a_mixture_that_the_seed_chooses():
    lengths = [piece.pages for piece in plan(4096, (), seed=1)[0]]
    assert set(lengths[:-1]) == set(MIX)
    assert lengths == [piece.pages for piece in plan(4096, (), seed=1)[0]]
    assert lengths != [piece.pages for piece in plan(4096, (), seed=2)[0]]


@given(
    st.integers(1, 3000),
    st.one_of(st.just([]), st.lists(st.integers(1, 511), min_size=1, max_size=9)),
    st.integers(0, 99),
)
def test_every_page_has_a_place_and_no_two_runs_can_ever_touch(pages, runs, seed):
    pieces, blocks = plan(pages, runs, seed)
    assert [at for at, _, n in pieces for at in range(at, at + n)] == list(range(pages))
    used = sorted((source, n) for _, source, n in pieces)
    assert all(source // 512 == (source + n) // 512 for source, n in used)
    assert all(source + n < following for (source, n), (following, _) in pairwise(used))
    assert used[-1][0] < blocks * 512 <= (used[-1][0] // 512 + 1) * 512


@pytest.mark.parametrize("runs", [(0,), (3, -1), (512,), (1, 513)])
def test_a_run_that_leaves_no_page_of_its_huge_page_free_is_no_run(runs):
    with pytest.raises(BadInput, match=r"buffer: a run of .* pages is none of 1 to 511 \(-EINVAL\)"):
        plan(4, runs, seed=0)


@pytest.mark.host
@pytest.mark.usefixtures("root")
def test_the_frames_lie_as_they_were_asked_to(undo, says):
    before = says()
    with Space(200 * PAGE, PAGE) as space:
        synth(space, undo, (3, 1, 64), seed=5)
        rows = pagemap.rows(space.address, space.nbytes)
        view = space.view(200 * PAGE)
        for page in range(200):
            view[page * PAGE] = page
        assert [view[page * PAGE] for page in range(200)] == list(range(200))
        view.release()
    assert [pages for _, _, pages in rows] == [3, 1, 64, 3, 1, 64, 3, 1, 60]
    assert says() == before
