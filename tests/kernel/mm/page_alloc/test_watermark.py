import pytest

from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.pcp import (
    nr_pcp_alloc,
    order_to_pindex,
    pindex_to_order,
    zone_batchsize,
    zone_highsize,
)
from labkit.kernel.mm.page_alloc.watermark import (
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
    Watermarks,
    blocks_above,
    lowmem_reserve,
    min_free_kbytes,
    setup_per_zone_wmarks,
)


@pytest.mark.parametrize(
    ("nbytes", "kib"), [(1 << 20, 128), (64 << 20, 1024), (4 << 30, 8192), (16 << 30, 16384), (1 << 43, 262144)]
)
def test_min_free_kbytes_grows_with_the_root_of_memory(nbytes, kib):
    assert min_free_kbytes(nbytes >> 12) == kib


def test_marks_of_a_machine_with_one_zone_of_4_gib():
    assert setup_per_zone_wmarks("Normal", 1 << 20, 1 << 20) == Watermarks(2048, 3096, 4144, 5192)


def test_a_small_zone_is_a_quarter_above_its_minimum():
    assert setup_per_zone_wmarks("Normal", 16384, 16384) == Watermarks(256, 320, 384, 448)


def test_zone_movable_has_a_minimum_of_its_own():
    assert setup_per_zone_wmarks("Movable", 1 << 20, 1 << 20) == Watermarks(128, 1176, 2224, 3272)


@pytest.mark.parametrize(
    ("flags", "mark"),
    [
        (ALLOC_WMARK_MIN, 1000),
        (ALLOC_WMARK_LOW, 2000),
        (ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE, 500),
        (ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK, 375),
        (ALLOC_WMARK_MIN | ALLOC_OOM, 500),
        (ALLOC_WMARK_MIN | ALLOC_MIN_RESERVE | ALLOC_OOM, 250),
    ],
)
def test_who_may_go_how_far_below(flags, mark):
    assert Watermarks(1000, 2000, 3000, 4000).of(flags) == mark


def test_a_zone_keeps_a_share_of_what_lies_above_it():
    reserve = lowmem_reserve([("DMA", 4000), ("DMA32", 512_000), ("Normal", 2_048_000), ("Movable", 256_000)])
    assert reserve["DMA"] == {"DMA": 0, "DMA32": 2000, "Normal": 10000, "Movable": 11000}
    assert reserve["DMA32"] == {"DMA32": 0, "Normal": 8000, "Movable": 9000}
    assert reserve["Normal"] == {"Normal": 0, "Movable": 8000}


@pytest.mark.parametrize(("order", "blocks"), [(0, 100), (1, 50), (3, 12), (6, 1), (7, 0)])
def test_as_many_blocks_as_leave_the_mark(order, blocks):
    assert blocks_above(1100, 1000, order) == blocks


@pytest.mark.parametrize(
    ("nbytes", "batch"), [(1 << 30, 63), (1 << 40, 63), (256 << 20, 15), (48 << 20, 3), (8 << 20, 1)]
)
def test_a_batch_is_63_on_any_zone_of_a_gibibyte(nbytes, batch):
    assert zone_batchsize(nbytes >> 12) == batch


def test_a_cpu_keeps_its_share_of_the_low_mark_and_four_batches_at_least():
    assert zone_highsize(3096, 63, 2) == 1548
    assert zone_highsize(100, 63, 2) == 252


def test_a_list_is_refilled_by_a_batch_of_frames():
    assert [nr_pcp_alloc(63, order) for order in (0, 1, 3, 9)] == [63, 31, 7, 2]
    assert nr_pcp_alloc(1, 0) == 1


def test_every_list_has_a_number():
    assert [order_to_pindex(order, 1) for order in (0, 3, 9)] == [0, 3, 9]
    every = [(order, migratetype) for order in (0, 1, 2, 3, 9) for migratetype in (0, 1, 2)]
    assert [pindex_to_order(order_to_pindex(*one)) for one in every] == every


def test_zone_dma_is_out_of_reach_of_those_who_could_go_to_4_gib():
    dma = Buddy(4 << 30).zones[-1]
    assert dma.nr_free == 3999
    assert dma.mark(ALLOC_WMARK_MIN, "Normal") == 4087  # a min of 7, and 1/256 of what lies above
    assert dma.mark(ALLOC_NO_WATERMARKS, "Normal") == 0
