import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.hardware.ram import RAM
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.virtio_blk.vring import Entry, Vring

ENTRIES = [Entry(0x1000, 16, 0), Entry(0x20000, 4096, 2), Entry(0x1010, 1, 2)]


def ring(num=8, *, tables=True):
    ram = RAM(memoryview(bytearray(1 << 20)))
    return ram, Vring(ram, 0x4000, num, DmaPool(0x8000, 0x8000, 4096 * 4) if tables else None)


def test_the_three_parts_lie_where_the_specification_has_them():
    _, vring = ring(256)
    # 256 descriptors of 16 bytes; 4 + 512 + 2 bytes of the available ring, rounded up to 4; 4 + 8 x 256 + 2 of the used
    assert (vring.desc, vring.avail, vring.used) == (0x4000, 0x5000, 0x5208)
    assert Vring.size(256) >= 0x5208 + 4 + 2048 + 2 - 0x4000


def test_a_chain_behind_a_table_takes_one_slot_and_its_descriptors_follow_each_other():
    ram, vring = ring()
    chain = vring.take(3)
    raw = vring.write(chain, ENTRIES)
    vring.lead(chain, 0x8F00, len(raw))
    assert (chain.slots, vring.num_free) == ((0,), 7)
    assert raw.hex(" ", 16) == (
        "00100000000000001000000001000100 00000200000000000010000003000200 10100000000000000100000002000000"
    )
    assert bytes(ram.view(vring.table_at(chain), 48)) == raw
    assert bytes(ram.view(0x4000, 16)).hex() == "008f0000000000003000000004000000"


def test_without_tables_a_chain_is_linked_through_the_ring():
    ram, vring = ring(tables=False)
    vring.take(1)
    chain = vring.take(3)
    vring.write(chain, ENTRIES)
    assert chain.slots == (1, 2, 3)
    assert bytes(ram.view(0x4010, 16)).hex() == "00100000000000001000000001000200"
    assert bytes(ram.view(0x4030, 16)).hex() == "10100000000000000100000002000000"


def test_a_ring_that_is_full_is_ebusy_and_keeps_what_it_has():
    _, vring = ring(4, tables=False)
    first = vring.take(3)
    with pytest.raises(SyscallError, match="2 descriptors are more than the 1 that are free") as caught:
        vring.take(2)
    assert (caught.value.errno, vring.num_free) == (errno.EBUSY, 1)
    vring.free(first)
    assert vring.take(4).slots == (0, 1, 2, 3)


def test_without_memory_for_a_table_the_rings_own_descriptors_do():
    _, vring = ring(64)
    tables = [vring.take(200) for _ in range(4)]
    assert [len(chain.slots) for chain in tables] == [1, 1, 1, 1]
    assert len(vring.take(20).slots) == 20


def test_heads_are_offered_and_taken_back_in_the_order_of_the_device():
    ram, vring = ring(4)
    for round_ in range(6):  # past the end of both rings
        vring.offer(3)
        at = 0x4040 + 4 + 2 * (round_ % 4)
        assert bytes(ram.view(at, 2)) == b"\x03\x00"
        assert bytes(ram.view(0x4042, 2)) == bytes([round_ + 1, 0])
        ram.view(vring.used + 4 + 8 * (round_ % 4), 8)[:] = bytes([3, 0, 0, 0, 1, 2, 0, 0])
        ram.view(vring.used + 2, 2)[:] = bytes([round_ + 1, 0])
        assert list(vring.take_used()) == [(3, 513)]
    assert list(vring.take_used()) == []


@given(st.lists(st.integers(1, 6), max_size=40))
def test_no_slot_is_ever_in_two_chains_and_all_come_back(wanted):
    _, vring = ring(16, tables=False)
    out = []
    for count in wanted:
        try:
            out.append(vring.take(count))
        except SyscallError:
            vring.free(out.pop(0))
        held = [slot for chain in out for slot in chain.slots]
        assert len(held) == len(set(held)) == 16 - vring.num_free
    for chain in out:
        vring.free(chain)
    assert vring.num_free == 16
