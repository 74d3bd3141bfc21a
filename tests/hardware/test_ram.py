import pytest

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.hardware.ram import RAM


def ram_of(nbytes=65536):
    return RAM(memoryview(bytearray(nbytes)))


def test_a_view_is_the_memory_itself():
    ram = ram_of()
    ram.view(0x1000, 4)[:] = b"abcd"
    assert bytes(ram.view(0xFFF, 6)) == b"\0abcd\0"
    assert ram.arena[0x1000:0x1004] == b"abcd"


def test_as_a_bus_it_translates_nothing():
    ram = ram_of()
    (view,) = ram.views(0x2000, 512)
    view[:] = b"y" * 512
    assert bytes(ram.view(0x2000, 512)) == b"y" * 512


def test_gather_and_scatter_keep_the_order_of_the_ranges():
    ram = ram_of()
    ram.scatter(((0x5000, 3), (0x1000, 2)), b"abcde")
    assert ram.gather(((0x1000, 2), (0x5000, 3))) == b"deabc"


def test_a_wipe_leaves_zeros_and_touches_nothing_else():
    ram = ram_of()
    ram.view(0xFFF, 8)[:] = b"abcdefgh"
    ram.wipe(0x1000, 6)
    assert bytes(ram.view(0xFFF, 8)) == b"a\0\0\0\0\0\0h"


@pytest.mark.parametrize(("addr", "nbytes"), [(65536, 1), (65535, 2), (-1, 1), (1 << 62, 4096)])
def test_beyond_the_end_nothing_answers(addr, nbytes):
    with pytest.raises(BusFault, match=r"no memory answers to bus address -?0x"):
        ram_of().view(addr, nbytes)


def test_the_last_byte_answers():
    assert ram_of().view(65535, 1).nbytes == 1


@pytest.mark.parametrize("arena", [memoryview(b"ro"), memoryview(bytearray())])
def test_memory_that_cannot_be_written_is_none(arena):
    with pytest.raises(BadInput, match="is empty or read-only"):
        RAM(arena)
