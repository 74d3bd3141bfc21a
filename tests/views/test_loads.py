import pytest

from labkit.trace.events import BlockGetrq, BlockRqComplete, BlockRqIssue, DeviceDma, DeviceStart, Fault
from labkit.trace.latency import of_pairs
from labkit.trace.trace import Trace
from labkit.views.loads import MOST_STEPS, Curve, histogram, load, shares, spelled
from labkit.widgets.depth import sample

ONE = (
    BlockGetrq(100, 1, 1, 1, 0, 0, 8, 1),
    BlockRqIssue(200, 1, 1, 0, 0, 8),
    DeviceStart(300, 1, 1, 5),
    DeviceDma(900, 1, 1, write=False, len=4096),
    BlockRqComplete(1_000, 1, 1, 0, 0, 8, 0),
)


def test_a_request_has_its_times_and_its_unit():
    (one,) = load(Trace(ONE)).served
    assert (one.got, one.issued, one.start, one.moved, one.done, one.unit) == (100, 200, 300, 900, 1_000, 5)
    assert (one.latency, one.busy) == (900, (300, 900))


def test_what_does_not_end_has_no_latency():
    (one,) = load(Trace(ONE[:3])).served
    assert (one.latency, one.busy) == (-1, None)


def test_counts_over_time_go_up_and_down():
    told = load(Trace(ONE))
    assert [told.depth.at(t) for t in (99, 100, 999, 1_000)] == [0, 1, 1, 0]
    assert [told.driver.at(t) for t in (199, 200)] == [0, 1]
    assert [told.busy.at(t) for t in (299, 300, 900)] == [0, 1, 0]
    assert [told.done.at(t) for t in (999, 1_000)] == [0, 1]


def test_the_peak_of_a_stretch_counts_what_was_there_when_it_began():
    curve = Curve((10, 20, 30), (3, 1, 2))
    assert [curve.peak(*span) for span in ((0, 5), (12, 15), (12, 30), (25, 29))] == [0, 3, 3, 1]


def test_the_sample_has_eight_at_a_time_and_one_that_fails():
    told = load(sample())
    assert max(told.depth.values) == 8
    assert (len(told.spans.ends), told.units) == (11, [0, 1, 2, 3])
    assert [one.rq for one in told.served if one.error] == [12]


def test_buckets_are_a_quarter_of_a_doubling_and_none_is_left_out():
    buckets = histogram(of_pairs([(0, 1024), (0, 1024), (0, 2048), (0, 2500)]))
    assert [bucket.n for bucket in buckets] == [2, 0, 0, 0, 1, 1]
    assert (buckets[0].lo, buckets[4].lo) == (1024, 2048)
    assert histogram(of_pairs([])) == []


def test_percentiles_are_values_that_were_seen():
    spans = of_pairs([(0, n) for n in range(1, 101)])
    assert shares(spans) == [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)]
    assert spelled(spans) == "p50 50 ns, p90 90 ns, p99 99 ns, max 100 ns"
    assert spelled(of_pairs([(0, 70_000)])) == "70.00 µs"
    assert shares(of_pairs([])) == []


@pytest.mark.parametrize("n", [10, 1_000])
def test_stops_are_bounded_and_every_fault_is_one(n):
    many = [rec._replace(rq=i, t=rec.t + 7 * i) for i in range(n) for rec in ONE]
    told = load(Trace((*sorted(many, key=lambda rec: rec.t), Fault(123_456, 1, "unplug", "gone"))))
    assert len(told.stops) <= MOST_STEPS + 2
    assert 123_456 in told.stops
    assert list(told.stops) == sorted(set(told.stops))
