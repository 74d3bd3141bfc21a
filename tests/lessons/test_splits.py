from itertools import islice, pairwise

import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.lessons.splits import (
    CHUNK,
    GAP,
    MERGED,
    PIECES,
    SEGMENTS,
    endless,
    first_rule,
    issued,
    merged,
    pages,
    pieces,
    walk,
)


def test_pages_do_not_touch_and_each_begins_a_page():
    vecs = pages(5, nbytes=2048)
    assert all(addr % 4096 == 0 for addr, _ in vecs)
    assert all(a + n < b for (a, n), (b, _) in pairwise(vecs))


def test_the_answers_are_those_of_the_split_itself():
    assert PIECES.answer(walk(pages(32), QueueLimits(max_segments=8, max_hw_sectors=2560))) == 4
    run = walk(pages(1, 128 << 10), QueueLimits(max_hw_sectors=2560, max_segment_size=64 << 10))
    assert SEGMENTS.answer(run) == 2
    assert GAP.answer(walk(pages(8, 2048), QueueLimits(max_hw_sectors=256, virt_boundary_mask=4095))) == "SPLIT-3b"
    assert CHUNK.answer(walk(pages(1, 128 << 10), QueueLimits(max_hw_sectors=2560, chunk_sectors=128), 48)) == 40960


def test_what_fits_is_one_piece_without_a_rule():
    steps = walk(pages(4), QueueLimits(max_hw_sectors=256))
    assert (pieces(steps), first_rule(steps)) == (1, "none")


def test_memory_that_no_device_could_address_is_refused_as_the_block_layer_does():
    with pytest.raises(SyscallError, match=r"SPLIT-3"):
        walk(((0x4000_0001, 4096), (0x5000_0000, 4096)), QueueLimits(max_hw_sectors=256))


def test_fewer_segments_make_more_requests_and_nomerges_makes_twelve():
    counts = [issued(merged(fragmentation=1, seed=7, limits=limits)) for limits in (
        {"max_segments": 33}, {"max_segments": 8}, {"nomerges": 2},
    )]  # fmt: skip
    assert counts == [1, 3, 12]
    assert MERGED.check(merged(fragmentation=1, seed=7), 1) == "Yes: 1."


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_has_one_series_and_words_are_among_the_choices(seed):
    one = list(islice(endless(seed), 15))
    assert [(q.text, q.answer) for q in one] == [(q.text, q.answer) for q in islice(endless(seed), 15)]
    assert all(q.answer in q.choices for q in one if isinstance(q.answer, str))
    assert len({q.text for q in one}) > 10
