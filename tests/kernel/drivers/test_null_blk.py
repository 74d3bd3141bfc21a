import pytest

from labkit.machine import Machine


def took(irqmode):
    profile = {"irqmode": irqmode, "completion_nsec": 7000}
    with Machine(device="null", ram="128 MiB", fragmentation=0, size=4096, profile=profile) as machine:
        assert machine.run()["verified"]
        times = {type(rec).__name__: rec.t for rec in machine.trace.records}
    return times["BlockRqComplete"] - times["BlockRqIssue"]


@pytest.mark.parametrize(("irqmode", "ns"), [(0, 0), (1, 1000), (2, 8000)], ids=["none", "softirq", "timer"])
def test_the_mode_says_who_ends_a_request(irqmode, ns):
    assert took(irqmode) == ns


def test_a_request_is_of_255_sectors_at_most():
    with Machine(device="null", ram="128 MiB", fragmentation=0, size="256 KiB") as machine:
        assert machine.run()["verified"]
        issued = [rec.nr_sector for rec in machine.trace.records if type(rec).__name__ == "BlockRqIssue"]
    assert issued == [255, 255, 2]


def test_the_delay_device_is_the_same_with_four_numbers():
    profile = {"read_avg_ns": 5000, "read_p99_ns": 5000}
    with Machine(device="delay", ram="128 MiB", fragmentation=0, size=4096, profile=profile) as machine:
        assert machine.run()["verified"]
        times = {type(rec).__name__: rec.t for rec in machine.trace.records}
    assert times["BlockRqComplete"] - times["BlockRqIssue"] == 6000
