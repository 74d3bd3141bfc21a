"""The lanes, their bars typed out for two phyrs and one request."""

from itertools import pairwise

from labkit.trace.events import (
    BlockBioBackmerge,
    CopyFolio,
    Hazard,
    IomapIterDstmap,
    SetPtes,
    Violation,
)
from labkit.trace.trace import Trace
from labkit.views.lanes import GREY, MOST_SPANS, PIN_HUE, WAIT_HUE, lanes


def bars(picture):
    names = ("lane", "begin", "end", "label", "hue")
    return list(zip(*(picture.spans[name] for name in names), strict=True))


def test_each_stage_is_a_bar_on_the_lane_of_its_layer(small):
    assert bars(lanes(small)) == [
        (0, 0, 0, "mmap", GREY),
        (0, 1, 1, "fault", GREY),
        (0, 2, 16, "pread64 12 KiB", GREY),
        (1, 3, 4, "pin", GREY),
        (2, 4, 5, "direct IO", GREY),
        (3, 5, 6, "bio", GREY),
        (3, 6, 7, "request", 0),
        (4, 7, 8, "map", 0),
        (5, 8, 9, "command", 0),
        (5, 9, 9, "issue", 0),
        (6, 9, 10, "", WAIT_HUE),
        (6, 10, 11, "request 1", 0),
        (7, 12, 13, "irq", 0),
        (7, 13, 14, "unmap", 0),
        (7, 14, 14, "done", 0),
        (7, 15, 16, "unpin", PIN_HUE),
    ]


def test_the_lanes_are_named_after_what_the_trace_did(small):
    assert [name for _, name in lanes(small).names] == [
        "system call", "get_user_phyrs", "block file", "block layer", "DMA map", "NVMe driver", "device",
        "complete, unpin",
    ]  # fmt: skip


def test_events_are_equally_wide_and_time_is_true(small):
    scales = lanes(small).scales
    assert scales["events"][:3] == [150, 236.25, 322.5]
    assert (scales["time"][0], scales["time"][9], scales["time"][10], scales["time"][16]) == (
        150, 167.131, 167.131, 1530,
    )  # fmt: skip


def test_round_times_are_marked_where_time_is_true(small):
    assert [tick.text for tick in lanes(small).ticks["time"]] == [
        "0 ns", "10 µs", "20 µs", "30 µs", "40 µs", "50 µs", "60 µs", "70 µs",
    ]  # fmt: skip


def test_marks_stand_apart(traces):
    for ticks in lanes(traces.scattered(256)).ticks.values():
        places = [tick.x for tick in ticks]
        assert min(b - a for a, b in pairwise(places)) >= 62


def test_requests_in_flight_are_stacked_by_tag(traces):
    picture = lanes(traces.scattered(128))
    device = [top for lane, top in zip(picture.spans["lane"], picture.spans["top"], strict=True) if lane == 6]
    assert sorted(set(device)) == device[:: len(device) // 4]
    assert len(set(device)) == 4


def test_bars_are_bounded(traces):
    picture = lanes(traces.scattered(8000, per_request=8))
    assert len(picture.spans["lane"]) <= MOST_SPANS
    assert picture.folded[1] > 5000


def test_a_failed_io_has_its_call_alone(traces):
    assert bars(lanes(traces.FAILED)) == [(0, 0, 0, "mmap", GREY), (0, 1, 2, "pread64 12 KiB", GREY)]


def test_an_empty_trace_has_lanes_and_no_bars(traces):
    picture = lanes(traces.EMPTY)
    assert (picture.spans["lane"], picture.scales, len(picture.names)) == ([], {"events": [], "time": []}, 8)


def test_hazards_have_a_lane_of_their_own_below_the_others(small):
    records = (SetPtes(0, 0, 0x7000, 0, ((0x4000, 4096),)), Hazard(5, 1, "munmap", ""), Violation(9, 1, "bytes", 1, ""))
    picture = lanes(Trace(records))
    assert picture.names[-1][1] == "hazards"
    assert bars(picture) == [(0, 0, 0, "map", GREY), (8, 1, 1, "hazard", PIN_HUE), (8, 2, 2, "broken", PIN_HUE)]
    assert len(lanes(small).names) == 8


def test_files_and_the_page_cache_have_lanes_where_they_are_used(small):
    records = (IomapIterDstmap(0, 1, 12, 0, 0, 4096, "mapped"), CopyFolio(5, 1, 0, 4096, write=False))
    picture = lanes(Trace((*records, Hazard(9, 1, "munmap", ""))))
    names = [name for _, name in picture.names]
    assert (names[2], names[-2:]) == ("filesystem", ["page cache", "hazards"])
    assert bars(picture) == [(2, 0, 1, "extent", GREY), (8, 2, 2, "hazard", PIN_HUE), (9, 1, 1, "copy", GREY)]
    tops = dict(zip(picture.spans["lane"], picture.spans["top"], strict=True))
    assert tops[9] < tops[8]
    assert "page cache" not in [name for _, name in lanes(small).names]


def test_a_request_has_one_bar_in_the_device_however_many_bios_it_has(small):
    grown = list(small.records)
    grown.insert(7, BlockBioBackmerge(360, 1, 1, 1, 32, 8, 1))
    served = [label for *_, label, _ in bars(lanes(Trace(tuple(grown)))) if label == "request 1"]
    assert served == ["request 1"]


def test_calls_that_are_under_way_together_share_the_row_and_have_no_words(small):
    enter, leave = small.records[2], small.records[16]
    ios = [enter._replace(io=2, t=250), leave._replace(io=2, t=72_500), enter._replace(io=3, t=72_600)]
    three = Trace((*small.records[:4], ios[0], *small.records[4:], ios[1], ios[2], leave._replace(io=3, t=72_700)))
    spans = lanes(three).spans
    calls = [at for at, label in enumerate(spans["label"]) if not label and spans["lane"][at] == 0]
    edges = [(spans["top"][at], spans["bottom"][at], spans["io"][at]) for at in calls]
    assert sorted(edges, key=lambda edge: edge[2]) == [(27, 35, 1), (35, 43, 2), (27, 35, 3)]
