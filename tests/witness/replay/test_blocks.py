"""Bios and requests without numbers are told apart by sectors and time."""

from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockGetrq,
    BlockRqComplete,
    BlockRqInsert,
    BlockRqIssue,
    BlockRqMerge,
    BlockRqRequeue,
    BlockSplit,
    GupUnpin,
)
from labkit.witness.capture import Capture
from labkit.witness.replay import story

BASE = {"by": "submitter", "common_pid": 1, "dev": 5, "rwbs": "RS", "error": 0, "comm": "python"}


def told(captured, *events):
    """Return the trace of a read of 64 KiB in one page after the other, of which (name, sector, more) were seen."""
    row = captured("01")
    buf, pfn, _ = row["layout"]["before"][0]
    row["io"][0]["iov"] = [[buf, 65536]]
    row["layout"]["before"] = [[buf, pfn, 16]]
    rows = [
        BASE | {"event": f"block:block_{name}", "t_ns": 10 + at, "sector": sector} | _more(name, more)
        for at, (name, sector, more) in enumerate(events)
    ]
    return story(Capture.of(row | {"events": rows, "bios": None, "pins": None}))


def _more(name, value):
    return {"new_sector" if name == "split" else "nr_sector": value}


def test_the_rest_of_a_split_bio_is_still_the_same_bio(captured):
    trace = told(captured, ("bio_queue", 0, 128), ("split", 0, 64), ("getrq", 0, 64), ("getrq", 64, 64))
    assert [(rec.bio, rec.new_sector) for rec in trace.of(BlockSplit)] == [(1, 64)]
    assert [(rec.bio, rec.rq, rec.tag) for rec in trace.of(BlockGetrq)] == [(1, 1, 0), (1, 2, 1)]


def test_a_split_that_no_rule_explains_has_none(captured):
    (split,) = told(captured, ("bio_queue", 0, 128), ("split", 0, 8)).of(BlockSplit)
    assert (split.rule, split.why) == ("", "")
    real = story(Capture.of(captured("05"))).of(BlockSplit)
    assert [(rec.rule, rec.why) for rec in real] == [("SPLIT-3d", "128 segments are all that max_segments=128 allows")]


def test_a_bio_is_over_when_its_last_request_is(captured):
    trace = told(
        captured, ("bio_queue", 0, 128), ("getrq", 0, 64), ("getrq", 64, 64), ("rq_issue", 0, 64),
        ("rq_issue", 64, 64), ("rq_complete", 64, 64), ("rq_complete", 0, 64),
    )  # fmt: skip
    assert [rec.rq for rec in trace.of(BlockRqComplete)] == [2, 1]
    assert [rec.t for rec in trace.of(GupUnpin)] == [16]


def test_a_bio_joins_the_request_that_it_continues(captured):
    trace = told(
        captured, ("bio_queue", 64, 8), ("getrq", 64, 8), ("bio_queue", 72, 8), ("bio_backmerge", 72, 8),
        ("bio_queue", 56, 8), ("bio_frontmerge", 56, 8), ("rq_issue", 56, 24), ("rq_complete", 56, 24),
    )  # fmt: skip
    assert [(rec.bio, rec.rq) for rec in trace.of(BlockBioBackmerge)] == [(2, 1)]
    assert [(rec.bio, rec.rq) for rec in trace.of(BlockBioFrontmerge)] == [(3, 1)]
    assert [(rec.rq, rec.sector, rec.nr_sector) for rec in trace.of(BlockRqIssue)] == [(1, 56, 24)]
    assert len(trace.of(GupUnpin)) == 3


def test_requests_become_one_and_the_tag_of_the_other_is_free(captured):
    trace = told(
        captured, ("bio_queue", 0, 16), ("getrq", 0, 8), ("getrq", 8, 8), ("rq_merge", 8, 8), ("rq_issue", 0, 16),
        ("rq_complete", 0, 16),
    )  # fmt: skip
    assert [(rec.rq, rec.other, rec.tag) for rec in trace.of(BlockRqMerge)] == [(1, 2, 1)]
    assert trace.meta["unfinished"] == []
    assert trace.state_at(trace.end).tags == ()


def test_a_tag_is_used_again_once_it_is_free(captured):
    trace = told(
        captured, ("bio_queue", 0, 24), ("getrq", 0, 8), ("getrq", 8, 8), ("rq_issue", 0, 8), ("rq_complete", 0, 8),
        ("getrq", 16, 8),
    )  # fmt: skip
    assert [rec.tag for rec in trace.of(BlockGetrq)] == [0, 1, 0]
    assert trace.meta["unfinished"] == [2, 3]


def test_a_request_that_ends_in_parts_is_told_by_its_last(captured):
    trace = told(captured, ("bio_queue", 0, 16), ("getrq", 0, 16), ("rq_complete", 0, 8), ("rq_complete", 8, 8))
    assert [(rec.t, rec.sector, rec.nr_sector) for rec in trace.of(BlockRqComplete)] == [(13, 0, 16)]
    assert trace.meta["unshown"] == {"block_rq_complete": 1}


def test_a_request_may_wait_and_be_handed_over_again(captured):
    trace = told(
        captured, ("bio_queue", 0, 8), ("getrq", 0, 8), ("rq_insert", 0, 8), ("rq_issue", 0, 8), ("rq_requeue", 0, 8),
        ("rq_issue", 0, 8),
    )  # fmt: skip
    assert [type(rec) for rec in trace.records[-5:-1]] == [BlockRqInsert, BlockRqIssue, BlockRqRequeue, BlockRqIssue]


def test_a_bio_may_die_before_it_is_a_request(captured):
    trace = story(Capture.of(captured("03")))
    assert [(rec.bio, rec.error) for rec in trace.of(BlockBioComplete)] == [(1, -22)]
    assert trace.of(BlockGetrq) == ()
    assert [rec.t for rec in trace.of(GupUnpin)] == [rec.t for rec in trace.of(BlockBioComplete)]


def test_what_began_before_anybody_looked_is_counted_not_told(captured):
    trace = told(captured, ("rq_complete", 800, 8), ("split", 400, 408), ("bio_backmerge", 900, 8))
    assert trace.meta["unshown"] == {"block_rq_complete": 1, "block_split": 1, "block_bio_backmerge": 1}
