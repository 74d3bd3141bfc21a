from labkit.hardware.clock import Clock
from labkit.hardware.media.xpoint import Xpoint, XpointProfile


def test_reads_and_writes_take_alike_and_are_durable_at_once():
    chips = Xpoint(Clock(), memoryview(bytearray(1 << 20)), XpointProfile(1 << 20, units=2, read_ns=40, write_ns=50))
    assert not chips.volatile
    assert chips.reserve(0, 4096, write=False) == (0, 40, 0)
    assert chips.reserve(8192, 4096, write=True) == (40, 50, 0)
    assert chips.reserve(8192, 4096, write=True, fua=True) == (90, 50, 0)
    assert chips.reserve(4096, 16384, write=False) == (0, 220, 1)  # unit 1 until 80, unit 0 from 140 until 220
    assert chips.flush() == 220
