from labkit.views.strips import Run, place, runs, stack


def test_ranges_that_touch_or_overlap_are_one_run():
    assert runs([(0, 10), (10, 5), (40, 4), (42, 8)]) == [(0, 15), (40, 10)]


def test_the_order_is_of_first_use_and_what_is_not_there_is_left_out():
    assert runs([(900, 10), (-1, 0), (100, 10)]) == [(900, 10), (100, 10)]


def test_a_run_is_as_tall_as_it_is_long():
    assert stack([(0, 100), (500, 300)], 10, 110, 8) == [Run(0, 100, 10, 33), Run(500, 300, 41, 110)]


def test_many_gaps_take_no_more_than_a_third():
    strip = stack([(i * 1000, 10) for i in range(100)], 0, 100, 20)
    assert sum(run.bottom - run.top for run in strip) > 70


def test_a_part_is_placed_within_its_run():
    strip = [Run(0, 100, 10, 20), Run(500, 300, 28, 58)]
    assert place(strip, 600, 100) == (38, 48)
    assert place(strip, 700, 1000) == (48, 58)
    assert place(strip, 400, 10) == (0, 0)
