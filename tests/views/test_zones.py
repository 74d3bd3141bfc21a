"""Physical memory, its columns typed out for two zones of 64 MiB, a hole and two devices."""

from types import SimpleNamespace

import pytest

from labkit.views.steps import NARROW
from labkit.views.zone_facts import Part, nr_free, parts, percent, unusable, usable
from labkit.views.zones import ORDERS, along, zones

MIB = 1 << 20


def zone(name, start, end, *free):
    marks = SimpleNamespace(min=64, low=80, high=96)
    lists = [tuple(row) for row in free] + [(0, 0, 0)] * (11 - len(free))
    return SimpleNamespace(name=name, start=start, end=end, managed=end - start, free=tuple(lists), watermarks=marks)


def area(name, start, end, struct_pages=True):
    return SimpleNamespace(name=name, start=start, end=end, struct_pages=struct_pages)


FRESH = [
    zone("DMA", 0, 4096, (2, 0, 0), *[(0, 0, 0)] * 9, (0, 3, 0)),
    zone("Normal", 8192, 16384, *[(0, 0, 0)] * 9, (1, 3, 0)),
]
AGED = [zone("DMA", 0, 4096, (8, 56, 0)), zone("Normal", 8192, 16384, (0, 100, 20), *[(0, 0, 0)] * 8, (0, 1, 0))]
RANGES = [
    area("System RAM", 4096, 16 * MIB),
    area("System RAM", 32 * MIB, 64 * MIB),
    area("p2pmem0", 96 * MIB, 100 * MIB),
    area("gpu0", 128 * MIB, 256 * MIB, struct_pages=False),
]


def test_the_map_has_ram_by_zone_devices_and_the_holes_between():
    assert parts(FRESH, RANGES) == [
        Part("hole", "hole", 0, 4096),
        Part("DMA", "ram", 4096, 16 * MIB),
        Part("hole", "hole", 16 * MIB, 32 * MIB),
        Part("Normal", "ram", 32 * MIB, 64 * MIB),
        Part("hole", "hole", 64 * MIB, 96 * MIB),
        Part("p2pmem0", "paged", 96 * MIB, 100 * MIB),
        Part("hole", "hole", 100 * MIB, 128 * MIB),
        Part("gpu0", "pageless", 128 * MIB, 256 * MIB),
    ]


def test_without_ranges_a_zone_is_all_ram():
    assert [part[:2] for part in parts(FRESH, [])] == [("DMA", "ram"), ("hole", "hole"), ("Normal", "ram")]


def test_a_struct_page_costs_64_bytes_a_frame_and_memory_without_them_nothing():
    assert [part.memmap for part in parts(FRESH, RANGES) if part.kind != "hole"] == [262080, 524288, 65536, 0]


def test_free_memory_counts_blocks_by_their_size():
    assert [nr_free(found) for found in (*FRESH, *AGED)] == [3074, 2048, 64, 632]


def test_what_is_in_smaller_blocks_is_unusable():
    assert unusable(FRESH[0]) == [0.0] + [0.001] * 10
    assert unusable(AGED[0]) == [0.0] + [1.0] * 10
    assert unusable(AGED[1]) == [0.0] + [0.19] * 9 + [1.0]
    assert unusable(zone("DMA", 0, 4096)) == [1.0] * 11
    assert usable(AGED) == pytest.approx(512 / 696)


def test_a_little_is_not_nothing_and_nearly_all_is_not_all():
    assert [percent(part) for part in (0, 0.002, 0.21, 0.995, 1)] == ["0 %", "under 1 %", "21 %", "over 99 %", "100 %"]


def test_each_type_of_an_order_is_a_bar_as_high_as_its_share():
    picture = zones({"fresh": FRESH})
    bars = [i for i, role in enumerate(picture.rects["role"]) if role.startswith("type")]
    heights = [(picture.rects["role"][i], round(picture.rects["bottom"][i] - picture.rects["top"][i], 1)) for i in bars]
    assert heights == [("type0", 1.6), ("type1", 58.0), ("type0", 14.5), ("type1", 43.5)]


def test_the_marks_have_a_scale_of_their_own():
    assert [round(along(FRESH[0], n), 3) for n in (0, 48, 96, 2096, 4096)] == [0.0, 0.23, 0.46, 0.73, 1.0]


def test_steps_lead_through_the_map_then_through_zones_and_orders():
    picture = zones({"fresh": FRESH, "aged": AGED}, RANGES)
    assert len(picture.steps) == len(picture.focus) == 8 + 2 * (1 + ORDERS)
    assert (
        picture.steps[7].text == "128 MiB of gpu0 have no struct pages: today's direct IO cannot name them, a phyr can."
    )
    assert picture.steps[8].text == (
        "Zone DMA manages 16 MiB, and kswapd wakes below 320 KiB. fresh: 12.0 MiB free, over 99 % of it in blocks of "
        "2 MiB and more; aged: 256 KiB free, 0 % of it in blocks of 2 MiB and more."
    )
    counts = "Blocks of 2 MiB in Normal: 4 free in “fresh” and 1 free in “aged”."
    text = f"{counts} Of the free memory, 0 % and 19 % is in smaller blocks."
    assert picture.steps[8 + 12 + 10] == ("Normal, order 9", "free list", text, "free_area[9]", "upstream")


def test_a_step_brings_out_its_order_in_both_states():
    wide, narrow = zones({"a": FRESH, "b": AGED}, RANGES), zones({"a": FRESH, "b": AGED}, RANGES, NARROW)
    assert len(wide.focus[20]) == len(narrow.focus[20]) == 2
    assert wide.focus[20][0][1] == wide.focus[20][1][1], "side by side"
    assert narrow.focus[20][0][0] == narrow.focus[20][1][0], "one below the other"


def test_everything_lies_on_the_page():
    for width in (668, 1568):
        picture = zones({"a": FRESH, "b": AGED}, RANGES, width)
        assert max(picture.rects["right"]) <= width
        assert max(picture.rects["bottom"]) <= picture.height


def test_nothing_is_nothing():
    picture = zones({})
    assert (picture.steps, picture.rects["left"]) == ([], [])
