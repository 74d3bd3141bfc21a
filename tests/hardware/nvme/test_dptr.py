import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.hardware.device import BusFault
from labkit.hardware.nvme.dptr import BadPointer, parse_prps, parse_sgl
from labkit.hardware.ram import RAM

DATA, SEGMENT, LAST = 0, 2 << 60, 3 << 60


def memory(**lists):
    """Return RAM with rows of 8-byte words, at their addresses."""
    ram = RAM(memoryview(bytearray(1 << 20)))
    for at, words in lists.items():
        ram.view(int(at, 16), 8 * len(words))[:] = struct.pack(f"<{len(words)}Q", *words)
    return ram


def test_one_and_two_pages_need_no_memory():
    assert parse_prps(memory(), 0x10E00, 0, 512) == [(0x10E00, 512)]
    assert parse_prps(memory(), 0x10E00, 0x20000, 1024) == [(0x10E00, 512), (0x20000, 512)]


def test_a_list_is_read_from_memory():
    ram = memory(**{"8100": [0x20000, 0x30000, 0x40000]})
    assert parse_prps(ram, 0x10200, 0x8100, 3584 + 8192 + 512) == [
        (0x10200, 3584), (0x20000, 4096), (0x30000, 4096), (0x40000, 512),
    ]  # fmt: skip


def test_a_list_that_reaches_the_end_of_its_page_goes_on_where_its_last_slot_says():
    ram = memory(**{"8ff0": [0x20000, 0x9000], "9000": [0x30000, 0x40000]})
    assert parse_prps(ram, 0x10000, 0x8FF0, 16384) == [
        (0x10000, 4096), (0x20000, 4096), (0x30000, 4096), (0x40000, 4096),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prp2", "words", "nbytes"),
    [
        (0x20004, [], 8192),  # the second page begins inside one
        (0x8104, [0x20000, 0x30000], 12288),  # the list is not aligned to its entries
        (0x8100, [0x20000, 0x30200], 12288),  # an entry is no page
        (0x8FF8, [0x8FF8], 16384),  # a list that leads to its own last slot
    ],
)
def test_a_prp_that_begins_where_it_may_not_is_an_invalid_offset(prp2, words, nbytes):
    ram = memory(**{f"{prp2:x}": words}) if words else memory()
    with pytest.raises(BadPointer) as caught:
        parse_prps(ram, 0x10000, prp2, nbytes)
    assert caught.value.status == 0x13


def test_one_descriptor_is_one_piece():
    assert parse_sgl(memory(), 0x10003, DATA | 4096, 4096) == [(0x10003, 4096)]


def test_a_last_segment_is_a_list_of_pieces():
    ram = memory(**{"8000": [0x10200, DATA | 512, 0x20000, DATA, 0x20400, DATA | 1024]})
    assert parse_sgl(ram, 0x8000, LAST | 48, 1536) == [(0x10200, 512), (0x20400, 1024)]


def test_a_segment_leads_to_the_next():
    ram = memory(**{"8000": [0x10000, DATA | 512, 0x9000, LAST | 16], "9000": [0x20000, DATA | 512]})
    assert parse_sgl(ram, 0x8000, SEGMENT | 32, 1024) == [(0x10000, 512), (0x20000, 512)]


@pytest.mark.parametrize(
    ("rest", "words", "status"),
    [
        (LAST | 24, [], 0xD),  # no whole descriptors
        (LAST, [], 0xD),  # none at all
        (LAST | 16, [0x9000, LAST | 16], 0xD),  # the last one is not the last
        (LAST | 32, [0x9000, SEGMENT | 16, 0x10000, DATA | 1024], 0xE),  # a segment in the middle
        (SEGMENT | 16, [0x8000, SEGMENT | 16], 0xE),  # a circle
        (LAST | (1 << 31), [], 0xE),  # more than there is
        (LAST | 16, [0x10000, DATA | 512], 0xF),  # too short
        (LAST | 16, [0x10000, DATA | 2048], 0xF),  # too long
        (DATA | 512, [], 0xF),
        (1 << 60 | 1024, [], 0x11),  # a bit bucket
        (LAST | 16, [0x10000, 4 << 60 | 1024], 0x11),  # a key
    ],
)
def test_a_list_that_the_specification_forbids_has_its_status(rest, words, status):
    ram = memory(**({"8000": words} if words else {}))
    with pytest.raises(BadPointer) as caught:
        parse_sgl(ram, 0x8000, rest, 1024)
    assert caught.value.status == status


@pytest.mark.parametrize("parse", [parse_prps, parse_sgl])
def test_a_list_that_is_nowhere_is_a_bus_fault(parse):
    with pytest.raises(BusFault):
        parse(memory(), 0x80000000, LAST | 16 if parse is parse_sgl else 0x80000000, 16384)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=8), st.integers(0, 2**64 - 1))
def test_whatever_stands_in_memory_is_pieces_of_as_many_bytes_or_refused(words, rest):
    ram = memory(**{"8000": words})
    try:
        pieces = parse_sgl(ram, 0x8000, rest, 4096)
    except (BadPointer, BusFault):
        return
    assert sum(nbytes for _, nbytes in pieces) == 4096
