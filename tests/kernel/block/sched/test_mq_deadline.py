from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.sched.mq_deadline import (
    FIFO_BATCH,
    READ_EXPIRE,
    WRITE_EXPIRE,
    WRITES_STARVED,
    MqDeadline,
)

SEC = 1_000_000_000


def test_the_tunables_are_the_kernels():
    assert (READ_EXPIRE, WRITE_EXPIRE, FIFO_BATCH, WRITES_STARVED) == (500_000_000, 5 * SEC, 16, 2)


def test_requests_go_sector_by_sector_and_begin_again_with_the_oldest(make_rq, drain):
    sched = MqDeadline()
    sched.insert_requests([make_rq(sector) for sector in (48, 16, 80)], 0)
    first = sched.dispatch_request(0)
    sched.insert_requests([make_rq(0), make_rq(24)], 0)
    assert (first.sector, drain(sched)) == (16, [("R", 24), ("R", 48), ("R", 80), ("R", 0)])


def test_two_batches_of_reads_go_and_then_one_of_writes(make_rq, drain):
    sched = MqDeadline()
    sched.insert_requests([make_rq(8 * i, write=True) for i in range(40)], 0)
    sched.insert_requests([make_rq(8 * i) for i in range(80)], 0)
    kinds = "".join(kind for kind, _ in drain(sched))
    assert kinds == "W" * 16 + "R" * 32 + "W" * 16 + "R" * 32 + "W" * 8 + "R" * 16


def test_a_request_that_is_due_goes_before_lower_sectors(make_rq, drain):
    sched = MqDeadline()
    sched.insert_requests([make_rq(8000)], 0)
    sched.insert_requests([make_rq(8 * i) for i in range(40)], 1)
    out = [sector for _, sector in drain(sched, READ_EXPIRE)]
    assert (out[0], out[1:]) == (8000, [8 * i for i in range(40)])


def test_until_it_is_due_it_waits_for_the_end_of_the_sweep(make_rq, drain):
    sched = MqDeadline()
    sched.insert_requests([make_rq(8000)], 0)
    sched.insert_requests([make_rq(8 * i) for i in range(40)], 1)
    assert drain(sched, READ_EXPIRE - 1)[-1] == ("R", 8000)


def test_a_request_that_is_due_waits_for_the_batch_under_way_and_no_longer(make_rq, drain):
    sched = MqDeadline()
    sched.insert_requests([make_rq(4000 + 8 * i) for i in range(40)], 0)
    assert [sched.dispatch_request(0).sector for _ in range(3)] == [4000, 4008, 4016]
    sched.insert_requests([make_rq(0)], 0)
    late = [sector for _, sector in drain(sched, READ_EXPIRE)]
    assert late[:14] == [4024 + 8 * i for i in range(13)] + [4128]  # the batch, and then the oldest of those that wait
    assert 0 in late


def test_one_that_has_taken_in_an_older_neighbour_is_due_when_that_was(make_rq):
    sched = MqDeadline()
    old, young = make_rq(24), make_rq(16)
    sched.insert_requests([old], 0)
    sched.insert_requests([make_rq(400)], 1)
    sched.insert_requests([young], 2)
    assert sched.merge_neighbour(young, QueueLimits()) == (young, old)
    assert young.stats["due"] == READ_EXPIRE
    assert [rq.sector for rq in sched._dirs[False].fifo.values()] == [16, 400]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4000), st.integers(0, SEC // 4)), min_size=1, max_size=200),
    st.integers(1_000_000, 60_000_000),
)
def test_nobody_who_is_due_waits_longer_than_those_before_him_and_the_batches_between(make_rq, steps, service):
    """Each inserts one request, and lets one go; at the end all go, `service` ns each."""
    sched, now, order, due, left = MqDeadline(), 0, [], {}, {False: [], True: []}

    def dispatch():
        rq = sched.dispatch_request(now)
        if rq is not None:
            order.append((now, rq))
            left[rq.write].remove(rq)

    for write, sector, wait in steps:
        rq = make_rq(8 * sector, write=write)
        sched.insert_requests([rq], now)
        due[rq.rq] = now + (WRITE_EXPIRE if write else READ_EXPIRE)
        left[write].append(rq)
        now += wait
        if wait % 2:
            dispatch()
    while sched.has_work():
        dispatch()
        now += service
    assert len(order) == len(steps)
    for write in (False, True):
        mine = sorted((rq.rq for _, rq in order if rq.write is write), key=due.get)
        for place, number in enumerate(mine):
            after = [rq for at, rq in order if at >= due[number]]
            ahead = next((i for i, rq in enumerate(after) if rq.rq == number), 0)
            # the batch under way; then each of his elders, and he, begins a batch, with others' batches between
            others = FIFO_BATCH * (WRITES_STARVED if write else 1)
            assert ahead <= FIFO_BATCH + (place + 1) * (FIFO_BATCH + others)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), min_size=1, max_size=300))
def test_neither_direction_is_starved(make_rq, drain, steps):
    sched = MqDeadline()
    sched.insert_requests([make_rq(8 * sector, write=write) for write, sector in steps], 0)
    kinds = "".join(kind for kind, _ in drain(sched))
    assert sorted(kinds) == sorted("RW"[write] for write, _ in steps)
    for other, most in (("R", FIFO_BATCH * (WRITES_STARVED + 1)), ("W", FIFO_BATCH)):
        runs = kinds.rstrip(other).replace("RW".replace(other, ""), " ").split()
        assert all(len(run) <= most for run in runs)
