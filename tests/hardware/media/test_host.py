from labkit.hardware.clock import Clock
from labkit.hardware.media.host import Host, HostProfile


def test_latencies_overlap_as_far_as_there_are_servers_and_bytes_go_one_after_the_other():
    numbers = HostProfile(1 << 20, read_ns=100, write_ns=300, bytes_per_ns=1.0, servers=2)
    medium = Host(Clock(), memoryview(bytearray(1 << 20)), numbers)
    assert medium.reserve(0, 512, write=False) == (0, 612, 0)
    assert medium.reserve(0, 512, write=False) == (0, 1124, 1)  # ready at 100, its bytes go from 612 on
    assert medium.reserve(0, 512, write=False) == (612, 1024, 0)  # ready at 712, its bytes go from 1124 on
    assert medium.reserve(0, 512, write=True) == (1124, 1024, 1)  # ready at 1424, its bytes go from 1636 on
    assert medium.flush() == 2148
