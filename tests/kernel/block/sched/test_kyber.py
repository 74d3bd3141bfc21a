import pytest

from labkit.kernel.block.sched.kyber import OTHER, READ, TARGET, WINDOW, WRITE, Histogram, Kyber

MS = 1_000_000


def test_the_domains_have_the_kernels_depths_and_targets():
    sched = Kyber()
    assert [domain.depth for domain in sched.domains] == [256, 128, 64, 16]
    assert TARGET[:2] == (2 * MS, 10 * MS)


def test_a_domain_has_as_many_requests_under_way_as_tokens(make_rq):
    sched = Kyber()
    rqs = [make_rq(8 * i, write=True) for i in range(130)]
    sched.insert_requests(rqs, 0)
    going = [rq for _ in range(200) if (rq := sched.dispatch_request(0)) is not None]
    assert len(going) == 128
    sched.insert_requests([make_rq(0)], 0)
    assert sched.dispatch_request(0).write is False
    sched.completed_request(going[0], 1)
    assert sched.dispatch_request(1) is rqs[128]
    assert sched.dispatch_request(1) is None
    assert sched.has_work()


def test_domains_take_turns_in_batches_of_16_reads_and_8_writes(make_rq, drain):
    sched = Kyber()
    sched.insert_requests([make_rq(8 * i, write=True) for i in range(20)], 0)
    sched.insert_requests([make_rq(8 * i) for i in range(40)], 0)
    kinds = "".join(kind for kind, _ in drain(sched))
    assert kinds == "R" * 16 + "W" * 8 + "R" * 16 + "W" * 8 + "R" * 8 + "W" * 4


def test_a_domain_is_served_first_come_first(make_rq, drain):
    sched = Kyber()
    sched.insert_requests([make_rq(sector) for sector in (80, 8, 40)], 0)
    assert drain(sched) == [("R", 80), ("R", 8), ("R", 40)]


def test_a_request_that_was_never_dispatched_has_no_token_to_give_back(make_rq):
    sched = Kyber()
    sched.completed_request(make_rq(0), 0)
    assert [domain.taken for domain in sched.domains] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("latency", "bucket"),
    [(0, 0), (1, 0), (500_000, 0), (500_001, 1), (2_000_000, 3), (2_000_001, 4), (3_500_001, 7), (10**10, 7)],
)
def test_a_latency_falls_into_a_quarter_of_the_target(latency, bucket):
    histogram = Histogram(2 * MS)
    histogram.add(latency)
    assert histogram.buckets.index(1) == bucket


def test_a_percentile_needs_500_samples_or_a_second():
    histogram = Histogram(2 * MS)
    for _ in range(499):
        histogram.add(1)
    assert histogram.percentile(99, 0) == -1
    assert histogram.percentile(99, 10**9) == 0
    assert histogram.percentile(99, 10**9) == -1
    for latency in [1] * 450 + [9 * MS] * 50:
        histogram.add(latency)
    assert histogram.percentile(90, 0) == 0
    for latency in [1] * 449 + [9 * MS] * 51:
        histogram.add(latency)
    assert histogram.percentile(90, 0) == 7


def serve(sched, make_rq, latencies, rounds=2):
    """Let 600 requests of each kind take so long, and windows pass."""
    now = 0
    for _ in range(rounds):
        for write, latency in latencies.items():
            for _ in range(600):
                rq = make_rq(8, write=write)
                sched.insert_requests([rq], now)
                assert sched.dispatch_request(now) is rq
                sched.completed_request(rq, now + latency)
        now += WINDOW + max(latencies.values())
    return [sched.domains[at].depth for at in (READ, WRITE, OTHER)]


def test_slow_reads_take_tokens_from_writes_that_are_well(make_rq):
    sched = Kyber()
    assert serve(sched, make_rq, {False: 5 * MS, True: 1 * MS}) == [256, 32, 16]


def test_slow_writes_take_tokens_from_reads_that_are_well(make_rq):
    sched = Kyber()
    assert serve(sched, make_rq, {True: 50 * MS, False: MS // 4}) == [64, 128, 16]


def test_while_all_are_well_nobody_loses_anything(make_rq):
    sched = Kyber()
    assert serve(sched, make_rq, {False: MS, True: MS}) == [256, 128, 16]


def test_a_domain_keeps_one_token_whatever_happens(make_rq):
    sched = Kyber()
    assert serve(sched, make_rq, {False: 5 * MS, True: 1 * MS}, rounds=31)[1] == 1
