"""The rules of the trace event format, on every event that is written."""

import json
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from labkit.machine import Machine
from labkit.machine.workload import offer
from labkit.trace.events import BlockRqIssue, SysEnter, SysExit
from labkit.trace.meters import pins
from labkit.trace.trace import Trace
from labkit.views.export.perfetto import perfetto


def events_of(trace):
    return json.loads(perfetto(trace))["traceEvents"]


def tracks_of(events):
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] != "M":
            tracks[event["pid"], event["tid"]].append(event)
    return tracks


def slices_of(track):
    """The slices (begin, end, name, depth) of a track; every E closes a B, and none is left open."""
    stack, out = [], []
    for event in track:
        if event["ph"] == "B":
            stack.append((event["ts"], event["name"]))
        elif event["ph"] == "E":
            begin, name = stack.pop()
            assert begin <= event["ts"]
            out.append((begin, event["ts"], name, len(stack)))
    assert stack == []
    return sorted(out)


def check(trace):
    """Check every rule on `trace`; return its events."""
    events = events_of(trace)
    assert {event["ph"] for event in events} <= set("MBEstfiC")
    for track in tracks_of(events).values():
        times = [event["ts"] for event in track]
        assert times == sorted(times)
        tops = [(begin, end) for begin, end, _, depth in slices_of(track) if not depth]
        assert all(a[1] <= b[0] for a, b in pairwise(tops))
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    check_flows(events)
    return events


def check_flows(events):
    """Every flow begins, goes through its request, and ends; each point lies in a slice of its track."""
    flows = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            flows[event["id"]].append(event)
    tracks = tracks_of(events)
    for points in flows.values():
        assert Counter(point["ph"] for point in points) == {"s": 1, "t": 1, "f": 1}
        assert [point["ts"] for point in points] == sorted(point["ts"] for point in points)
        assert [point.get("bp") for point in points if point["ph"] == "f"] == ["e"]
        for point in points:
            track = tracks[point["pid"], point["tid"]]
            depth = 0
            for event in track[: next(i for i, event in enumerate(track) if event is point)]:
                depth += {"B": 1, "E": -1}.get(event["ph"], 0)
            assert depth > 0, point


def test_32_concurrent_ios_keep_the_rules_and_have_a_track_each(many):
    events = check(many)
    names = {
        (event["pid"], event["tid"]): event["args"]["name"] for event in events if event.get("name") == "thread_name"
    }
    tags = {name for name in names.values() if name.startswith("tag")}
    assert tags == {f"tag {tag}" for tag in range(32)}
    assert sum(event["ph"] == "s" for event in events) == 32
    flying = [event["args"]["value"] for event in events if event.get("name") == "tags in flight"]
    assert (max(flying), flying[-1]) == (32, 0)


@pytest.mark.parametrize(
    "knobs",
    [
        {"size": "1 MiB", "fragmentation": 0.9},
        {"size": "256 KiB", "stack": "stripe", "op": "write"},
        {"size": "64 KiB", "sched": "mq-deadline", "count": 3},
        {"size": "64 KiB", "direct": False, "fs": "ext4", "op": "write"},
        {"size": "64 KiB", "fs": "xfs", "extents": "mixed"},
        {"size": "64 KiB", "device": "pmem"},
        {"size": "64 KiB", "device": "virtio", "api": "io_uring", "limits": {"max_segments": 2}},
        {"size": "4 KiB", "faults": ("media-error@DeviceStart",)},
        {"size": "4 KiB", "buffer": "unmapped"},
        {"size": "64 KiB", "hazard": "fork"},
    ],
    ids=lambda knobs: ",".join(f"{value}" for value in knobs.values()),
)
def test_every_kind_of_run_keeps_the_rules(knobs):
    machine = Machine(ram="64 MiB", **knobs)
    machine.run()
    check(machine.trace)


def test_a_load_of_many_tasks_keeps_the_rules():
    machine = Machine(ram="64 MiB", fragmentation=0)
    offer(machine, jobs=4, depth=8, count=100, read=0.5)
    events = check(machine.trace)
    issued = len(machine.trace.of(BlockRqIssue))
    assert sum(event["ph"] == "B" and event["name"].startswith("request ") for event in events) == issued


def test_times_are_told_to_the_nanosecond():
    day = 86_400_000_000_000
    text = perfetto(Trace((SysEnter(day + 1, 1, "pread64", 3, 0, 512, 0), SysExit(day + 3, 1, "pread64", 512))))
    assert '"ts":86400000000.001,' in text
    assert '"ts":86400000000.003,' in text


def test_the_frames_that_are_pinned_are_a_counter(one):
    values = [event["args"]["value"] for event in events_of(one) if event.get("name") == "frames pinned"]
    assert values == [pins(one.records).taken, 0] == [64, 0]


def test_a_slice_of_a_request_is_cut_into_its_steps(one):
    track = next(
        track
        for track in tracks_of(events_of(one)).values()
        if any(e["ph"] == "B" and "tag" in e["args"] for e in track)
    )
    inner = [(name, depth) for _, _, name, depth in slices_of(track) if depth]
    assert ("served", 1) in inner
    assert {depth for _, depth in inner} == {1}


def test_every_record_is_an_instant_with_its_fields(one):
    instants = [event for event in events_of(one) if event["ph"] == "i"]
    assert [event["name"] for event in instants] == [type(rec).__name__ for rec in one.records]
    enter = next(event for event in instants if event.get("name") == "SysEnter")
    assert enter["args"]["buf"] == "0x7f0000000000"


def test_two_queues_that_use_one_tag_at_a_time_have_a_line_each(many):
    doubled = Trace(tuple(rec._replace(tag=0) if hasattr(rec, "tag") else rec for rec in many.records), meta=many.meta)
    names = {event["args"]["name"] for event in check(doubled) if event.get("name") == "thread_name"}
    assert {"tag 0", "tag 0, queue 2", "tag 0, queue 32"} <= names


def test_no_records_are_a_timeline_without_events():
    assert [event for event in events_of(Trace(())) if event["ph"] != "M"] == []


def test_a_hostile_name_stays_text(one):
    mean = Trace(
        tuple(r._replace(name='"}<script>\x00') if hasattr(r, "name") else r for r in one.records), meta=one.meta
    )
    assert any(event.get("args", {}).get("name") == '"}<script>\x00' for event in events_of(mean))


def test_one_seed_gives_one_text(one):
    machine = Machine(ram="64 MiB", fragmentation=0, size="256 KiB")
    machine.run()
    assert perfetto(machine.trace) == perfetto(one)
