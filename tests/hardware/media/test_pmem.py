from labkit.hardware.clock import Clock
from labkit.hardware.media.pmem import Pmem, PmemProfile


def test_the_bandwidth_is_shared_and_the_latency_is_not():
    numbers = PmemProfile(1 << 20, read_ns=300, write_ns=90, read_bytes_per_ns=2.0, write_bytes_per_ns=1.0)
    medium = Pmem(Clock(), memoryview(bytearray(1 << 20)), numbers)
    assert medium.reserve(0, 4096, write=False) == (0, 2348, 0)
    assert medium.reserve(0, 512, write=False) == (2048, 556, 0)
    assert medium.reserve(0, 512, write=True) == (2304, 602, 0)
    assert medium.flush() == 2816
    assert not medium.volatile
