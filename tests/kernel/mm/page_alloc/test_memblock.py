import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.page_alloc.memblock import Memblock, Region

MIB, GIB = 1 << 20, 1 << 30


def zones(*args):
    return [(zone.name, zone.start, zone.end) for zone in Memblock(*args).zones]


def test_ram_lies_around_the_legacy_hole_and_the_pci_hole():
    assert [(r.start, r.end) for r in Memblock(4 * GIB).ram] == [
        (0, 0xA0000),
        (0x100000, 0xC0000000),
        (0x1_0000_0000, 0x1_4000_0000),
    ]


def test_zones_end_at_16_mib_and_at_4_gib():
    assert zones(4 * GIB) == [("DMA", 0, 16 * MIB), ("DMA32", 16 * MIB, 3 * GIB), ("Normal", 4 * GIB, 5 * GIB)]
    assert zones(GIB) == [("DMA", 0, 16 * MIB), ("DMA32", 16 * MIB, GIB)]


@pytest.mark.parametrize(
    ("movable", "expected"),
    [
        (512 * MIB, [("Normal", 4 * GIB, 4608 * MIB), ("Movable", 4608 * MIB, 5 * GIB)]),
        (GIB, [("Movable", 4 * GIB, 5 * GIB)]),
        (2 * GIB, [("Movable", 4 * GIB, 5 * GIB)]),
        (MIB, [("Normal", 4 * GIB, 5 * GIB)]),
    ],
)
def test_movablecore_is_cut_from_the_top_and_from_one_zone(movable, expected):
    assert zones(4 * GIB, movable)[2:] == expected


@pytest.mark.parametrize("movable", [-1, GIB, GIB - 63 * MIB])
def test_the_kernel_keeps_64_mib(movable):
    with pytest.raises(BadInput, match=rf"^memory: movablecore={movable} is not between 0 and what leaves 64 MiB"):
        Memblock(GIB, movable)


def test_more_ram_than_there_are_addresses_does_not_boot():
    with pytest.raises(BadInput, match=r"^memory: ram=65536 GiB does not fit below the end of physical addresses"):
        Memblock(1 << 46)


def test_frame_0_and_the_holes_are_nobodys():
    block = Memblock(4 * GIB)
    assert block.free_frames(block.zones[0]) == ((1, 160), (256, 4096))
    assert block.free_frames(block.zones[1]) == ((4096, 786432),)


def test_a_device_gets_addresses_above_ram_aligned_to_its_size():
    block = Memblock(4 * GIB)
    assert block.add_device("gpu0", 256 * MIB, struct_pages=False) == 5 * GIB
    assert block.add_device("pmem0", 3 * MIB, struct_pages=True) == 5 * GIB + 256 * MIB
    assert block.add_device("tiny", 4096, struct_pages=True) == 5 * GIB + 260 * MIB
    assert block.add_device("gpu1", 80 * GIB, struct_pages=False) == 6 * GIB
    assert block.devices[0] == Region("gpu0", 5 * GIB, 5 * GIB + 256 * MIB, struct_pages=False)


def test_a_device_keeps_a_section_away_from_ram():
    assert Memblock(GIB + 4 * MIB).add_device("pmem0", 2 * MIB, struct_pages=True) == GIB + 128 * MIB


def test_a_range_that_went_is_given_out_again():
    block = Memblock(4 * GIB)
    start = block.add_device("gpu0", 256 * MIB, struct_pages=False)
    block.add_device("gpu1", 256 * MIB, struct_pages=False)
    assert block.remove(start).name == "gpu0"
    assert block.add_device("gpu2", 128 * MIB, struct_pages=False) == start


@pytest.mark.parametrize("nbytes", [0, -4096, 4095, 4097])
def test_a_device_has_whole_pages(nbytes):
    with pytest.raises(BadInput, match=rf"^memblock: gpu0 of {nbytes} bytes is not a whole number of pages"):
        Memblock(GIB).add_device("gpu0", nbytes, struct_pages=False)


def test_overlaps_are_refused_and_change_nothing():
    block = Memblock(4 * GIB)
    with pytest.raises(BadInput, match=r"^memblock: bar at 0x13fe00000 overlaps System RAM at 0x100000000 \(-EBUSY\)$"):
        block.add(Region("bar", 5 * GIB - 2 * MIB, 5 * GIB + 2 * MIB))
    assert block.devices == ()


def test_a_bar_may_lie_in_the_pci_hole():
    block = Memblock(4 * GIB)
    assert block.add(Region("bar", 3 * GIB, 3 * GIB + 4096, struct_pages=False)) == 3 * GIB
    assert block.find(3 * GIB + 4095).name == "bar"
    assert block.find(3 * GIB + 4096) is None


def test_addresses_end():
    with pytest.raises(SyscallError, match=r"does not fit below the end of physical addresses, 65536 GiB \(-ENOSPC\)$"):
        Memblock(GIB).add_device("gpu0", 1 << 46, struct_pages=False)


def test_what_was_never_added_cannot_go():
    with pytest.raises(BadInput, match=r"^memblock: addr=0x0 begins no range of a device \(-ENOENT\)$"):
        Memblock(GIB).remove(0)


def test_a_physical_address_is_of_ram_of_a_device_or_of_nothing():
    block = Memblock(4 * GIB)
    assert block.find(0).name == "System RAM"
    assert block.find(0xA0000) is None
    assert block.find(5 * GIB) is None
