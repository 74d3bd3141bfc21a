import math

import pytest

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.media.delay import Delay, DelayProfile, Lognormal

FOUR = DelayProfile(
    nbytes=1 << 20, read_avg_ns=80_000, read_p99_ns=160_000, write_avg_ns=20_000, write_p99_ns=200_000, servers=2
)


def delay(profile=FOUR, seed=1):
    return Delay(Clock(), memoryview(bytearray(1 << 20)), profile, seed)


@pytest.mark.parametrize(("write", "average", "p99"), [(False, 80_000, 160_000), (True, 20_000, 200_000)])
def test_the_average_and_the_99th_percentile_come_out_as_they_went_in(write, average, p99):
    medium = delay()
    seen = sorted(medium.reserve(0, 4096, write=write).busy for _ in range(20_000))
    assert sum(seen) / 20_000 == pytest.approx(average, rel=0.03)
    assert seen[19_800] == pytest.approx(p99, rel=0.03)


def test_servers_work_side_by_side_and_in_the_order_of_arrival():
    medium = delay(DelayProfile(1 << 20, 10, 10, 30, 30, servers=2))
    assert medium.reserve(0, 512, write=False) == (0, 10, 0)
    assert medium.reserve(0, 16 << 20, write=True) == (0, 30, 1)
    assert medium.reserve(0, 512, write=False) == (10, 10, 0)
    assert medium.flush() == 30


def test_the_seed_decides_the_row():
    def row(seed):
        medium = delay(seed=seed)
        return [medium.reserve(0, 512, write=False).busy for _ in range(5)]

    assert row(3) == row(3)
    assert row(3) != row(4)


def test_no_time_at_all_is_a_device_too():
    assert delay(DelayProfile(1 << 20, 0, 0, 0, 0, servers=1)).reserve(0, 512, write=True) == (0, 0, 0)


@pytest.mark.parametrize(("average", "p99"), [(100, 99), (0, 10), (100, 1498), (10, 0)])
def test_a_percentile_that_no_such_distribution_has_is_refused(average, p99):
    with pytest.raises(BadInput, match=rf"profile: read_p99_ns={p99} does not go with an average of {average} ns: "):
        Lognormal.fit("read", average, p99)


def test_the_widest_distribution_has_a_percentile_of_14_9_times_its_average():
    mu, sigma = Lognormal.fit("read", 100, 1490)
    assert math.exp(mu + sigma**2 / 2) == pytest.approx(100)
    assert math.exp(mu + 2.32635 * sigma) == pytest.approx(1490, rel=1e-4)
