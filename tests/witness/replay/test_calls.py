"""Which IO a thread is busy with."""

from labkit.trace.events import (
    BlockBioComplete,
    BlockBioQueue,
    BlockGetrq,
    GupPin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    SysEnter,
    SysExit,
)
from labkit.witness.capture import Capture, CapturedIo
from labkit.witness.replay import story
from labkit.witness.replay.calls import pieces, results


def told(row):
    return story(Capture.of(row))


def test_each_entry_of_a_ring_has_its_own_bio(captured):
    trace = told(captured("46"))
    assert [rec.io for rec in trace.of(IoUringSubmitReq)] == list(range(1, 33))
    assert [(rec.io, rec.start, rec.sector) for rec in trace.of(BlockBioQueue)] == [
        (io, 0, 8 * (io - 1)) for io in range(1, 33)
    ]
    assert [rec.io for rec in trace.of(IoUringComplete)] == list(range(1, 33))


def test_what_a_worker_does_again_is_the_same_io(captured):
    trace = told(captured("39"))
    assert [(rec.io, rec.bio, rec.start) for rec in trace.of(BlockBioQueue)] == [(1, 1, 0), (1, 2, 0)]
    assert [(rec.bio, rec.error) for rec in trace.of(BlockBioComplete)] == [(1, -11)]
    assert [rec.io for rec in trace.of(IoUringQueueAsyncWork)] == [1]
    assert [(rec.bio, rec.io) for rec in trace.of(BlockGetrq)] == [(2, 1), (2, 1)]


def two_workers(row):
    """Return the capture of a ring with two IOs that two workers do again, the second one first."""
    again = [event for event in row["events"] if event["t_ns"] > 290_000 and "block" in event["event"]]
    first, submit = row["io"][0], next(event for event in row["events"] if "submit_req" in event["event"])
    other = [event | {"sector": event["sector"] + 4096, "common_pid": event["common_pid"] + 1} for event in again]
    for event in other:
        event["t_ns"] -= 1
        if "new_sector" in event:
            event["new_sector"] += 4096
    later = [event for event in row["events"] if event["t_ns"] < 290_000]
    punt = next(event for event in later if "async" in event["event"])
    more = [event | {"user_data": 1, "t_ns": punt["t_ns"] + at} for at, event in enumerate((submit, punt), 1)]
    done = [event for event in row["events"] if "io_uring_complete" in event["event"]]
    row |= {"io": [first, first | {"pos": 4096 << 9}], "batch": 2, "result": [1 << 20] * 2, "bios": None}
    row["events"] = sorted(later + more + other + again + done, key=lambda event: event["t_ns"])
    return row


def test_workers_are_told_apart_by_where_they_go(captured):
    bios = told(two_workers(captured("39"))).of(BlockBioQueue)
    assert [(rec.io, rec.sector, rec.start) for rec in bios] == [(1, 0, 0), (2, 4096, 0), (1, 0, 0)]


def test_bytes_of_a_file_are_found_by_the_extent_that_was_looked_up(captured):
    trace = told(captured("53"))
    bios = [(rec.start, rec.nr_sector << 9) for rec in trace.of(BlockBioQueue)]
    at = 0
    for start, nbytes in bios:
        assert start == at
        at += nbytes
    assert at == 8 << 20
    first = trace.of(IomapIterDstmap)[0]
    assert (first.addr, first.offset, first.length, first.type, first.flags) == (136314880, 0, 8192, "mapped", "")


def test_holes_lie_nowhere(captured):
    holes = [rec for rec in told(captured("55")).of(IomapIterDstmap) if rec.type == "hole"]
    assert holes
    assert {rec.addr for rec in holes} == {-1}


def test_bios_of_somebody_else_belong_to_no_io(captured):
    row = captured("01")
    row["events"] += [
        event | {"by": "foreign", "common_pid": 77, "sector": 4096, "comm": "ext4lazyinit"}
        for event in row["events"] if event["event"].startswith("block:block_bio") or "rq" in event["event"]
    ]  # fmt: skip
    trace = told(row)
    assert [(rec.io, rec.start, rec.sector) for rec in trace.of(BlockBioQueue)] == [(1, 0, 0), (0, -1, 4096)]
    assert [(rec.rq, rec.io, rec.tag) for rec in trace.of(BlockGetrq)] == [(1, 1, 0), (2, 0, 1)]


def test_events_of_other_devices_are_counted_not_told(captured):
    row = captured("01")
    queue = next(event for event in row["events"] if "bio_queue" in event["event"])
    row["events"].append(queue | {"dev": 266338304, "by": "other", "common_pid": 9})
    trace = told(row)
    assert len(trace.of(BlockBioQueue)) == 1
    assert trace.meta["unshown"] == {"block_bio_queue": 1}


def test_what_the_page_cache_reads_is_no_part_of_the_buffer(captured):
    assert [(rec.rwbs, rec.start) for rec in told(captured("603")).of(BlockBioQueue)] == [("RS", 0), ("RA", -1)]


def test_a_call_without_tracepoints_lasts_as_long_as_its_caller_saw(captured):
    row = captured("007")
    trace = told(row)
    assert [(rec.t, rec.name, rec.fd) for rec in trace.of(SysEnter)] == [(0, "preadv", -1)]
    assert [(rec.t, rec.ret) for rec in trace.of(SysExit)] == [(row["duration_ns"], 65536)]


def test_a_result_may_be_told_by_its_name(captured):
    assert results(Capture.of(captured("03"))) == [-22]
    assert results(Capture.of(captured("022"))) == [-22]
    assert results(Capture.of(captured("01") | {"result": None})) == [None]


def test_a_ring_without_tracepoints_of_its_own_is_told_by_where_its_bios_go(captured):
    row = captured("46")
    row["events"] = [event for event in row["events"] if event["event"].startswith("block:")]
    trace = told(row)
    assert [(rec.io, rec.sector) for rec in trace.of(BlockBioQueue)] == [(io, 8 * (io - 1)) for io in range(1, 33)]
    assert [(rec.t, rec.io, rec.opcode) for rec in trace.of(IoUringSubmitReq)] == [
        (0, io, "READ") for io in range(1, 33)
    ]
    assert {(rec.t, rec.res) for rec in trace.of(IoUringComplete)} == {(row["duration_ns"], 4096)}
    assert trace.meta["inferred"]["IoUringComplete"] == "from the caller's own clock"


def test_a_part_of_an_io_lies_in_some_of_its_pieces():
    asked = CapturedIo(api="preadv", op="r", pos=0, iov=[(0x1000, 512), (0x9000, 1024), (0x5000, 512)])
    assert pieces(asked, 256, 1024) == [(0x1100, 256), (0x9000, 768)]
    assert pieces(asked, 1536, 512) == [(0x5000, 512)]


def test_what_a_worker_does_is_found_by_its_place_where_the_ring_tells_nothing(captured):
    row = captured("39")
    row["events"] = [
        event for event in row["events"] if event["event"].startswith("block:") and event["by"] != "submitter"
    ]
    trace = told(row)
    assert {rec.io for rec in trace.of(BlockGetrq)} == {1}
    assert [sum(n for _, n in pin.ranges) for pin in trace.of(GupPin)] == [1 << 20]
