import pytest

from labkit.views.runs import strip


def test_what_touches_is_one_run_and_gaps_are_folded():
    found = strip([(0, 10), (10, 10), (1000, 20)], 0, 120, 20)
    assert found.pieces == ((0, 20, 0, 50), (1000, 20, 70, 50))


@pytest.mark.parametrize(("at", "x"), [(0, 0), (10, 25), (20, 50), (500, 50), (1000, 70), (1020, 120), (5000, 120)])
def test_a_place_between_runs_is_at_the_end_of_the_one_before(at, x):
    assert strip([(0, 20), (1000, 20)], 0, 120, 20).x(at) == x


def test_a_box_begins_in_its_own_run_where_another_one_ends_there():
    found = strip([(0, 20), (1000, 20)], 0, 120, 20)
    assert found.box(1000, 10) == (70, 95)
    assert found.box(10, 1000) == (25, 50)


def test_many_runs_keep_two_thirds_of_the_page():
    found = strip([(i * 100, 10) for i in range(50)], 0, 300)
    assert sum(piece[3] for piece in found.pieces) >= 200
    assert found.pieces[-1][2] + found.pieces[-1][3] == pytest.approx(300)


def test_of_nothing_there_is_an_empty_strip():
    assert strip([], 0, 100).pieces == ()
    assert strip([], 0, 100).x(5) == 0
