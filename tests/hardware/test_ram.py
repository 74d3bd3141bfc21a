import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.hardware.ram import CHUNK, RAM
from labkit.host.memory.arena import arena, arena_or_chunks, release

MIB = 1 << 20
RANGES = ((0, 640 << 10), (MIB, 16 * MIB), (32 * MIB, 8 * MIB))


def flat(nbytes=65536):
    return RAM(memoryview(bytearray(nbytes)))


@pytest.fixture(params=["arena", "chunks", "bytes"])
def ram(request):
    """Memory of RANGES, with holes between them, however it is backed."""
    if request.param == "arena":
        return RAM(arena(40 * MIB), RANGES, release)
    if request.param == "chunks":
        return RAM(arena, RANGES, release)
    return RAM(memoryview(bytearray(40 * MIB)), RANGES)


def test_a_view_is_the_memory_itself(ram):
    ram.view(0x1000, 4)[:] = b"abcd"
    assert bytes(ram.view(0xFFF, 6)) == b"\0abcd\0"


def test_the_offset_in_the_arena_is_the_address():
    backing = bytearray(65536)
    RAM(memoryview(backing)).view(0x1000, 4)[:] = b"abcd"
    assert backing[0x1000:0x1004] == b"abcd"


def test_as_a_bus_it_translates_nothing(ram):
    (view,) = ram.views(0x2000, 512)
    view[:] = b"y" * 512
    assert bytes(ram.view(0x2000, 512)) == b"y" * 512


def test_gather_and_scatter_keep_the_order_of_the_ranges(ram):
    ram.scatter(((34 * MIB, 3), (0x1000, 2)), b"abcde")
    assert ram.gather(((0x1000, 2), (34 * MIB, 3))) == b"deabc"


def test_a_wipe_leaves_zeros_and_touches_nothing_else(ram):
    ram.view(0xFFF, 8)[:] = b"abcdefgh"
    ram.wipe(0x1000, 6)
    assert bytes(ram.view(0xFFF, 8)) == b"a\0\0\0\0\0\0h"


def test_a_wipe_of_many_pages_leaves_the_bytes_around_them(ram):
    ram.scatter(((2 * MIB, 40960),), b"x" * 40960)
    ram.wipe(2 * MIB + 10, 40940)
    assert ram.gather(((2 * MIB, 40960),)) == b"x" * 10 + bytes(40940) + b"x" * 10


@pytest.mark.parametrize(
    ("addr", "nbytes"),
    [(40 * MIB, 1), (40 * MIB - 1, 2), (-1, 1), (1 << 62, 4096), (640 << 10, 1), (MIB - 1, 2), (17 * MIB, 1),
     ((640 << 10) - 1, 2), (17 * MIB - 4096, 8192)],
)  # fmt: skip
def test_beyond_the_end_and_in_a_hole_nothing_answers(ram, addr, nbytes):
    for ask in (ram.view, ram.views, ram.wipe):
        with pytest.raises(BusFault, match=r"no memory answers to bus address -?0x"):
            ask(addr, nbytes)
    with pytest.raises(BusFault):
        ram.gather(((addr, nbytes),))


def test_the_first_address_without_memory_is_named(ram):
    with pytest.raises(BusFault, match=r"address 0xa0000$"):
        ram.view(0x9F000, 8192)


def test_the_last_byte_answers():
    assert flat().view(65535, 1).nbytes == 1


@pytest.mark.parametrize("backing", [memoryview(b"ro"), memoryview(bytearray())])
def test_memory_that_cannot_be_written_is_none(backing):
    with pytest.raises(BadInput, match="is empty or read-only"):
        RAM(backing)
    with pytest.raises(BadInput, match=r"^ram: gpu0 of . bytes is empty or read-only"):
        flat().add(MIB, backing, "gpu0")


def test_chunks_are_made_when_they_are_touched():
    made = []
    ram = RAM(lambda nbytes: made.append(nbytes) or memoryview(bytearray(nbytes)), RANGES)
    ram.view(5 * MIB, 4096)
    ram.view(5 * MIB + 8192, 4096)
    assert made == [CHUNK]
    ram.view(0, 1)
    assert made == [CHUNK, 640 << 10]
    ram.wipe(0, 640 << 10)
    ram.wipe(8 * MIB, 8 * MIB)
    assert made == [CHUNK, 640 << 10]


def test_a_terabyte_works_under_a_limit_on_the_address_space():
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), before[1]))
    try:
        ram = RAM(arena_or_chunks(1 << 40), ((0, 1 << 40),), release)
        ram.view((1 << 40) - 4096, 4)[:] = b"last"
        assert ram.gather((((1 << 40) - 4096, 5),)) == b"last\0"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_what_lies_in_two_chunks_is_two_views():
    ram = RAM(arena, RANGES)
    assert [view.nbytes for view in ram.views(8 * MIB - 100, 4096)] == [100, 3996]
    ram.scatter(((8 * MIB - 100, 4096),), bytes(range(256)) * 16)
    assert ram.gather(((8 * MIB - 100, 4096),)) == bytes(range(256)) * 16
    with pytest.raises(BusFault):
        ram.view(8 * MIB - 100, 4096)


def test_a_device_answers_where_it_was_put_until_it_goes(ram):
    vram = bytearray(8192)
    ram.add(64 * MIB, memoryview(vram), "gpu0")
    ram.view(64 * MIB + 4096, 4)[:] = b"phyr"
    assert vram[4096:4100] == b"phyr"
    ram.wipe(64 * MIB + 4096, 2)
    assert vram[4096:4100] == b"\0\0yr"
    with pytest.raises(BusFault, match=r"0x4002000$"):
        ram.view(64 * MIB + 4096, 4097)
    ram.revoke(64 * MIB)
    for ask in (ram.view, ram.views, ram.wipe):
        with pytest.raises(BusFault, match=r"0x4001000$"):
            ask(64 * MIB + 4096, 4)
    assert ram.view(0, 4).nbytes == 4


def test_two_devices_side_by_side_answer_together(ram):
    ram.add(64 * MIB, memoryview(bytearray(b"a" * 4096)), "left")
    ram.add(64 * MIB + 4096, memoryview(bytearray(b"b" * 4096)), "right")
    assert ram.gather(((64 * MIB + 4094, 4),)) == b"aabb"


def test_memory_of_any_shape_is_bytes(ram):
    ram.add(64 * MIB, memoryview(bytearray(16)).cast("I"), "words")
    ram.scatter(((64 * MIB, 3),), b"abc")
    assert ram.gather(((64 * MIB, 4),)) == b"abc\0"


@pytest.mark.parametrize(("start", "other"), [(MIB, "System RAM at 0x100000"), (63 * MIB, "gpu0 at 0x4000000")])
def test_two_cannot_answer_to_one_address(ram, start, other):
    ram.add(64 * MIB, memoryview(bytearray(8192)), "gpu0")
    with pytest.raises(BadInput, match=rf"^ram: gpu1 at {start:#x} overlaps {other} \(-EBUSY\)$"):
        ram.add(start, memoryview(bytearray(2 * MIB)), "gpu1")
    with pytest.raises(BusFault):
        ram.view(63 * MIB, 1)


@pytest.mark.parametrize("start", [0, MIB, 64 * MIB])
def test_ram_cannot_be_revoked_nor_what_is_not_there(ram, start):
    with pytest.raises(BadInput, match=rf"^ram: addr={start:#x} begins no range of a device \(-ENOENT\)$"):
        ram.revoke(start)
    assert ram.view(0, 4).nbytes == 4


@given(st.lists(st.tuples(st.integers(0, 20000), st.binary(min_size=1, max_size=9000)), max_size=12))
def test_pieces_hold_what_one_piece_holds(writes):
    whole, parts = RAM(memoryview(bytearray(40960))), RAM(memoryview(bytearray(1)))
    for i, size in enumerate((4096, 100, 10000, 26764)):
        parts.add(1 + sum((4096, 100, 10000, 26764)[:i]), memoryview(bytearray(size)), f"piece {i}")
    for addr, data in writes:
        whole.scatter(((addr, len(data)),), data)
        parts.scatter(((addr, len(data)),), data)
        parts.wipe(addr, len(data) // 2)
        whole.wipe(addr, len(data) // 2)
    assert parts.gather(((0, 40960),)) == whole.gather(((0, 40960),))
