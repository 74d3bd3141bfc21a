from labkit.trace.events import GupPin, GupUnpin, IotlbFlush, SysEnter, SysExit
from labkit.trace.trace import Trace
from labkit.views.journey import NEVER, NONE, Command, Io, Piece, Pinned, journey


def test_the_small_trace_has_two_pieces_with_four_addresses_each(small):
    trip = journey(small)
    assert trip.ios == (Io(1, "pread64", 0x7F00_0000_0000, 12288, 4096, enter=2, exit=16, ret=12288),)
    assert trip.phyrs == (
        Pinned(1, 0, 0x7F00_0000_0000, 0x4000_0000, 8192, "range", pin=3, unpin=15),
        Pinned(1, 8192, 0x7F00_0000_2000, 0x4000_5000, 4096, "range", pin=3, unpin=15),
    )
    assert trip.pieces == (
        Piece(1, 0, 0, 8192, 0x7F00_0000_0000, 0x4000_0000, 0xFFE0_0000, 4096),
        Piece(1, 1, 0, 4096, 0x7F00_0000_2000, 0x4000_5000, 0xFFE0_2000, 12288),
    )


def test_a_request_knows_the_record_of_each_of_its_stages(small):
    assert journey(small).commands == (
        Command(
            1, 1, 0, 0, 12288, 8, get=6, dma=((0xFFE0_0000, 12288),), unit=5, map=7, issue=9, serve=10, move=11,
            complete=14, unmap=13,
        ),
    )  # fmt: skip


def test_a_stale_address_dies_with_the_flush(small):
    flushed = Trace((*small.records, IotlbFlush(80_000, 0, 1)))
    assert journey(small).commands[0].flush == NEVER
    assert journey(flushed).commands[0].flush == 17


def test_what_no_request_took_is_a_piece_without_device_and_blocks():
    pin = GupPin(220, 1, 1, "page", 0x1000, ((0x8000, 4096),), 1, 1, 1, 16)
    cut = Trace(
        (SysEnter(0, 1, "pread64", 3, 0x1000, 4096, 0), pin, GupUnpin(300, 1, 1, 1, 1), SysExit(400, 1, "x", -5))
    )
    assert journey(cut).pieces == (Piece(1, 0, NONE, 4096, 0x1000, 0x8000, NONE, NONE),)


def test_one_request_over_many_phyrs_and_one_phyr_over_many_requests(traces):
    trip = journey(traces.scattered(64, per_request=32))
    assert [piece.command for piece in trip.pieces] == [0] * 32 + [1] * 32
    assert [piece.phyr for piece in trip.pieces] == list(range(64))


def test_memory_registered_before_the_io_belongs_to_it():
    early = GupPin(0, 0, 7, "range", 0x10_0000, ((0x4000_0000, 65536),), 16, 1, 0, 16)
    trip = journey(Trace((early, SysEnter(100, 1, "pread64", 3, 0x10_2000, 8192, 0))))
    assert trip.phyrs == (Pinned(1, 0, 0x10_2000, 0x4000_2000, 8192, "range", pin=0),)


def test_an_empty_trace_has_no_journey(traces):
    trip = journey(traces.EMPTY)
    assert (trip.ios, trip.phyrs, trip.commands, trip.pieces) == ((), (), (), ())
