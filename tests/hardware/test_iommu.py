import pytest

from labkit.hardware.device import BusFault
from labkit.hardware.iommu import Iommu
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
        def views(self, addr, nbytes):
            return [*below.views(addr, nbytes // 2), *below.views(addr + nbytes // 2, nbytes - nbytes // 2)]

    iommu._bus = Halves()
    assert [view.nbytes for view in iommu.views(0xFF000, 512)] == [256, 256]
    assert [view.nbytes for view in iommu.views(0xFF000, 12288)] == [2048, 2048, 4096, 4096]
