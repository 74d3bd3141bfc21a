from hypothesis import given
from hypothesis import strategies as st

from labkit.hardware.clock import Clock
from labkit.hardware.device import Server
from labkit.hardware.media.units import Dies, Lanes

ASKED = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30), st.integers(0, 50), st.integers(0, 60)), max_size=30)


def pass_time(clock, ns):
    clock.later(ns, lambda: None)
    clock.run()


def test_a_page_waits_for_its_own_die_and_for_no_other():
    dies = Dies(Clock(), 4)
    assert dies.reserve(1, 1, 60) == (0, 60, 1)
    assert dies.reserve(5, 1, 60) == (60, 60, 1)
    assert dies.reserve(2, 1, 60) == (0, 60, 2)
    assert dies.idle() == 120


def test_a_row_of_pages_is_over_when_its_last_die_is_through():
    dies = Dies(Clock(), 4)
    dies.reserve(0, 1, 60)
    # pages 3 to 8 are on dies 3 0 1 2 3 0: die 3 is busy until 120, die 0, which has one page to read before, until 180
    assert dies.reserve(3, 6, 60) == (0, 180, 3)
    # dies 0 to 3 are free at 180, 60, 60, 120: the first page of these begins at 60, on die 1, the last ends at 240
    assert dies.reserve(0, 4, 60) == (60, 180, 0)


def test_work_of_its_own_keeps_a_die_from_serving():
    clock = Clock()
    dies = Dies(clock, 2)
    pass_time(clock, 1000)
    dies.occupy(1, 500)
    assert (dies.reserve(1, 1, 60), dies.reserve(0, 1, 60)) == ((500, 60, 1), (0, 60, 0))
    assert dies.idle() == 560


@given(count=st.integers(1, 9), asked=ASKED)
def test_a_row_takes_as_long_as_its_pages_one_by_one(count, asked):
    clock = Clock()
    dies, servers = Dies(clock, count), [Server(clock) for _ in range(count)]
    work = 0
    for first, pages, service, gap in asked:
        pass_time(clock, gap)
        waits = [servers[page % count].reserve(service) for page in range(first, first + pages)]
        turn = dies.reserve(first, pages, service)
        assert turn == (min(waits), max(waits) + service - min(waits), first % count)
        assert turn.wait >= 0
        work += pages * service
        assert (clock.now + dies.idle()) * count >= work


def test_the_next_one_is_served_by_the_lane_that_is_free_first():
    clock = Clock()
    lanes = Lanes(clock, 2)
    assert [lanes.reserve(100), lanes.reserve(30), lanes.reserve(30)] == [(0, 100, 0), (0, 30, 1), (30, 30, 1)]
    assert (lanes.start(), lanes.idle()) == (60, 100)
    pass_time(clock, 300)
    assert (lanes.start(), lanes.idle()) == (0, 0)


@given(count=st.integers(1, 5), asked=ASKED)
def test_lanes_serve_in_the_order_of_arrival_and_never_idle_while_somebody_waits(count, asked):
    clock = Clock()
    lanes, last = Lanes(clock, count), 0
    for _, _, service, gap in asked:
        pass_time(clock, gap)
        expected = lanes.start()
        wait, busy, unit = lanes.reserve(service)
        assert (wait, busy) == (expected, service)
        assert 0 <= unit < count
        assert clock.now + wait >= last
        last = clock.now + wait
