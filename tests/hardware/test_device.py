from labkit.hardware.clock import Clock
from labkit.hardware.device import Server


def test_a_server_takes_one_after_the_other_and_idles_in_between():
    clock = Clock()
    server = Server(clock)
    assert [server.reserve(100), server.reserve(50), server.reserve(1)] == [0, 100, 150]
    clock.later(120, lambda: None)
    clock.run()
    assert server.reserve(10) == 31
    clock.later(500, lambda: None)
    clock.run()
    assert server.reserve(10) == 0
