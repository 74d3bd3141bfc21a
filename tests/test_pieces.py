"""Rows of a pagemap, cut into folios, and user addresses, joined into mappings."""

import pytest

from labkit.errors import BadInput
from labkit.machine import Machine
from labkit.machine.pieces import Piece, cut_at_folios, in_a_row, joined, of_several, stretches

MIB2 = 2 << 20


def test_a_row_is_cut_where_a_large_folio_begins_and_ends():
    assert cut_at_folios([(0x10000, 0x0E, 8)], [(0x10, 2)]) == [
        Piece(0x10000, 0x0E, 2, 0, 0x0E), Piece(0x12000, 0x10, 4, 2, 0x10), Piece(0x16000, 0x14, 2, 0, 0x14),
    ]  # fmt: skip


def test_a_row_may_begin_inside_a_folio():
    (piece,) = cut_at_folios([(0x10000, 0x12, 1)], [(0x10, 2)])
    assert piece == Piece(0x10000, 0x12, 1, 2, 0x10)
    assert piece.base == 0xE000


def test_small_frames_that_are_mapped_twice_stand_alone():
    pieces = cut_at_folios([(0x10000, 0x20, 2), (0x20000, 0x21, 1)], [])
    assert [(piece.addr, piece.pfn) for piece in pieces] == [(0x10000, 0x20), (0x11000, 0x21), (0x20000, 0x21)]
    assert of_several(pieces) == {(0x21, 0)}


def test_a_folio_at_two_addresses_is_of_several():
    pieces = cut_at_folios([(0x100000, 0x10, 2), (0x200000, 0x12, 2), (0x300000, 0x20, 4)], [(0x10, 2), (0x20, 2)])
    assert of_several(pieces) == {(0x10, 2)}


def test_a_folio_whose_rest_lies_where_others_are_is_of_several():
    pieces = cut_at_folios([(0x100000, 0x10, 1), (0x101000, 0x99, 1)], [(0x10, 2)])
    assert of_several(pieces) == {(0x10, 2)}


def test_a_folio_whose_rest_lies_where_nothing_is_is_of_several():
    pieces = cut_at_folios([(0x100000, 0x10, 1)], [(0x10, 2)])
    assert of_several(pieces) == set()
    assert of_several(pieces, [(0x103000, 4096)]) == {(0x10, 2)}


def test_two_folios_whose_rests_overlap_are_of_several():
    pieces = cut_at_folios([(0x100000, 0x10, 1), (0x103000, 0x21, 1)], [(0x10, 2), (0x20, 2)])
    assert of_several(pieces) == {(0x10, 2), (0x20, 2)}


def test_pieces_that_follow_each_other_are_mapped_in_one_go():
    pieces = cut_at_folios([(0x12000, 0x5, 1), (0x10000, 0x9, 2), (0x20000, 0x7, 1)], [])
    assert list(in_a_row(pieces)) == [(0x10000, ((0x9000, 8192), (0x5000, 4096))), (0x20000, ((0x7000, 4096),))]
    assert list(in_a_row([])) == []


def test_spans_are_joined_where_they_touch():
    assert joined([(5, 6), (0, 2), (2, 4), (1, 3)]) == [(0, 4), (5, 6)]


def test_a_mapping_goes_on_over_a_gap_but_not_over_what_is_absent():
    mm = Machine().task().mm
    near = [(0x100000, 0x101000), (0x102000, 0x103000), (0x104000, 0x105000)]
    far = (0x104000 + 2 * MIB2, 0x105000 + 2 * MIB2)
    assert stretches([*near, far], [(0x103800, 16)], mm) == [(0x100000, 0x103000), (0x104000, 0x105000), far]


def test_what_is_there_and_absent_is_refused():
    with pytest.raises(BadInput, match=r"is told to be there, and not to be \(-EINVAL\)"):
        stretches([(0x100000, 0x102000)], [(0x101FFF, 1)], Machine().task().mm)
