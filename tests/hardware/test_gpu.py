from labkit.hardware.gpu import Bar
from labkit.machine import DATA


def test_a_bar_is_written_faster_than_read_and_a_switch_is_nearer_than_the_root():
    bar = Bar(read_bytes_per_ns=2.0, write_bytes_per_ns=4.0, switch_ns=500, bridge_ns=1000)
    assert (bar.ns(4096, write=True), bar.ns(4096, write=False)) == (1524, 2548)
    assert (bar.ns(4096, write=True, bridge=True), bar.ns(4096, write=False, bridge=True)) == (2024, 3048)


def test_the_profile_that_is_delivered_takes_a_drive_at_full_speed():
    bar, link = Bar.load(DATA / "gpu.toml"), 7.2
    assert (1 << 20) / bar.ns(1 << 20, write=True) > link
