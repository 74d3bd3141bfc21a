import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.block.limits import MAX_SEGMENT_SIZE, QueueLimits
from labkit.kernel.block.split import Piece, get_max_io_size, split_to_limits, walked
from labkit.scatter.range_array import RangeArray

PAGE = 4096
ROOMY = QueueLimits(max_sectors=1 << 20)


def scattered(count, nbytes=PAGE):
    return tuple((0x100000 + i * 0x10000, nbytes) for i in range(count))


def split(vecs, limits, sector=0):
    return list(split_to_limits(vecs, sector, limits))


def shape(pieces):
    return [(piece.nbytes, piece.segments) for piece in pieces]


def test_what_fits_is_one_piece():
    assert split(((0x7000, PAGE), (0x21000, PAGE)), ROOMY) == [Piece(((0x7000, PAGE), (0x21000, PAGE)), 8192, 2)]


def test_worked_example_split_7_four_segments():
    assert shape(split(scattered(8), QueueLimits(max_segments=4))) == [(16384, 4), (16384, 4)]


@pytest.mark.parametrize("lbs", [512, 4096])
def test_worked_example_split_8_a_gap_at_the_virt_boundary(lbs):
    limits = QueueLimits(
        logical_block_size=lbs, physical_block_size=lbs, virt_boundary_mask=4095, max_segment_size=MAX_SEGMENT_SIZE
    )
    vecs = ((0x7200, 3584), (0x21000, 4096), (0x30000, 512), (0x40200, 1024))
    pieces = split(vecs, limits)
    told = "a joint of 0x30200 and 0x40200 is not on a boundary of 4096"
    assert pieces == [Piece(vecs[:3], 8192, 3, "SPLIT-3b", told), Piece(vecs[3:], 1024, 1)]


def test_worked_vector_v8_the_end_falls_on_a_physical_block():
    limits = QueueLimits(physical_block_size=4096, max_sectors=255)
    assert get_max_io_size(limits, 3) == 253 << 9
    assert get_max_io_size(limits, 0) == 248 << 9
    assert [piece.nbytes >> 9 for piece in split(((0x100000, 600 << 9),), limits, sector=3)] == [253, 248, 99]


def test_a_physical_block_that_is_too_large_is_ignored():
    limits = QueueLimits(physical_block_size=65536, max_sectors=9)
    assert get_max_io_size(limits, 1) == 9 << 9
    assert get_max_io_size(limits, 124) == 4 << 9
    large = QueueLimits(logical_block_size=2048, physical_block_size=65536, max_sectors=9)
    assert get_max_io_size(large, 0) == 8 << 9


@pytest.mark.parametrize("addr", [0x7001, 0x7003, 0x7100])
def test_rule_r8_one_vector_inside_one_page_is_never_examined(addr):
    assert split(((addr, 512),), ROOMY) == [Piece(((addr, 512),), 512, 1)]


@pytest.mark.parametrize(
    ("vecs", "sentence"),
    [
        (((0x7100, 4096),), "vector 0x7100+4096 is not a multiple of 512 (SPLIT-3)"),
        (((0x7000, 4096), (0x21001, 512)), "vector 0x21001+512 is not a multiple of 512 (SPLIT-3)"),
        (((0x7000, 100), (0x21000, 412)), "vector 0x7000+100 is not a multiple of 512 (SPLIT-3)"),
    ],
)
def test_rule_r9_every_other_vector_is_a_multiple_of_the_alignment(vecs, sentence):
    with pytest.raises(SyscallError) as caught:
        split(vecs, ROOMY)
    assert str(caught.value) == f"block: {sentence} (-EINVAL)"


def test_rule_r9_says_what_the_device_wants():
    assert shape(split(((0x7004, 4096),), replace(ROOMY, dma_alignment=3))) == [(4096, 1)]
    with pytest.raises(SyscallError, match="is not a multiple of 4 "):
        split(((0x7006, 4096),), replace(ROOMY, dma_alignment=3))


def test_a_vector_that_cannot_be_addressed_fails_after_the_pieces_before_it():
    pieces = split_to_limits((*scattered(4), (0x7001, PAGE)), 0, QueueLimits(max_segments=2))
    assert next(pieces).nbytes == 8192
    with pytest.raises(SyscallError, match="SPLIT-3"):
        next(pieces)


def test_rule_r10_sectors_are_limited():
    pieces = split(((0x100000, 1 << 20),), QueueLimits(max_sectors=256))
    assert shape(pieces) == [(131072, 2)] * 8
    assert pieces[1].vecs == ((0x120000, 131072),)


def test_rule_r11_long_vectors_are_sliced_from_their_own_start():
    assert shape(split(((0x7200, 65536),), ROOMY)) == [(65536, 1)]
    assert shape(split(((0x7200, 65536 + 512),), ROOMY)) == [(66048, 2)]
    assert shape(split(((0x7200, 1 << 20),), ROOMY)) == [(1 << 20, 16)]


def test_rule_r11_no_segment_crosses_the_boundary():
    four_gib = replace(ROOMY, max_segment_size=MAX_SEGMENT_SIZE)
    assert shape(split(((0xFFFFF000, 8192),), four_gib)) == [(8192, 2)]
    assert shape(split(((0xFFFFE000, 8192),), four_gib)) == [(8192, 1)]
    small = replace(ROOMY, seg_boundary_mask=0xFFFF)
    assert shape(split(((0x1F000, 65536),), small)) == [(65536, 2)]


def test_rule_r11_a_vector_may_be_cut_where_the_segments_end():
    pieces = split(((0x100000, 4 * 65536),), QueueLimits(max_sectors=1 << 20, max_segments=3))
    told = "3 segments are all that max_segments=3 allows"
    assert pieces == [
        Piece(((0x100000, 196608),), 196608, 3, "SPLIT-3d", told), Piece(((0x130000, 65536),), 65536, 1),
    ]  # fmt: skip


def test_rule_r12_a_split_is_rounded_down_to_logical_blocks():
    limits = QueueLimits(logical_block_size=4096, physical_block_size=4096, max_segments=3)
    vecs = scattered(8, 2048)
    pieces = split(vecs, limits)
    assert shape(pieces) == [(4096, 2)] * 4
    assert pieces[1].vecs == vecs[2:4]


def test_rule_r12_a_split_without_a_logical_block_is_refused():
    limits = QueueLimits(logical_block_size=4096, physical_block_size=4096, max_segments=3)
    with pytest.raises(SyscallError) as caught:
        split(scattered(8, 512), limits)
    assert str(caught.value) == "block: a piece of 1536 bytes holds no logical block (SPLIT-5) (-EINVAL)"


def test_rule_r12_neighbours_in_two_vectors_are_two_segments():
    assert shape(split(((0x7000, PAGE), (0x8000, PAGE)), ROOMY)) == [(8192, 2)]


def test_rule_r13_the_rest_is_examined_like_a_bio_of_its_own():
    limits = QueueLimits(physical_block_size=65536, max_sectors=8)
    pieces = split(((0x100000, 65536),), limits, sector=4)
    assert [piece.nbytes >> 9 for piece in pieces] == [8] * 16


def test_a_split_inside_a_vector_goes_on_inside_it():
    pieces = split(((0x7000, 6144), (0x21000, 6144)), QueueLimits(max_sectors=8))
    assert [piece.vecs for piece in pieces] == [
        ((0x7000, 4096),),
        ((0x8000, 2048), (0x21000, 2048)),
        ((0x21800, 4096),),
    ]


def test_a_hundred_thousand_vectors_take_linear_time():
    def cost(count):
        begin = time.process_time()
        assert sum(piece.nbytes for piece in split_to_limits(scattered(count), 0, QueueLimits())) == count * PAGE
        return time.process_time() - begin

    small, large = min(cost(10_000) for _ in range(3)), cost(100_000)
    assert large < 30 * small
    assert large < 5


def test_one_vector_of_a_terabyte_costs_by_the_piece_alone():
    pieces = split_to_limits(((0, 1 << 40),), 0, QueueLimits(max_sectors=2048, max_segments=256))
    assert [next(pieces).nbytes for _ in range(3)] == [1 << 20] * 3


@st.composite
def bios(draw):
    """Return limits, a sector and vectors of whole logical blocks in all."""
    lbs = draw(st.sampled_from([512, 1024, 4096]))
    virt = draw(st.booleans())
    limits = QueueLimits(
        logical_block_size=lbs,
        physical_block_size=draw(st.sampled_from([size for size in (512, 4096, 16384) if size >= lbs])),
        max_sectors=draw(st.integers(8, 300)),
        max_segments=draw(st.integers(1, 20)),
        max_segment_size=MAX_SEGMENT_SIZE if virt else draw(st.sampled_from([4096, 8192, 65536])),
        virt_boundary_mask=4095 if virt else 0,
        seg_boundary_mask=draw(st.sampled_from([0xFFF, 0x3FFF, 0xFFFFFFFF])),
    )
    addrs = draw(st.lists(st.integers(0, 500).map(lambda n: n << 12), min_size=1, max_size=24))
    lengths = [draw(st.integers(1, 6)) * PAGE for _ in addrs]
    offset = draw(st.integers(0, 7)) * 512
    vecs = [(addrs[0] + offset, lengths[0] - offset), *zip(addrs[1:], lengths[1:], strict=True)]
    surplus = sum(nbytes for _, nbytes in vecs) % lbs
    if vecs[-1][1] <= surplus:
        vecs[-1] = (vecs[-1][0], vecs[-1][1] + lbs - surplus)
    else:
        vecs[-1] = (vecs[-1][0], vecs[-1][1] - surplus)
    return limits, draw(st.integers(0, 64)) * (lbs >> 9), tuple(vecs)


def sectors(vecs):
    return [addr + at for addr, nbytes in vecs for at in range(0, nbytes, 512)]


def fewest_segments(vecs, limits):
    """Return how many segments `vecs` are at the least, by the limits on one segment."""
    count = 0
    for addr, nbytes in vecs:
        at, end = addr, addr + nbytes
        while at < end:
            boundary = (at // (limits.seg_boundary_mask + 1) + 1) * (limits.seg_boundary_mask + 1)
            at = min(end, boundary, at + limits.max_segment_size)
            count += 1
    return count


@given(bios())
def test_pieces_put_together_are_the_bio_and_each_respects_every_limit(bio):
    limits, sector, vecs = bio
    try:
        pieces = split(vecs, limits, sector)
    except SyscallError as bad:
        assert "SPLIT-5" in bad.rule  # noqa: PT017 - too few segments for one logical block
        assert limits.logical_block_size > 512
        return
    assert [at for piece in pieces for at in sectors(piece.vecs)] == sectors(vecs)
    for piece in pieces:
        assert piece.nbytes == sum(nbytes for _, nbytes in piece.vecs) > 0
        assert piece.nbytes % limits.logical_block_size == 0
        assert piece.nbytes <= limits.max_sectors << 9
        assert fewest_segments(piece.vecs, limits) <= piece.segments <= limits.max_segments
        if limits.virt_boundary_mask:
            inner = [addr + nbytes for addr, nbytes in piece.vecs[:-1]] + [addr for addr, _ in piece.vecs[1:]]
            assert all(at % 4096 == 0 for at in inner)


@settings(max_examples=2000)
@given(bios())
def test_columns_are_split_as_tuples_are(bio):
    limits, sector, vecs = bio
    assert outcome(RangeArray.join([vecs]), limits, sector) == outcome(vecs, limits, sector)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 15), st.integers(1, 16)), min_size=1, max_size=40))
def test_columns_are_refused_where_tuples_are(parts):
    vecs = tuple((pfn << 12 | deep << 8, size << 8) for pfn, deep, size in parts)
    limits = QueueLimits(max_segments=7, max_sectors=64, virt_boundary_mask=4095, dma_alignment=511)
    assert outcome(RangeArray.join([vecs]), limits, 0) == outcome(vecs, limits, 0)


def outcome(vecs, limits, sector):
    """Return the pieces up to the refusal, and the refusal."""
    pieces = []
    try:
        for piece in split_to_limits(vecs, sector, limits):
            pieces.append(piece)  # noqa: PERF402 - those before a refusal count
    except SyscallError as bad:
        return pieces, str(bad)
    return pieces, None


def test_the_pieces_of_columns_are_views_of_them():
    vecs = RangeArray.join([scattered(1000)])
    pieces = split(vecs, QueueLimits(max_sectors=256))
    assert shape(pieces) == [(131072, 32)] * 31 + [(32768, 8)]
    assert all(piece.vecs.rows.base is vecs.rows or piece.vecs.rows.base is vecs.rows.base for piece in pieces)


@pytest.mark.parametrize("most", [1, 4, 8])
def test_a_walk_takes_every_byte_once_and_cuts_where_the_pieces_end(most):
    limits = QueueLimits(max_segments=most, max_sectors=72, chunk_sectors=128)
    vecs = (*scattered(9), (0x800000, 5 * PAGE), (0x900000, 512))
    steps, pieces = list(walked(vecs, 24, limits)), split(vecs, limits, 24)
    taken = [step for step in steps if step.nbytes]
    assert sum(step.nbytes for step in taken) == sum(n for _, n in vecs)
    assert [(step.piece, step.rule, step.why) for step in steps if not step.nbytes] == [
        (i, piece.rule, piece.why) for i, piece in enumerate(pieces[:-1])
    ]
    ends = {step.piece: (step.total, step.segments) for step in taken}
    assert list(ends.values()) == [(piece.nbytes, piece.segments) for piece in pieces]


def test_a_walk_tells_of_a_long_vector_in_parts_and_names_it():
    steps = list(walked(((0x7000, PAGE), (0x100000, 8 * PAGE)), 0, QueueLimits(max_sectors=32)))
    assert [(step.piece, step.vec, step.start, step.addr, step.nbytes) for step in steps if step.nbytes] == [
        (0, 0, 0, 0x7000, PAGE), (0, 1, PAGE, 0x100000, 3 * PAGE), (1, 1, 4 * PAGE, 0x103000, 4 * PAGE),
        (2, 1, 8 * PAGE, 0x107000, PAGE),
    ]  # fmt: skip


def test_rule_split3d_a_segment_that_ends_off_the_virt_boundary_ends_the_piece():
    limits = QueueLimits(max_hw_sectors=8192, virt_boundary_mask=0xFFFF, max_segment_size=8192, dma_alignment=3)
    pieces = split(((0, 24576),), limits)
    assert [(piece.nbytes, piece.segments, piece.rule) for piece in pieces] == [
        (8192, 1, "SPLIT-3d"), (8192, 1, "SPLIT-3d"), (8192, 1, ""),
    ]  # fmt: skip
    assert pieces[0].why == "a segment of max_segment_size=8192 ends at 0x2000, not on a boundary of 65536"


ATOMIC = QueueLimits(
    max_hw_sectors=1024, max_sectors=16, atomic_write_unit_min=4096, atomic_write_unit_max=32768,
    atomic_write_boundary=65536,
)  # fmt: skip


@pytest.mark.parametrize(
    ("sector", "atomic", "most"), [(0, False, 8192), (0, True, 32768), (96, True, 16384), (120, True, 4096)]
)
def test_rule_split2_an_atomic_write_has_a_maximum_and_a_boundary_of_its_own(sector, atomic, most):
    assert get_max_io_size(ATOMIC, sector, atomic=atomic) == most


def test_rule_split2_without_an_atomic_boundary_the_chunk_is_one():
    limits = QueueLimits(max_hw_sectors=1024, chunk_sectors=24, atomic_write_unit_min=4096, atomic_write_unit_max=32768)
    assert get_max_io_size(limits, 8, atomic=True) == 16 << 9
    pieces = split_to_limits(((0x10000, 32768),), 0, limits, atomic=True)
    assert [piece.nbytes for piece in pieces] == [12288, 12288, 8192]
