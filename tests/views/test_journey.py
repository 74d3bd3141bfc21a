from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqMerge,
    DmaMap,
    GupPin,
    GupUnpin,
    IotlbFlush,
    SysEnter,
    SysExit,
)
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


def test_bios_that_are_merged_have_one_request_and_each_its_own_addresses():
    """Neighbours on the device, and a hole of 4 KiB between them in the IO."""
    trip = journey(Trace((
        SysEnter(0, 1, "pwrite64", 3, 0x7000, 12288, 0),
        GupPin(1, 1, 1, "page", 0x7000, ((0x4000, 4096),), 1, 1, 1, 16), BlockBioQueue(2, 1, 1, 64, 8, 1, 0),
        BlockGetrq(3, 1, 1, 1, 5, 64, 8, 1),
        GupPin(4, 1, 2, "page", 0x9000, ((0x8000, 4096),), 1, 1, 1, 16), BlockBioQueue(5, 1, 2, 72, 8, 1, 8192),
        BlockBioBackmerge(6, 1, 2, 1, 72, 8, 1), DmaMap(7, 1, 1, ((0xF000, 8192),), (), 1, 0, 0, 16),
    )))  # fmt: skip
    assert [(com.rq, com.tag, com.start, com.sector, com.dma) for com in trip.commands] == [
        (1, 5, 0, 64, ((0xF000, 4096),)), (1, 5, 8192, 72, ((0x1_0000, 4096),)),
    ]  # fmt: skip
    assert [(piece.va, piece.pa, piece.dma, piece.lba) for piece in trip.pieces] == [
        (0x7000, 0x4000, 0xF000, 32768), (0x9000, 0x8000, 0x1_0000, 36864),
    ]  # fmt: skip


def test_a_request_that_is_taken_in_goes_on_under_the_other_ones_tag():
    trip = journey(Trace((
        SysEnter(0, 1, "pwrite64", 3, 0x7000, 8192, 0), BlockGetrq(1, 1, 1, 1, 5, 0, 8, 1),
        BlockGetrq(2, 1, 2, 2, 6, 8, 8, 1), BlockRqMerge(3, 1, 1, 2, 6, 0, 16),
    )))  # fmt: skip
    assert [(com.rq, com.tag, com.start) for com in trip.commands] == [(1, 5, 0), (1, 5, 4096)]


def test_memory_of_the_page_cache_is_no_byte_of_the_callers_buffer():
    trip = journey(Trace((
        SysEnter(0, 1, "pread64", 3, 0x7000, 8192, 0), BlockBioQueue(1, 1, 1, 0, 16, 2, -1),
        BlockGetrq(2, 1, 1, 1, 0, 0, 16, 2),
    )))  # fmt: skip
    assert [(piece.va, piece.pa, piece.lba, piece.nbytes) for piece in trip.pieces] == [(NONE, NONE, 0, 8192)]


def test_a_request_that_nobody_saw_begin_breaks_nothing():
    trip = journey(Trace((BlockBioBackmerge(0, 1, 1, 9, 0, 8, 1), DmaMap(1, 1, 8, (), (), 0, 0, 0, 0))))
    assert [(com.rq, com.tag) for com in trip.commands] == [(9, NONE)]


def test_each_piece_of_an_iovec_has_its_own_address():
    iov = ((0x10_0200, 512), (0x10_2000, 1024), (0x30_0000, 512))
    enter = SysEnter(0, 1, "preadv", 3, iov[0][0], 2048, 0, iov)
    pin = GupPin(10, 1, 1, "page", iov[0][0], ((0x4200, 512), (0x9000, 1024), (0x7000, 512)), 3, 3, 3, 48)
    assert [(pinned.va, pinned.nbytes) for pinned in journey(Trace((enter, pin))).phyrs] == list(iov)
