import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.hardware.media.garbage import Garbage


def test_a_full_drive_moves_a_third_of_each_block_to_win_the_rest():
    # 100 pages sold of 150: the low mark is 25; a victim of 10 pages has 10 * (2 * 100 - 150) / 150 = 3.3 valid ones
    pool = Garbage(100, 0.5, 10, 1.0)
    assert (pool.physical, pool.low, pool.free) == (150, 25, 25)
    assert [pool.write(i, 1) for i in range(9)] == [(1, 3), *[(0, 0)] * 6, (1, 3), (0, 0)]
    assert pool.free == 30


def test_a_row_of_pages_wins_as_many_blocks_as_it_uses_up():
    assert Garbage(100, 0.5, 10, 1.0).write(0, 70) == (10, 30)


def test_a_fresh_drive_writes_until_its_pool_is_low_and_what_was_written_again_is_free_to_win():
    pool = Garbage(100, 0.5, 10, 0.0)
    assert [pool.write(0, 1) for _ in range(125)] == [(0, 0)] * 125
    assert pool.write(0, 1) == (1, 0)
    assert pool.valid == 1


def test_pages_are_valid_once_however_often_they_are_written():
    pool = Garbage(100, 0.5, 10, 0.2)
    pool.write(10, 20)  # ten of them were old
    pool.write(25, 1)
    pool.write(30, 1)
    pool.write(19, 1)
    assert pool.valid == 31


@pytest.mark.parametrize(("spare", "amplified"), [(0.07, 7.6), (0.28, 2.3), (1.0, 1.0)])
def test_write_amplification_grows_as_less_is_spare(spare, amplified):
    # P / 2(P - V): 1.07 / 0.14 = 7.6, 1.28 / 0.56 = 2.3, and never less than 1
    pool = Garbage(100_000, spare, 1000, 1.0)
    moved = sum(pool.write(i, 1)[1] for i in range(50_000))
    assert (moved + 50_000) / 50_000 == pytest.approx(amplified, rel=0.03)


@given(
    pages=st.integers(1, 60),
    spare=st.floats(0.01, 2),
    block=st.integers(1, 80),
    filled=st.floats(0, 1),
    asked=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 60)), max_size=20),
)
def test_no_more_is_ever_free_than_is_not_valid(pages, spare, block, filled, asked):
    pool = Garbage(pages, spare, block, filled)
    for first, count in asked:
        at = first % pages
        erased, moved = pool.write(at, min(count, pages - at))
        assert 0 <= moved <= erased * block
        assert pool.low <= pool.free <= pool.physical - pool.valid
        assert pool.valid <= pages
