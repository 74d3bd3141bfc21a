from hypothesis import given
from hypothesis import strategies as st

from labkit.trace.translations import Run, Translations


def made(*runs):
    every = Translations()
    for run in runs:
        every.put(Run(*run, 0))
    return every


def test_the_middle_of_a_run_goes_and_its_ends_stay():
    every = made((0x1000, 0x9000, 0x5000))
    assert every.take(0x2000, 0x2000) == [Run(0x2000, 0xA000, 0x2000, 0)]
    assert list(every) == [Run(0x1000, 0x9000, 0x1000, 0), Run(0x4000, 0xC000, 0x2000, 0)]


def test_what_is_put_over_something_takes_its_place():
    every = made((0x1000, 0x9000, 0x3000))
    assert every.put(Run(0x2000, 0x50000, 0x1000, 0)) == [Run(0x2000, 0xA000, 0x1000, 0)]
    assert list(every.joined(7)) == [
        (0x1000, 0x9000, 0x1000, 7), (0x2000, 0x50000, 0x1000, 7), (0x3000, 0xB000, 0x1000, 7),
    ]  # fmt: skip


def test_runs_that_go_on_in_both_are_joined():
    every = made((0x3000, 0xB000, 0x1000), (0x1000, 0x9000, 0x2000), (0x4000, 0xD000, 0x1000))
    assert list(every.joined(0)) == [(0x1000, 0x9000, 0x3000, 0), (0x4000, 0xD000, 0x1000, 0)]


def test_memory_that_moves_is_mapped_where_it_was():
    every = made((0x1000, 0x9000, 0x3000), (0x8000, 0x9000, 0x1000))
    every.move(0x9000, 0x70000, 0x1000)
    assert list(every.joined(0)) == [
        (0x1000, 0x70000, 0x1000, 0), (0x2000, 0xA000, 0x2000, 0), (0x8000, 0x70000, 0x1000, 0),
    ]  # fmt: skip


def test_nothing_taken_from_nothing():
    assert Translations().take(0, 1 << 40) == []


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 30), st.integers(1, 12), st.integers(0, 30)), max_size=25)


@given(STEPS)
def test_runs_are_what_a_dict_of_pages_would_be(steps):
    runs, pages = Translations(), {}
    for put, va, count, pa in steps:
        span = range(va, va + count)
        gone = {page: pages.pop(page) for page in span if page in pages}
        if put:
            pages |= {page: pa + page - va for page in span}
            removed = runs.put(Run(va << 12, pa << 12, count << 12, 0))
        else:
            removed = runs.take(va << 12, count << 12)
        assert {(r.va >> 12) + i: (r.pa >> 12) + i for r in removed for i in range(r.len >> 12)} == gone
    assert {(r.va >> 12) + i: (r.pa >> 12) + i for r in runs for i in range(r.len >> 12)} == pages
