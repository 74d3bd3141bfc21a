import pytest

from labkit.errors import BadInput, InvariantError
from labkit.hardware.device import BusFault
from labkit.hardware.iommu import READ, WRITE, Iommu, physical
from labkit.hardware.ram import RAM


@pytest.fixture
def iommu():
    ram = RAM(memoryview(bytearray(1 << 20)))
    for pfn in range(256):
        ram.view(pfn << 12, 1)[0] = pfn
    iommu = Iommu(ram)
    iommu.map(0xFF000, 0x7000, 4096)
    iommu.map(0x100000, 0x21000, 8192)
    return iommu


def first_bytes(views):
    return [view[0] for view in views]


def test_a_page_is_translated_by_its_number_and_its_offset_is_kept(iommu):
    (view,) = iommu.views(0xFF000, 512)
    assert view[0] == 7
    iommu.views(0xFF200, 4)[0][:] = b"abcd"
    assert bytes(iommu._bus.view(0x7200, 4)) == b"abcd"


def test_neighbours_in_memory_are_one_view_strangers_are_two(iommu):
    assert [view.nbytes for view in iommu.views(0x100000, 8192)] == [8192]
    assert [view.nbytes for view in iommu.views(0xFF000, 12288)] == [4096, 8192]
    assert first_bytes(iommu.views(0xFF000, 12288)) == [7, 33]


def test_a_range_that_begins_and_ends_inside_pages(iommu):
    assert [view.nbytes for view in iommu.views(0xFFE00, 1024)] == [512, 512]


def test_the_first_look_is_a_miss_the_next_a_hit(iommu):
    for _ in range(3):
        iommu.views(0xFF000, 8)
    assert (iommu.misses, iommu.hits) == (1, 2)


def test_an_address_that_was_never_mapped_faults(iommu):
    with pytest.raises(BusFault) as caught:
        iommu.views(0xFE800, 512)
    assert caught.value.addr == 0xFE000
    with pytest.raises(BusFault):
        iommu.views(0x101E00, 1024)


def test_an_unmapped_page_that_was_seen_stays_reachable_until_it_is_invalidated(iommu):
    iommu.views(0xFF000, 8)
    iommu.unmap(0xFF000, 4096)
    assert first_bytes(iommu.views(0xFF000, 8)) == [7]
    iommu.invalidate(0xFF000, 4096)
    with pytest.raises(BusFault):
        iommu.views(0xFF000, 8)


def test_an_unmapped_page_that_was_never_seen_is_gone_at_once(iommu):
    iommu.unmap(0xFF000, 4096)
    with pytest.raises(BusFault):
        iommu.views(0xFF000, 8)


def test_a_stale_entry_shows_the_old_frame_even_when_the_address_is_mapped_anew(iommu):
    iommu.views(0xFF000, 8)
    iommu.unmap(0xFF000, 4096)
    iommu.map(0xFF000, 0x9000, 4096)
    assert first_bytes(iommu.views(0xFF000, 8)) == [7]
    iommu.invalidate_all()
    assert first_bytes(iommu.views(0xFF000, 8)) == [9]


def test_an_invalidation_hits_its_own_range_alone(iommu):
    iommu.views(0xFF000, 12288)
    iommu.invalidate(0x100000, 4096)
    assert sorted(iommu.iotlb) == [0xFF, 0x101]
    iommu.invalidate_all()
    assert iommu.iotlb == {}


def test_what_the_bus_below_answers_in_pieces_stays_in_pieces(iommu):
    below = iommu._bus

    class Halves:
        def views(self, addr, nbytes, write=False):
            half = nbytes // 2
            return [*below.views(addr, half, write), *below.views(addr + half, nbytes - half, write)]

    iommu._bus = Halves()
    assert [view.nbytes for view in iommu.views(0xFF000, 512)] == [256, 256]
    assert [view.nbytes for view in iommu.views(0xFF000, 12288)] == [2048, 2048, 4096, 4096]


M2, G1 = 2 << 20, 1 << 30


@pytest.fixture
def empty():
    return Iommu(RAM(memoryview(bytearray(8 << 20))))


def test_iova_6_a_leaf_is_as_large_as_both_addresses_and_the_rest_allow(empty):
    assert empty.map(G1, G1, G1 + M2 + 8192) == 1 + 1 + 2
    assert empty.mapped == G1 + M2 + 8192
    assert empty.unmap(G1, G1 + M2 + 8192) == 4
    assert empty.mapped == 0


def test_iova_6_addresses_that_disagree_below_two_mebibytes_get_small_leaves_alone(empty):
    assert empty.map(M2, M2 + 4096, 2 * M2) == 1024
    assert empty.map(8 * M2, 4096 * 256, 2 * M2) == 1024
    assert empty.map(16 * M2 - 4096, 2 * M2 - 4096, M2 + 8192) == 3


def test_iova_6_the_largest_leaf_can_be_forbidden():
    small = Iommu(RAM(memoryview(bytearray(4096))), largest=4096)
    assert small.map(G1, G1, 2 * M2) == 1024
    assert Iommu(RAM(memoryview(bytearray(4096))), largest=M2).map(G1, G1, G1) == 512
    with pytest.raises(BadInput, match="are not 4 KiB, 2 MiB or 1 GiB"):
        Iommu(RAM(memoryview(bytearray(4096))), largest=8192)


def test_a_large_leaf_is_one_view_and_one_entry_of_the_iotlb(empty):
    empty.map(G1, M2, M2)
    empty.views(G1 + 4096, 4, True)[0][:] = b"leaf"
    (view,) = empty.views(G1, 1 << 20)
    assert bytes(view[4096:4100]) == b"leaf"
    assert empty.fills() == (((G1, M2),), (), 1, 1)
    empty.unmap(G1, M2)
    assert len(empty.views(G1 + 8192, 4)) == 1
    empty.invalidate(G1 + 4096, 4096)
    with pytest.raises(BusFault):
        empty.views(G1 + 8192, 4)


def test_a_large_leaf_is_not_cut_and_not_mapped_over(empty):
    empty.map(G1, M2, M2)
    for part in ((G1, 4096), (G1 + 4096, M2 - 4096), (G1 - 4096, M2 + 4096), (G1, 2 * M2)):
        with pytest.raises(InvariantError, match="is not mapped as a whole"):
            empty.unmap(*part)
    for part in ((G1 + 4096, 4096), (G1 - 4096, M2)):
        with pytest.raises(InvariantError, match="is mapped already"):
            empty.map(part[0], 0, part[1])
    assert empty.mapped == M2


def test_a_page_is_mapped_once_and_unmapped_once(iommu):
    with pytest.raises(InvariantError, match="is mapped already"):
        iommu.map(0xFE000, 0, 8192)
    iommu.unmap(0xFF000, 4096)
    with pytest.raises(InvariantError, match="is not mapped as a whole"):
        iommu.unmap(0xFF000, 8192)
    assert iommu.mapped == 8192


def test_the_page_table_says_what_is_behind_an_address(iommu):
    assert list(physical(iommu, [(0xFFE00, 1024), (0x101000, 4)])) == [(0x7E00, 512), (0x21000, 512), (0x22000, 4)]
    with pytest.raises(InvariantError, match="is not mapped"):
        iommu.lookup(0xFE000)


def test_a_page_may_be_read_or_written_or_both(empty):
    empty.map(0x1000, 0x7000, 4096, READ)
    empty.map(0x2000, 0x7000, 4096, WRITE)
    assert len(empty.views(0x1000, 8)) == len(empty.views(0x2000, 8, True)) == 1
    for addr, write in ((0x1000, True), (0x2000, False)):
        with pytest.raises(BusFault) as caught:
            empty.views(addr + 8, 8, write)
        assert (caught.value.addr, caught.value.write) == (addr, write)


def test_the_iotlb_forgets_what_was_used_longest_ago_and_tells(empty):
    tight = Iommu(empty._bus, entries=2)
    tight.map(0x1000, 0x1000, 3 * 4096)
    for addr in (0x1000, 0x2000, 0x1000, 0x3000):
        tight.views(addr, 8)
    assert tight.fills() == (((0x1000, 12288),), ((0x2000, 4096),), 1, 3)
    assert tight.fills() is None
    tight.views(0x1000, 8)
    assert tight.fills() == ((), (), 1, 0)
