"""The picture of four addresses, its columns typed out for two phyrs and one request."""

from dataclasses import replace
from itertools import groupby

import pytest

from labkit.machine import Machine
from labkit.trace.events import (
    MemremapPages,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    SetPtes,
)
from labkit.views.journey import NEVER
from labkit.views.memory import MOST_SHAPES, memory


def rows(table, *names):
    return list(zip(*(table[name] for name in names), strict=True))


EDGES = ("left", "top", "right", "bottom")
TIMES = ("t1", "t2", "t3", "t4")


def test_two_phyrs_are_two_boxes_on_the_map(small):
    boxes = memory(small).moving["memory"]
    assert rows(boxes, *EDGES) == [(474.0, 108.0, 490.0, 116.0), (498.0, 108.0, 506.0, 116.0)]
    assert rows(boxes, "hue", "unit", *TIMES) == [(0, 0, 3, 10, 14, 15), (1, 1, 3, 10, 14, 15)]


def test_what_was_allocated_lies_under_them_until_it_is_freed(small):
    folios = memory(small).moving["folios"]
    assert rows(folios, *EDGES) == [(474.0, 108.0, 490.0, 116.0), (498.0, 108.0, 506.0, 116.0)]
    assert rows(folios, "t1", "t4") == [(1, NEVER), (1, NEVER)]


def test_each_column_knows_when_a_shape_waits_flies_and_is_done(small):
    moving = memory(small).moving
    assert rows(moving["user"], *TIMES) == [(3, 10, 14, NEVER)] * 2
    assert rows(moving["bus"], *TIMES) == [(7, 10, 14, 13)] * 2
    assert rows(moving["disk"], *TIMES) == [(9, 10, 11, NEVER)] * 2


def test_heights_are_as_lengths(small):
    for name in ("user", "bus", "disk"):
        two, one = (bottom - top for top, bottom in rows(memory(small).moving[name], "top", "bottom"))
        assert two == pytest.approx(2 * one)


def test_ribbons_lead_from_user_to_map_to_bus_to_blocks(small):
    ribbons = memory(small).moving["ribbons"]
    assert rows(ribbons, "leg", "x0", "x1", "unit") == [
        (0, 258, 468, 0), (1, 1004.0, 1212, 0), (0, 258, 468, 1), (1, 1004.0, 1212, 1), (2, 1302, 1446, 0),
        (2, 1302, 1446, 1),
    ]  # fmt: skip
    assert rows(ribbons, *TIMES)[:2] == [(3, 10, 14, 15), (7, 10, 14, 13)]


def test_a_ribbon_lands_on_its_memory(small):
    moving = memory(small).moving
    assert rows(moving["ribbons"], "b0", "b1")[0] == (108.0, 116.0)
    assert rows(moving["ribbons"], "b0", "b1")[1] == rows(moving["bus"], "top", "bottom")[0]


def test_pins_are_dots_at_the_corner_while_they_are_held(small):
    pins = memory(small).moving["pins"]
    assert rows(pins, "x", "y", "t1", "t4") == [(490.0, 108.0, 3, 15), (506.0, 108.0, 3, 15)]


def test_shapes_carry_names_and_lengths(small):
    labels = memory(small).labels
    assert labels["text"] == ["phyr 0", "8 KiB", "phyr 1", "4 KiB", "phyr 0", "phyr 1"]
    assert labels["role"] == ["on0", "on0", "on1", "on1", "on0", "on1"]


def test_addresses_are_written_where_they_begin(small):
    texts = memory(small).texts["text"]
    assert {"0x7f00_0000_0000", "0xffe0_0000", "8", "1 run, 12 KiB", "24 sectors"} <= set(texts)


def test_the_map_holds_what_others_hold(small):
    picture = memory(small)
    assert [tile.block for tile in picture.tiles.tiles] == [512, 513, 514, 515, 516, 517]
    assert (picture.cells[0] & 7).tolist().count(2) == 8


def test_a_loop_device_has_no_device_addresses(traces):
    quiet = {"DmaMap", "DmaUnmap", "NvmeSetupCmd", "NvmeCompleteRq"}
    trace = traces.replace(
        traces.SMALL, records=tuple(rec for rec in traces.SMALL.records if type(rec).__name__ not in quiet)
    )
    picture = memory(trace)
    assert picture.moving["bus"]["left"] == []
    assert rows(picture.moving["ribbons"], "leg", "x1") == [(0, 468), (1, 1446), (0, 468), (1, 1446)]
    assert "none: no DMA, a file instead" in picture.texts["text"]


def test_an_io_that_pinned_nothing_says_why_in_the_place_of_the_map(traces):
    picture = memory(traces.FAILED)
    assert picture.stop.title == "pread64 ended with -EFAULT"
    assert picture.stop.text == "An address of the buffer is not mapped, or does not allow this access."
    assert picture.cards["role"].count("asked") == 2
    assert "no mapping" in picture.texts["text"]
    assert picture.shapes == 0


def test_an_empty_trace_is_an_empty_page(traces):
    picture = memory(traces.EMPTY)
    assert (picture.shapes, picture.units, picture.stop) == (0, (), None)


def test_256_pages_are_not_folded(traces):
    picture = memory(traces.scattered(256))
    assert picture.folded == (256, 256)
    assert picture.shapes <= MOST_SHAPES


def test_256_pages_have_a_colour_for_each_request(traces):
    hues = [unit.hue for unit in memory(traces.scattered(256)).units]
    assert [hue for hue, _ in groupby(hues)] == [0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("pages", [1000, 20_000])
def test_whatever_the_size_of_the_io_the_shapes_are_bounded(traces, pages):
    picture = memory(traces.scattered(pages))
    assert picture.shapes <= MOST_SHAPES
    assert picture.folded[1] == pages
    assert picture.folded[0] < pages
    assert sum(unit.nbytes for unit in picture.units) == pages * 4096


def test_of_very_many_ios_each_keeps_a_unit():
    with Machine(size="4 KiB", fragmentation=1, count=320) as machine:
        machine.run()
        page = memory(machine.trace)
    assert len(page.units) == 320
    assert page.shapes > MOST_SHAPES


def test_hostile_strings_pass_as_they_are_and_short(traces):
    texts = memory(traces.HOSTILE).texts["text"]
    assert "<img src=x o" in texts


def test_a_name_tells_of_every_phyr_that_a_box_stands_for():
    """Twelve phyrs of 64 KiB, the fifth and the tenth of 192: requests of 128 KiB end inside both of them."""
    machine = Machine(ram="4 GiB", fragmentation=0.6, seed=11)
    task = machine.task()
    buf = task.mmap("1 MiB", folio="64 KiB")
    zone = machine.buddy.zones[0]
    lengths, base = [1, 1, 1, 1, 3, 1, 1, 1, 1, 3, 1, 1], zone.start + 2048
    frames = [base + i * 256 + k * 16 for i, n in enumerate(lengths) for k in range(n)]
    zone.pcp[4] = frames[::-1]
    task.pread(task.open("/dev/nvme0n1"), buf, "1 MiB")
    names = [text for text in memory(machine.trace).labels["text"] if text.startswith("phyr")]
    assert names[:8] == [
        "phyr 0–1", "phyr 2–3", "phyr 4, 1/2", "phyr 4–5", "phyr 6–7", "phyr 8–9", "phyr 9, 2/2", "phyr 10–11",
    ]  # fmt: skip


def test_pages_of_a_file_lie_on_the_map_until_they_leave_it(small):
    came = MmFilemapAddToPageCache(0, 0, 0, 1, 8, ((0x4000_8000, 8192),), "log")
    gone = MmFilemapDeleteFromPageCache(99_999, 0, 1, ((0x4000_8000, 8192),))
    cached = memory(replace(small, records=(came, *small.records, gone))).moving["cached"]
    assert rows(cached, *EDGES) == [(474.0, 124.0, 490.0, 132.0)]
    assert rows(cached, "t1", "t4") == [(0, 18)]


def test_folios_that_move_are_drawn_where_they_went(small):
    move = MmMigratePages(50, 0, 0, ((0x4000_5000, 4096),), ((0x4000_7000, 4096),))
    folios = memory(replace(small, records=(*small.records[:2], move, *small.records[2:]))).moving["folios"]
    assert rows(folios, "t1", "t4") == [(1, NEVER), (1, 2), (2, NEVER)]


def test_device_memory_with_struct_pages_is_a_zone_and_without_them_hatched(small):
    for frames, code in ((512, 0), (0, 5)):
        device = MemremapPages(0, 0, "p2p", 0x9000_0000, 2 << 20, 1, 0, frames)
        mapped = SetPtes(0, 0, 0x7000, 0, ((0x9000_0000, 4096),))
        picture = memory(replace(small, records=(device, mapped)))
        assert set((picture.cells[0] & 7).tolist()) == {code}
        assert len(picture.moving["cached"]["t1"]) == (1 if frames else 0)
