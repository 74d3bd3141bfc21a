import numpy as np

from labkit.trace.snapshot import MemoryMap
from labkit.views.tiles import KINDS, NO_PAGE, Tile, Tiles, cells, lay_out, touched, zone_of

MEMORY = MemoryMap((("DMA32", 0x1000, 0x4_0000), ("Normal", 0x4_0000, 0x8_0000)))
ONE = Tiles(2.0, (Tile(512, 100.0, 50.0),), ())


def test_the_pageblocks_of_ranges_are_found_once_and_in_order():
    assert touched([(0x4020_0000, 4096), (0x4000_0000, 4096), (0x401F_F000, 8192), (-1, 0)]) == [512, 513]


def test_a_block_outside_all_zones_has_no_struct_page():
    assert [zone_of(block, MEMORY) for block in (8, 512, 1 << 20)] == ["DMA32", "Normal", NO_PAGE]
    assert zone_of(1 << 20, MemoryMap()) == ""


def test_few_blocks_get_large_cells_and_neighbours_for_company():
    found = lay_out([512], MEMORY, 474, 54, 582)
    assert found.cell == 8.0
    assert [tile.block for tile in found.tiles] == [512, 513, 514, 515, 516, 517]
    assert [zone for _, zone in found.headings] == ["Normal"]


def test_a_zone_goes_down_its_columns():
    first, second, *_ = lay_out([512], MEMORY, 474, 54, 582).tiles
    assert (first.left, second.left) == (474, 474)
    assert first.top < second.top


def test_many_blocks_get_small_cells_and_stay_on_the_page():
    found = lay_out(range(512, 812), MEMORY, 474, 54, 582)
    assert found.cell == 1.0
    assert max(tile.top for tile in found.tiles) + 16 <= 582
    assert found.left_out == 0


def test_more_blocks_than_the_page_holds_are_left_out_and_counted():
    found = lay_out(range(512, 1012), MEMORY, 474, 54, 582)
    assert len(found.tiles) + found.left_out >= 500
    assert found.left_out > 0


def test_boxes_are_drawn_where_the_tile_is():
    assert ONE.boxes(0x4000_6000, 8192) == [(104.0, 52.0, 108.0, 54.0)]
    assert ONE.hull(0x4000_0000, 12288) == (100.0, 50.0, 104.0, 54.0)
    assert ONE.hull(0x8000_0000, 4096) is None


def test_cells_know_their_kind_and_where_a_block_goes_on():
    grid = cells(ONE, MemoryMap(MEMORY.zones, ((0x4_0000, 2, "slab"), (0x4_0002, 1, "anon")))).reshape(16, 32)
    assert (grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1]) == (3 | 8, 3, 1, 0)
    assert np.count_nonzero(grid) == 3


def test_device_memory_is_one_surface():
    outside = Tiles(2.0, (Tile(1 << 20, 0.0, 0.0),), ())
    assert set(cells(outside, MEMORY).ravel().tolist()) == {KINDS.index("nopage") | 8 | 16}
