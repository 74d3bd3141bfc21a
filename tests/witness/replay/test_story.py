"""A capture becomes a trace: everything that was seen, at its own time, and nothing that was not."""

from collections import Counter
from itertools import pairwise

import pytest

from labkit.errors import BadInput
from labkit.scatter.payload import run_length
from labkit.trace import latency, store
from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqInsert,
    BlockRqIssue,
    BlockSplit,
    BlockUnplug,
    GupPin,
    GupUnpin,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    Mmap,
    MmPageAlloc,
    NvmeCompleteRq,
    NvmeSetupCmd,
    SwiotlbBounced,
    SysEnter,
    SysExit,
)
from labkit.trace.layers import layers
from labkit.trace.meters import pins
from labkit.trace.summary import summary
from labkit.views import depth, descriptors, extents, iova, lanes, memory, pcie, pieces, requests
from labkit.views import pins as pin_view
from labkit.views import story as sentences
from labkit.views.journey import journey
from labkit.views.player import player
from labkit.views.title import title
from labkit.widgets.page import standalone
from labkit.witness.capture import Capture
from labkit.witness.replay import story

RECORDS = {
    "block_bio_queue": BlockBioQueue, "block_split": BlockSplit, "block_getrq": BlockGetrq, "block_plug": BlockPlug,
    "block_unplug": BlockUnplug, "block_bio_backmerge": BlockBioBackmerge, "block_rq_insert": BlockRqInsert,
    "block_bio_frontmerge": BlockBioFrontmerge, "block_rq_issue": BlockRqIssue, "block_rq_complete": BlockRqComplete,
    "block_bio_complete": BlockBioComplete, "iomap_dio_rw_begin": IomapDioRwBegin, "swiotlb_bounced": SwiotlbBounced,
    "iomap_iter_dstmap": IomapIterDstmap, "iomap_dio_complete": IomapDioComplete, "nvme_setup_cmd": NvmeSetupCmd,
    "io_uring_submit_req": IoUringSubmitReq, "io_uring_complete": IoUringComplete, "nvme_complete_rq": NvmeCompleteRq,
    "io_uring_queue_async_work": IoUringQueueAsyncWork,
}  # fmt: skip
"""What each tracepoint is told by."""


def told(row):
    return story(Capture.of(row))


def names(row):
    return [event["event"].rpartition(":")[2] for event in row["events"]]


def test_one_page_is_told_in_twelve_records(captured):
    buf, pa = 0x7F91ECE00000, 2596691 << 12
    assert list(told(captured("01"))) == [
        Mmap(0, 0, buf, 4096, "rw-", "buffer"),
        MmPageAlloc(0, 0, buf, 0, 1, ((pa, 4096),)),
        SysEnter(21166, 1, "pread64", 3, buf, 4096, 0),
        GupPin(32666, 1, 1, "page", buf, ((pa, 4096),), 1, 1, 1, 0),
        BlockBioQueue(32666, 1, 1, 0, 8, 1, 0, "RS"),
        BlockGetrq(62887, 1, 1, 1, 0, 0, 8, 1),
        BlockPlug(64823, 1),
        BlockUnplug(65976, 1, 1),
        BlockRqIssue(68660, 1, 1, 0, 0, 8),
        BlockRqComplete(269538, 1, 1, 0, 0, 8, 0),
        GupUnpin(269538, 1, 1, 1, 1),
        SysExit(278326, 1, "pread64", 4096),
    ]


def test_every_event_is_a_record_at_its_own_time_or_is_counted(real):
    trace, seen = told(real), Counter(names(real))
    left = Counter(trace.meta["unshown"]) + Counter(trace.meta["folded"])
    for name, kind in RECORDS.items():
        times = sorted(max(0, event["t_ns"]) for event in real["events"] if event["event"].endswith(name))
        mine = [rec.t for rec in trace.of(kind)]
        assert len(mine) + left.pop(name, 0) == seen.pop(name, 0)
        assert mine == times or set(mine) < set(times)
    calls = {name: times for name, times in seen.items() if name.startswith("sys_") and name not in left}
    assert sum(calls.values()) == sum(
        len(trace.of(kind)) for kind in (SysEnter, SysExit) if kind.__name__ not in trace.meta["inferred"]
    )
    assert seen - Counter(calls) == left


def test_what_is_not_shown_is_what_has_no_record(real):
    expected = {"iomap_iter", "sys_enter_io_uring_enter", "sys_exit_io_uring_enter", "dma_alloc", "block_rq_error"}
    assert set(told(real).meta["unshown"]) <= expected


def test_every_request_that_is_issued_ends_once(real):
    trace = told(real)
    issued = Counter(rec.rq for rec in trace.of(BlockRqIssue))
    ended = Counter(rec.rq for rec in trace.of(BlockRqComplete))
    assert trace.meta["unfinished"] == []
    assert issued <= ended
    assert set(ended.values()) <= {1}
    assert set(ended) == {rec.rq for rec in trace.of(BlockGetrq)}


def test_bytes_add_up_to_the_result(real):
    trace = told(real)
    dead = {rec.bio for rec in trace.of(BlockBioComplete)} | {
        bio.bio for bio in trace.of(BlockGetrq) for rq in trace.of(BlockRqComplete) if rq.rq == bio.rq and rq.error
    }
    moved = sum(rec.nr_sector << 9 for rec in trace.of(BlockBioQueue) if rec.bio not in dead)
    asked = real["io"][0]
    holes = [rec for rec in trace.of(IomapIterDstmap) if rec.addr < 0]
    end = asked["pos"] + sum(n for _, n in asked["iov"])
    zeros = sum(min(rec.offset + rec.length, end) - max(rec.offset, asked["pos"]) for rec in holes)
    assert moved + zeros == sum(ret for ret in real["result"] if isinstance(ret, int) and ret > 0)


def test_it_is_stored_and_read_back(real):
    trace = told(real)
    again = store.loads(store.dumps(trace))
    assert (again.records, again.memory, again.meta) == (trace.records, trace.memory, trace.meta)


def test_time_never_runs_backwards_and_all_of_it_can_be_asked_for(real):
    trace = told(real)
    times = [rec.t for rec in trace]
    assert times == sorted(times)
    for t in sorted(set(times))[:: max(1, len(times) // 25)]:
        state = trace.state_at(t)
        assert len(state.tags) == len(dict(state.tags))
        assert all(pin.since <= t for pin in state.pins)


def test_nothing_is_held_in_the_end_but_what_is_registered(real):
    trace = told(real)
    end = trace.state_at(trace.end)
    assert end.tags == ()
    assert {pin.io for pin in end.pins} <= {0}
    assert len(end.pins) == len(real.get("registered") or ())
    assert not any(dma.live for dma in end.dma)


def test_pages_map_the_frames_that_pagemap_had(real):
    trace = told(real)
    rows = sorted(row for row in real["layout"]["before"] if row[1] >= 0)
    seen = {va + at * 4096: pfn + at for va, pfn, n in rows for at in range(n)}
    mine = {va + at * 4096: (pa >> 12) + at for va, pa, n, _ in trace.state_at(0).pages for at in range(n // 4096)}
    assert mine == seen
    late = real["layout"].get("after") or real["layout"]["before"]
    after = {va + at * 4096: pfn + at for va, pfn, n in late if pfn >= 0 for at in range(n)}
    end = {
        va + at * 4096: (pa >> 12) + at for va, pa, n, _ in trace.state_at(trace.end).pages for at in range(n // 4096)
    }
    assert after.items() <= end.items()


def test_pins_are_as_many_as_the_counters_of_the_kernel_say(real):
    if not real.get("pins"):
        pytest.skip("the counters were not read for this capture")
    found = pins(rec for rec in told(real) if rec.io)
    assert (found.taken, found.released) == (real["pins"]["acquired"], real["pins"]["released"])


def test_bios_carry_the_memory_that_is_pinned_for_them(real):
    trace = told(real)
    truth = [bio for bio in real["bios"] if "queue" in {bio.get("kind"), bio.get("event")}]
    bios = trace.of(BlockBioQueue)
    assert [(bio["sector"], bio["bytes"] >> 9) for bio in truth] == [(rec.sector, rec.nr_sector) for rec in bios]
    held = {(rec.t, rec.io): rec for rec in trace.of(GupPin)}
    for bio, rec in zip(truth, bios, strict=True):
        if (rec.t, rec.io) in held and not bio.get("bvecs_truncated"):
            assert rec.vecs == len(bio["bvecs"])
            mine = run_length(tuple(held[rec.t, rec.io].ranges))
            assert list(mine) == [tuple(vec) for vec in run_length([tuple(vec) for vec in bio["bvecs"]])]


def test_every_picture_can_be_drawn_of_it(real):
    trace = told(real)
    trip = journey(trace)
    assert title(trace, trip).head
    assert len(sentences.story(trace)) == len(trace) == len(player(trace, trip).t)
    assert memory.memory(trace, trip).shapes >= 0
    assert lanes.lanes(trace, trip).rows
    assert pieces.pieces(trace).requests == len({rec.rq for rec in trace.of(BlockGetrq)})
    for draw in (depth.depth, extents.extents, iova.iova, pcie.pcie, pin_view.pins):
        draw(trace)
    requests.requests({"kernel": trace})
    assert len(descriptors.commands(trace)) == len(trace.of(NvmeSetupCmd))
    told_of = summary(trace)
    assert len(told_of["requests"]) == sum(rec.io == 1 for rec in trace.of(BlockRqIssue))
    assert layers(trace)["block"]["bios"] == len(trace.of(BlockBioQueue))
    assert len(latency.request_spans(trace).ends) == len({rec.rq for rec in trace.of(BlockRqIssue)})


@pytest.mark.parametrize("name", ["05", "07", "30", "46", "55", "62", "011", "202", "411", "603"])
def test_the_explorer_shows_it(captured, name):
    page = standalone(told(captured(name)))
    assert "not looked at" in page
    assert "observed" in page


def test_it_says_that_its_time_was_measured_and_where(captured):
    trace = told(captured("05"))
    assert trace.meta["device"]["clock"] == "measured"
    assert trace.meta["recorded"] == {"kernel": "6.18.44", "date": "2026-11-22"}
    assert title(trace, journey(trace)).under.endswith("Recorded on 2026-11-22, Linux 6.18.44.")
    undated = told(captured("007"))
    assert title(undated, journey(undated)).under.endswith("Recorded, Linux 7.3.4.")


def test_what_was_seen_and_what_is_inferred_have_names_of_their_own(captured):
    lines = sentences.story(told(captured("01")))
    assert {line.origin for line in lines} == {"upstream 6.18.44, observed", "upstream 6.18.44, inferred"}
    pin = next(line for line in lines if line.layer == "pin")
    assert pin.origin.endswith("inferred")
    assert pin.text.endswith("Known from pagemap: a bio pins its pages until it ends (MM-17).")


def test_a_request_that_had_not_ended_is_told_as_unfinished(captured):
    row = captured("05")
    row["events"] = [event for event in row["events"] if event["t_ns"] < 1_500_000]
    trace = told(row)
    assert trace.meta["unfinished"] == [2]
    assert [pin.io for pin in trace.state_at(trace.end).pins] == [1]


def test_events_that_are_broken_are_refused(captured):
    row, nvme = captured("01"), captured("007")
    nvme["nvme"][0]["sqe"] = "no hex"
    for broken in (row | {"events": [row["events"][1] | {"t_ns": 1 << 64}]}, nvme):
        with pytest.raises(BadInput, match="has a broken record: ValueError"):
            told(broken)
    del row["events"][1]["sector"]
    with pytest.raises(BadInput, match="01-one-page-read has a broken record: KeyError 'sector'"):
        told(row)


def test_a_capture_without_events_is_the_call_alone(captured):
    row = captured("01") | {"events": None, "bios": None}
    trace = told(row)
    assert [type(rec).__name__ for rec in trace] == ["Mmap", "MmPageAlloc", "SysEnter", "SysExit"]
    assert trace.records[-1].t == row["duration_ns"]
    assert trace.meta["inferred"]["SysExit"] == "from the caller's own clock"


def test_zones_are_those_of_x86(captured):
    assert told(captured("01")).memory.zones == (
        ("DMA", 0, 4096), ("DMA32", 4096, 1 << 20), ("Normal", 1 << 20, 10 << 18),
    )  # fmt: skip
    assert [name for name, _, _ in told(captured("007")).memory.zones] == ["DMA", "DMA32"]


def test_numbers_are_given_in_the_order_in_which_things_came(real):
    trace = told(real)
    for kind, name in ((BlockBioQueue, "bio"), (BlockGetrq, "rq")):
        numbers = [getattr(rec, name) for rec in trace.of(kind)]
        assert numbers == list(range(1, len(numbers) + 1))
    assert all(a.t <= b.t for a, b in pairwise(trace))
