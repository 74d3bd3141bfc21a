from labkit.hardware.clock import Clock
from labkit.hardware.device import Server, fetch, store


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


def test_what_a_bus_answers_in_pieces_is_read_and_written_as_one():
    first, second = bytearray(b"ab"), bytearray(b"cde")
    for views in ([memoryview(first), memoryview(second)], [memoryview(bytearray(b"abcde"))]):
        assert bytes(fetch(views)) == b"abcde"
        store(views, b"vwxyz")
        assert bytes(fetch(views)) == b"vwxyz"
    assert (first, second) == (b"vw", b"xyz")
