import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.dma.pool import Block, DmaPool


def test_small_blocks_are_256_bytes_and_large_ones_a_page():
    pool = DmaPool(0x100000, 0xFF000, 8192)
    assert pool.alloc(256) == Block(0, 256)
    assert pool.alloc(8) == Block(256, 256)
    assert pool.alloc(257) == Block(4096, 4096)
    assert pool.in_use == 3


def test_a_page_is_sixteen_small_blocks():
    pool = DmaPool(0, 0, 4096)
    assert [pool.alloc(1).offset for _ in range(16)] == list(range(0, 4096, 256))
    with pytest.raises(SyscallError) as caught:
        pool.alloc(1)
    assert str(caught.value) == "dma_pool: 1 bytes are not to be had (-ENOMEM)"
    assert pool.in_use == 16


def test_a_block_given_back_is_the_next_one():
    pool = DmaPool(0, 0, 8192)
    small, large = pool.alloc(256), pool.alloc(4096)
    pool.free(small)
    pool.free(large)
    assert pool.in_use == 0
    assert (pool.alloc(200), pool.alloc(300)) == (small, large)


def test_a_pool_of_pages_that_is_used_up_is_enomem():
    pool = DmaPool(0, 0, 4096)
    pool.alloc(4096)
    for nbytes in (8, 4096):
        with pytest.raises(SyscallError, match="ENOMEM"):
            pool.alloc(nbytes)


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 5)), max_size=60))
def test_blocks_never_overlap_and_never_cross_a_page(steps):
    pool, out = DmaPool(0, 0, 16 * 4096), []
    for nbytes, which in steps:
        if which > 3 and out:
            pool.free(out.pop(which % len(out)))
            continue
        try:
            out.append(pool.alloc(nbytes))
        except SyscallError:
            continue
        assert out[-1].nbytes >= nbytes
    spans = sorted((block.offset, block.offset + block.nbytes) for block in out)
    assert all(a_end <= b for (_, a_end), (b, _) in itertools.pairwise(spans))
    assert all(lo // 4096 == (hi - 1) // 4096 for lo, hi in spans)
    assert pool.in_use == len(out)
