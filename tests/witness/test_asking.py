"""Random IO: the same for the same seed, of every kind, and inside what it may touch."""

import pytest

from labkit.witness.asking import SETTLED, ask
from labkit.witness.source import Space

MIB = 1 << 20
KINDS = dict.fromkeys(("4KiB", "2MiB", "synth"), 20 * MIB)
RAW = Space(64 * MIB, 512, KINDS)
LARGE_BLOCKS = Space(64 * MIB, 4096, KINDS)
EXTENTS = [(0, 1 << 30, 4 * MIB, []), (4 * MIB, 2 << 30, MIB, ["UNWRITTEN"]), (8 * MIB, 3 << 30, 16 * MIB, ["LAST"])]
FILE = Space(24 * MIB, 512, KINDS, EXTENTS)
SPACES = {"raw": RAW, "4096": LARGE_BLOCKS, "file": FILE}
APIS = ("", "pread", "preadv", "io_uring", "io_uring-fixed")


def test_the_same_seed_gives_the_same_series_and_another_one_another():
    assert list(ask(1, 50, RAW)) == list(ask(1, 50, RAW))
    assert next(ask(1, 50, RAW))[1:] != next(ask(2, 50, RAW))[1:]


def test_sizes_go_from_512_bytes_to_16_mib_with_every_buffer_and_both_calls():
    every = list(ask(3, 2000, RAW))
    sizes = [asked.nbytes for asked in every]
    assert min(sizes) == 512
    assert max(sizes) > 15 * MIB
    assert {asked.buffer for asked in every} == set(KINDS)
    assert {asked.api for asked in every} == {"pread", "preadv"}
    assert {asked.ios[0].op for asked in every} == {"r", "w"}


def test_settings_change_now_and_then_and_are_never_less_than_a_page_or_a_block():
    every = [asked.knobs for asked in ask(4, 10 * SETTLED, LARGE_BLOCKS)]
    assert all(knobs is every[at // SETTLED * SETTLED] for at, knobs in enumerate(every))
    assert len({tuple(knobs.items()) for knobs in every}) > 5
    assert all(knobs["max_sectors_kb"] >= 4 for knobs in every)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", SPACES)
def test_every_io_lies_inside_its_buffer_and_is_made_of_whole_blocks(name, api):
    space = SPACES[name]
    for asked in ask(5, 400, space, api):
        for io in asked.ios:
            assert io.pos >= 0
            assert all(start >= 0 and start + n <= space.buffers[asked.buffer] for start, n in io.pieces)
            assert all(n > 0 and n % space.block == 0 for _, n in io.pieces), "R21"
            assert len(io.pieces) == 1 or asked.api == "preadv"
        assert asked.api == api or not api


@pytest.mark.parametrize("api", APIS)
def test_a_file_is_written_to_only_where_it_has_blocks_of_its_own(api):
    written = [io for asked in ask(6, 1500, FILE, api) for io in asked.ios if io.op == "w"]
    assert written
    for io in written:
        inside = [row for row in EXTENTS if row[0] <= io.pos and io.pos + io.nbytes <= row[0] + row[2]]
        assert inside
        assert inside[0][3] != ["UNWRITTEN"]


def test_a_batch_may_be_in_a_row_or_backwards_and_a_few_leave_their_registration():
    every = list(ask(7, 1000, RAW, "io_uring-fixed"))
    assert max(len(asked.ios) for asked in every) == 32
    steps = {asked.ios[1].pos - asked.ios[0].pos > 0 for asked in every if len(asked.ios) > 1}
    assert steps == {True, False}
    outside = [
        io
        for asked in every
        for io in asked.ios
        if io.pieces[0][0] + io.nbytes > sum(asked.region) or io.pieces[0][0] < asked.region[0]
    ]
    assert 0 < len(outside) < 0.1 * sum(len(asked.ios) for asked in every)


def test_one_kind_of_buffer_can_be_asked_for():
    assert {asked.buffer for asked in ask(8, 100, RAW, buffer="synth")} == {"synth"}


def test_what_nobody_can_register_is_not_asked_for_with_a_registered_buffer():
    space = RAW._replace(buffers=KINDS | {"file": 20 * MIB})
    assert {asked.buffer for asked in ask(9, 200, space, "io_uring-fixed")} == set(KINDS)
    assert "file" in {asked.buffer for asked in ask(9, 200, space, "io_uring")}


def test_edges_are_asked_for_256_pages_the_end_of_the_device_and_both_directions_at_once():
    every = list(ask(6, 2000, RAW))
    assert {asked.nbytes for asked in every} >= {255 * 4096, MIB, 257 * 4096}
    assert 64 * MIB in {asked.ios[0].pos for asked in every}
    batches = [{io.op for io in asked.ios} for asked in ask(6, 200, RAW, "io_uring") if len(asked.ios) > 2]
    assert {frozenset(ops) for ops in batches} == {frozenset("r"), frozenset("w"), frozenset("rw")}
