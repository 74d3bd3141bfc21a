import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.trace.events import BlockRqComplete, BlockRqIssue, IoUringComplete, IoUringSubmitReq, SysEnter, SysExit
from labkit.trace.latency import Bucket, io_spans, of_pairs, request_spans


def took(*latencies):
    """Return spans that begin one after the other and last so long."""
    return of_pairs([(i, i + ns) for i, ns in enumerate(latencies)])


def test_percentiles_are_values_that_were_seen():
    spans = took(*range(1, 1001))
    told = {"mean": 500, "p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}
    assert spans.summary() == told
    assert (spans.percentile(0), took(7).percentile(0.5), took(5, 9).percentile(0.5)) == (1, 7, 5)


def test_a_histogram_is_linear_inside_powers_of_two():
    assert took(0, 31, 32, 63).histogram() == (Bucket(0, 1, 1), Bucket(31, 32, 1), Bucket(32, 33, 1), Bucket(63, 64, 1))
    assert took(64, 65, 66, 127).histogram() == (Bucket(64, 66, 2), Bucket(66, 68, 1), Bucket(126, 128, 1))
    assert took(100_000, 100_500, 102_400).histogram() == (
        Bucket(98304, 100352, 1),
        Bucket(100352, 102400, 1),
        Bucket(102400, 104448, 1),
    )


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60))
def test_every_latency_is_counted_once_in_a_bucket_that_is_narrow(latencies):
    buckets = took(*latencies).histogram()
    assert sum(bucket.times for bucket in buckets) == len(latencies)
    for low, high, count in buckets:
        assert count == sum(low <= ns < high for ns in latencies)
        assert high - low <= max(1, low / 32)


def test_the_depth_is_told_at_each_step():
    at, depth = of_pairs([(0, 10), (5, 20), (20, 30)]).depth()
    assert (at.tolist(), depth.tolist()) == ([0, 5, 10, 20, 30], [1, 2, 1, 1, 0])


def test_mean_depth_and_busy_share_are_those_of_the_steps():
    spans = of_pairs([(0, 10), (5, 20), (30, 40)])
    assert spans.elapsed == 40
    assert spans.mean_depth() == pytest.approx((10 + 15 + 10) / 40)
    assert spans.busy() == pytest.approx(30 / 40)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 1000)), min_size=1, max_size=40))
def test_littles_law_holds(rows):
    spans = of_pairs([(start, start + ns) for start, ns in rows])
    rate = len(rows) / spans.elapsed
    assert spans.mean_depth() == pytest.approx(rate * float(np.mean(spans.latencies)))


def test_nothing_has_no_latency():
    spans = of_pairs([])
    assert spans.summary() == {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "p99.9": 0, "max": 0}
    assert (spans.histogram(), spans.elapsed, spans.mean_depth(), spans.busy()) == ((), 0, 0.0, 0.0)
    assert [list(column) for column in spans.depth()] == [[], []]


def test_records_of_calls_and_of_rings_are_paired_by_their_io():
    records = [
        SysEnter(0, 1, "pread64", 3, 0, 512, 0), SysEnter(5, 2, "pread64", 3, 0, 512, 0),
        IoUringSubmitReq(6, 3, "READ", 0), SysEnter(7, 4, "pread64", 3, 0, 512, 0),
        SysExit(8, 2, "pread64", 512), SysExit(9, 4, "pread64", -5), IoUringComplete(12, 3, 0, 512),
        SysExit(20, 1, "pread64", 512), SysEnter(21, 5, "pread64", 3, 0, 512, 0),
    ]  # fmt: skip
    spans = io_spans(records)
    assert list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)) == [(5, 8), (6, 12), (0, 20)]


def test_requests_are_paired_by_their_number_whatever_came_of_them():
    records = [
        BlockRqIssue(1, 1, 7, 0, 0, 8), BlockRqIssue(2, 1, 8, 1, 8, 8),
        BlockRqComplete(5, 1, 8, 1, 8, 8, -5), BlockRqComplete(9, 1, 7, 0, 0, 8, 0),
    ]  # fmt: skip
    assert request_spans(records).latencies.tolist() == [3, 8]
