from types import SimpleNamespace

import pytest

from labkit.kernel.fs.cache.blocks import blocks_of
from labkit.trace.page_flags import PG_dirty, PG_uptodate


def folio(order=2, flags=0):
    return SimpleNamespace(order=order, nbytes=4096 << order, flags=flags, private=None)


def test_blocks_begin_as_the_flags_of_the_folio_say_and_hang_on_it():
    one = folio(flags=PG_uptodate | PG_dirty)
    blocks = blocks_of(one, 4096)
    assert (blocks.every, blocks.uptodate, blocks.dirty) == (15, 15, 15)
    assert blocks_of(one, 4096) is one.private is blocks
    assert (blocks_of(folio(), 4096).uptodate, blocks_of(folio(), 512).every.bit_count()) == (0, 32)


@pytest.mark.parametrize(
    ("start", "nbytes", "touched", "whole"),
    [(0, 4096, 1, 1), (1, 4096, 3, 0), (100, 100, 1, 0), (4096, 8192, 6, 6), (4000, 8300, 15, 6), (0, 0, 0, 0)],
)
def test_a_range_touches_blocks_and_covers_fewer(start, nbytes, touched, whole):
    blocks = blocks_of(folio(), 4096)
    assert (blocks.touched(start, nbytes), blocks.whole(start, nbytes)) == (touched, whole)


def test_runs_are_blocks_in_a_row_in_bytes():
    blocks = blocks_of(folio(), 1024)
    assert list(blocks.runs(0b1011_0110)) == [(1024, 2048), (4096, 2048), (7168, 1024)]
    assert list(blocks.runs(blocks.every)) == [(0, 16384)]
    assert list(blocks.runs(0)) == []


def test_a_part_is_uptodate_if_all_that_it_touches_is():
    blocks = blocks_of(folio(), 4096)
    blocks.uptodate = 0b0110
    assert blocks.has(4096, 8192)
    assert blocks.has(5000, 1)
    assert not blocks.has(4095, 2)


def test_a_block_larger_than_a_folio_is_the_folio():
    assert blocks_of(folio(0), 16384).every == 1


def test_what_a_mapping_or_a_device_wrote_to_is_dirty_all_of_it():
    blocks = blocks_of(folio(), 4096)
    blocks.dirty_folio()
    assert blocks.dirty == 15
