"""User pages and their frames, as a capture tells of them."""

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.witness.layout import Layout

ROWS = [(0x10000, 0x100, 2), (0x12000, 0x200, 1), (0x14000, 0x300, 1), (0x15000, -1, 1)]


def test_pages_come_in_runs_as_far_as_they_are_wanted():
    layout = Layout(ROWS)
    assert layout.extract(0x10000, 3).runs == ((0x100000, 8192), (0x200000, 4096))
    assert layout.extract(0x11ABC, 1) == (((0x101000, 4096),), 1)


def test_pages_end_where_one_is_not_there():
    assert Layout(ROWS).extract(0x11000, 9).nr == 2
    assert Layout(ROWS).extract(0x14000, 9).nr == 1


@pytest.mark.parametrize("addr", [0, 0xFFFF, 0x13000, 0x15000, 1 << 62])
def test_a_page_that_is_not_there_is_efault(addr):
    with pytest.raises(SyscallError, match=r"is not mapped \(MM-4\)"):
        Layout(ROWS).extract(addr, 1)


def test_two_pages_at_one_address_are_refused():
    with pytest.raises(BadInput, match="has two pages at one address"):
        Layout([(0x10000, 1, 2), (0x11000, 5, 1)])


def test_bytes_are_reachable_up_to_the_first_page_that_is_not_there():
    assert Layout(ROWS).reachable([(0x10100, 512), (0x12800, 8192), (0x14000, 512)]) == 512 + 2048


def test_a_page_that_nothing_is_told_of_is_a_folio():
    layout = Layout(ROWS, [(0x200, 512)])
    assert layout.folio(0x100123) == (0x100000, 4096)
    assert layout.folio(0x2FFFFF) == (0x200000, 512 * 4096)
    assert layout.folio_end(0x400000) == 0x401000


def test_only_a_peers_pages_between_3_and_4_gib_are_a_bar():
    assert Layout(ROWS, bars=True).is_bar(0xF8000000)
    assert not Layout(ROWS, bars=True).is_bar(0x100000)
    assert not Layout(ROWS).is_bar(0xF8000000)
