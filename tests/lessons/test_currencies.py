from itertools import islice

import pytest

from labkit.lessons.currencies import (
    LARGE,
    PAGE_VECTORS,
    PHYR_VECTORS,
    REQUESTS,
    TOUCHED,
    below,
    endless,
    meter,
    sweep,
)
from labkit.machine.compare import compare
from labkit.trace.events import BlockBioQueue, BlockRqIssue, DmaMap


@pytest.fixture(scope="module")
def half():
    return compare(size="256 KiB", fragmentation=0.5, seed=7)


def test_the_answers_are_those_of_the_run(half):
    assert PAGE_VECTORS.answer(half) == half.traces["page"].of(BlockBioQueue)[0].vecs == 64
    assert PHYR_VECTORS.answer(half) == half.traces["phyr"].of(BlockBioQueue)[0].vecs
    assert REQUESTS.answer(half) == len(half.traces["phyr"].of(BlockRqIssue))


def test_two_of_three_systems_touch_struct_pages_below_direct_io(half):
    assert TOUCHED.check(half, 2) == "Yes: 2."
    assert below(half.traces["phyr"]) == 0
    assert below(half.traces["page"]) == sum(rec.struct_pages for rec in half.traces["page"].of(DmaMap))


def test_a_large_folio_is_one_vector_for_pages_too():
    assert LARGE.answer(compare(size="1 MiB", folio="2 MiB", seed=7, systems=("page",)).traces["page"]) == 1


def test_the_sweep_is_measured_and_phyrs_meet_pages_at_the_end():
    curves = sweep("256 KiB", points=(0, 1))
    assert list(curves) == ["bios", "segments", "bytes of descriptors"]
    assert curves["segments"].lines["page"] == [(0, 256), (1, 256)]
    assert curves["segments"].lines["phyr"][0][1] < 64
    assert curves["segments"].lines["phyr"][1] == (1, 256)


def test_a_seed_has_one_series_and_every_answer_comes_from_a_run():
    one, other = ([(q.text, q.answer) for q in islice(endless(3), 12)] for _ in range(2))
    assert one == other
    assert len({text for text, _ in one}) > 6
    assert [(q.text, q.answer) for q in islice(endless(4), 12)] != one


def test_a_meter_has_a_layer(half):
    assert meter(half.traces["page"], "block", "bios") == 1
