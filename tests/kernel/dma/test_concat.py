from labkit.kernel.dma.concat import concatenated, places_of, whole_pages
from labkit.kernel.dma.ops import DmaDevice

AHCI = DmaDevice(max_segment_size=65536, seg_boundary_mask=0xFFFF_FFFF)


def test_iova_5_each_entry_takes_whole_pages_and_keeps_its_offset():
    assert places_of([(0x5E00, 512), (0x7000, 4096), (0x9004, 4096)], 0xFFFF_FFFF) == ([0xE00, 4096, 8196], 4)


def test_iova_5_an_entry_that_would_cross_the_boundary_begins_there():
    assert places_of([(0, 12288), (0x8000, 8192)], 0x3FFF) == ([0, 0x4000], 6)


def test_iova_5_sixteen_scattered_pages_are_one_entry_for_ahci_and_seventeen_are_two():
    parts = [(0x10000 + at * 4096, 4096) for at in range(17)]
    assert concatenated(parts[:16], AHCI) == ((0x10000, 65536),)
    assert concatenated(parts, AHCI) == ((0x10000, 65536), (0x20000, 4096))


def test_iova_6_entries_that_go_on_are_mapped_as_one_and_others_for_themselves():
    sg = [(0x5E00, 512), (0x6000, 8192), (0x8000, 512), (0xF000, 4096)]
    places, _ = places_of(sg, 0xFFFF_FFFF)
    assert whole_pages(places, sg) == [(0, 0x5000, 16384), (16384, 0xF000, 4096)]


def test_iova_6_a_place_left_out_parts_what_touches():
    sg = [(0, 12288), (0x3000, 8192)]
    places, _ = places_of(sg, 0x3FFF)
    assert whole_pages(places, sg) == [(0, 0, 12288), (0x4000, 0x3000, 8192)]


def test_iova_5_an_entry_that_ends_inside_a_page_ends_its_range():
    assert concatenated([(0x1000, 4096), (0x2000, 512), (0x3000, 4096)], AHCI) == ((0x1000, 4608), (0x3000, 4096))


def test_iova_5_an_entry_that_begins_inside_a_page_begins_a_range():
    assert concatenated([(0x1000, 4096), (0x2200, 512)], AHCI) == ((0x1000, 4096), (0x2200, 512))


def test_iova_5_nothing_is_joined_at_the_boundary():
    dev = DmaDevice(max_segment_size=1 << 20, seg_boundary_mask=0x3FFF)
    assert concatenated([(0x3000, 4096), (0x4000, 4096)], dev) == ((0x3000, 4096), (0x4000, 4096))
