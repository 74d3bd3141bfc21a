"""Layouts become places: what is there, what comes late, what is the zero page, what never is."""

import pytest

from labkit.errors import BadInput
from labkit.witness.capture import Capture
from labkit.witness.place import placed_of

VA = 0x10000


@pytest.fixture
def place(captured):
    """Return what becomes of a capture made by hand, one page at 0x10000, with some things changed."""

    def of(op="r", io=None, registered=None, **layout):
        one = captured("one-page-at-an-odd-byte")
        one["io"] = io or [{"api": "pread" if op == "r" else "pwrite", "op": op, "pos": 0, "iov": [[VA, 0x4000]]}]
        one["registered"] = registered
        one["layout"] = {"before": [[VA, 0x100, 4]]} | layout
        return placed_of(Capture.of(one))

    return of


def test_what_was_there_is_there(place):
    found = place()
    assert (found.rows, found.late, found.zero, found.ready, found.absent) == (((VA, 0x100, 4),), (), None, (), ())


def test_what_moved_is_where_it_was_seen_afterwards(place):
    assert place(after=[[VA, 0x200, 4]]).rows == ((VA, 0x200, 4),)


def test_what_a_read_brought_comes_late(place):
    found = place(before=[[VA, 0x100, 1], [VA + 0x1000, -1, 3]], after=[[VA, 0x100, 1], [VA + 0x1000, 0x300, 3]])
    assert (found.rows, found.late, found.zero) == (((VA, 0x100, 1),), ((VA + 0x1000, 0x300, 3),), None)


def test_what_a_write_brought_is_the_zero_page(place):
    found = place("w", before=[[VA, -1, 2]], after=[[VA, 0x3B34, 1], [VA + 0x1000, 0x3B34, 1]])
    assert (found.rows, found.late, found.zero) == ((), (), 0x3B34)
    assert found.ready == ((VA, 4096), (VA + 0x1000, 4096))
    assert found.absent == ((VA + 0x2000, 0x2000),)


def test_what_was_never_seen_is_absent(place):
    found = place(before=[[VA, 0x100, 1], [VA + 0x1000, -1, 1], [VA + 0x2000, 0x200, 1]])
    assert found.absent == ((VA + 0x1000, 0x1000), (VA + 0x3000, 0x1000))


def test_pages_of_a_large_folio_never_come_late(place):
    found = place(before=[[VA, -1, 4]], after=[[VA, 0x100, 4]], large_folios=[[0x100, 16, ["THP"]]])
    assert (found.rows, found.late, found.folios) == (((VA, 0x100, 4),), (), ((0x100, 4),))


def test_folios_that_no_row_has_a_page_of_are_left_out(place):
    assert place(large_folios=[[0x80, 16], [0x100, 16], [0x200, 512]]).folios == ((0x100, 4),)


def test_the_rest_of_a_registration_is_ready_wherever_it_lies(place):
    io = [{"api": "io_uring_read_fixed", "op": "r", "pos": 0, "iov": [[VA, 0x4000]], "buf_index": 0}]
    assert place(io=io, registered=[[VA - 0x1000, 0x6000]]).ready == ((VA - 0x1000, 0x1000), (VA + 0x4000, 0x1000))


@pytest.mark.parametrize("folio", [[0x100, 12], [0x108, 16], [0x100, 1], [0x1000, 4096]])
def test_what_is_no_folio_is_refused(place, folio):
    with pytest.raises(BadInput, match="is none: a folio lies on its size"):
        place(large_folios=[folio])


def test_folios_over_each_other_are_refused(place):
    with pytest.raises(BadInput, match=r"folio 0x104\+4 is none"):
        place(large_folios=[[0x100, 16], [0x104, 4]])


def test_memory_of_another_device_has_no_place(captured):
    with pytest.raises(BadInput, match=r"^like: a-peers-page-first has memory of another device.*\(-EOPNOTSUPP\)$"):
        placed_of(Capture.of(captured("a-peers-page-first")))
