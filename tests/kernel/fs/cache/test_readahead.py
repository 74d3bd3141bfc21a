import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.fs.cache.readahead import (
    FileRa,
    Window,
    folios_of,
    init_ra_size,
    next_ra_size,
    page_cache_async_ra,
    page_cache_sync_ra,
)


@pytest.mark.parametrize(
    ("req_count", "size"), [(1, 4), (2, 4), (3, 8), (4, 8), (5, 16), (8, 16), (9, 32), (16, 32), (32, 32)]
)
def test_a_first_window_is_two_or_four_times_the_request_and_128_KiB_at_most(req_count, size):
    assert init_ra_size(req_count, 32) == size


@pytest.mark.parametrize(("size", "after"), [(1, 4), (2, 4), (4, 8), (8, 16), (16, 32), (32, 32)])
def test_the_next_window_is_twice_as_large_until_it_is_128_KiB(size, after):
    assert next_ra_size(size, 32) == after


def test_the_start_of_a_file_begins_a_window_with_a_mark_behind_what_was_asked_for():
    assert page_cache_sync_ra(FileRa(), 0, 1, 0) == (FileRa(0, 4, 3, 0), Window(0, 4, 0, 1))


def test_a_read_in_the_middle_that_follows_nothing_gets_what_it_asks_for():
    assert page_cache_sync_ra(FileRa(), 100, 3, 0) == (FileRa(), Window(100, 3, 0))


def test_more_than_a_window_is_a_window_wherever_it_begins():
    _, window = page_cache_sync_ra(FileRa(), 100, 64, 0)
    assert window == Window(100, 32, 0, 100)


@pytest.mark.parametrize("prev", [99, 100])
def test_what_follows_the_last_read_is_sequential(prev):
    _, window = page_cache_sync_ra(FileRa(prev=prev), 100, 2, 0)
    assert window == Window(100, 4, 0, 102)


def test_what_follows_a_long_cached_stretch_is_a_stream_that_somebody_left():
    _, window = page_cache_sync_ra(FileRa(), 100, 2, 10)
    assert window == Window(100, 12, 0, 111)
    _, whole = page_cache_sync_ra(FileRa(), 10, 2, 10)
    assert whole == Window(10, 22, 0, 31)


def test_a_stream_doubles_its_window_and_its_folios_grow_by_two_orders_at_each_mark():
    ra, window = page_cache_sync_ra(FileRa(), 0, 1, 0)
    seen = [window[:3]]
    for _ in range(5):
        ra, window = page_cache_async_ra(ra, ra.start + ra.size - ra.async_size, 1, 1, 10**6)
        seen.append(window[:3])
    assert seen == [(0, 4, 0), (4, 8, 2), (12, 16, 4), (28, 32, 5), (60, 32, 5), (92, 32, 5)]


def test_a_mark_of_somebody_else_starts_from_what_is_cached():
    ra, window = page_cache_async_ra(FileRa(0, 4, 3), 50, 1, 2, 58)
    assert window == Window(58, 20, 2, 58)
    assert ra == FileRa(58, 20, 20, 2)


def test_a_mark_behind_which_more_is_cached_than_a_window_asks_for_nothing():
    assert page_cache_async_ra(FileRa(), 50, 1, 2, 90) == (FileRa(), None)


def test_without_a_window_a_page_is_read_and_nothing_ahead():
    ra = FileRa(ra_pages=0)
    assert page_cache_sync_ra(ra, 0, 8, 0) == (ra, Window(0, 1, 0))
    assert page_cache_async_ra(ra, 0, 1, 8, 1) == (ra, None)


def test_folios_are_as_large_as_their_place_and_the_end_of_the_file_allow():
    assert list(folios_of(Window(2, 14, 3, 12), 12)) == [(2, 1, False), (4, 2, False), (8, 2, False), (12, 0, True)]
    assert list(folios_of(Window(0, 4, 0, 0), -1)) == []


@given(st.integers(0, 3000), st.integers(1, 64), st.integers(0, 12), st.integers(0, 4000), st.integers(0, 64))
def test_folios_cover_the_window_once_and_none_lies_off_its_size(start, size, order, eof, mark):
    found = list(folios_of(Window(start, size, order, start + mark), eof))
    pages = [page for index, n, _ in found for page in range(index, index + (1 << n))]
    assert pages == list(range(start, min(eof + 1, start + size)))
    assert all(index % (1 << n) == 0 and n <= min(order, 9) for index, n, _ in found)
    assert sum(marked for *_, marked in found) <= 1
