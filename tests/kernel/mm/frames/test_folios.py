import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.mm.frames.folio import Folio, FolioBatch
from labkit.kernel.mm.frames.folios import Folios
from labkit.trace.page_flags import PG_dirty

MANY = ((0x1000000, 100 << 12), (0x2000000, 28 << 12))


def batched():
    """Return folios of which 128 small ones came together, from frames 4096 and 8192 on."""
    folios = Folios()
    (batch,) = folios.add_runs(MANY, 0)
    batch.refcount = batch.mapcount = 1
    return folios, batch


def told(folios, runs):
    """Return (first frames, pages) of the groups of `runs`."""
    return [([int(head) for head in group.heads], pages) for group, pages in folios.groups(runs)]


@pytest.mark.parametrize(("pfn", "order"), [(7, 0), (16, 4), (1024, 9), (2048, 10)])
def test_every_byte_of_a_folio_leads_to_it_and_no_other_does(pfn, order):
    folios = Folios()
    folio = folios.add(pfn, order)
    first, last = pfn << 12, ((pfn + (1 << order)) << 12) - 1
    assert folios.phys_to_folio(first) is folio
    assert folios.phys_to_folio(last) is folio
    assert folios.phys_to_folio(first - 1) is None
    assert folios.phys_to_folio(last + 1) is None


def test_small_folios_beside_a_large_one_keep_their_own():
    folios = Folios()
    large, small = folios.add(16, 4), folios.add(32, 0)
    assert folios.phys_to_folio(31 << 12) is large
    assert folios.phys_to_folio(32 << 12) is small
    assert folios.phys_to_folio(33 << 12) is None


def test_not_all_memory_has_a_folio():
    assert Folios().phys_to_folio(0xC0000000) is None


def test_a_tail_page_leads_to_its_head():
    folios = Folios()
    folio = folios.add(16, 4)
    assert folios.phys_to_folio(23 << 12) is folio


def test_few_folios_are_themselves_and_many_are_a_batch():
    folios = Folios()
    assert [folio.pfn for folio in folios.add_runs(((0x10000, 131072),), 4)] == [16, 32]
    assert folios.batches == []
    folios, batch = batched()
    assert (folios.by_head, batch.count, batch.order) == ({}, 128, 0)
    assert batch.runs == MANY


def test_a_folio_that_is_looked_at_alone_leaves_its_batch_as_it_was():
    folios, batch = batched()
    batch.add_pins(batch.heads.searchsorted([4099]), 1)
    folio = folios.phys_to_folio(4099 << 12)
    assert (folio.pfn, folio.refcount, folio.mapcount) == (4099, 1025, 1)
    assert batch.count == 127
    assert folios.phys_to_folio(4099 << 12) is folio
    assert batch.find(4099) == -1


def test_a_whole_batch_is_one_group_and_a_part_becomes_another():
    folios, batch = batched()
    assert [(group is batch, pages) for group, pages in folios.groups(MANY)] == [(True, 1)]
    ((part, pages),) = folios.groups(((0x1000000, 10 << 12),))
    assert (part.heads.tolist(), pages, batch.count) == (list(range(4096, 4106)), 1, 118)
    part.refcount = 7
    assert [state.refcount for state in folios.states()] == [7] * 10 + [1] * 118


def test_groups_of_singles_say_how_many_pages_of_each_are_meant():
    folios = Folios()
    folios.add(16, 4)
    folios.add(33, 0)
    assert told(folios, ((0x1E000, 8192), (0x20000, 8192))) == [([16], 2), ([33], 1)]


def test_groups_of_singles_beside_a_batch():
    folios, _ = batched()
    folios.add(16, 4)
    assert told(folios, ((0x1E000, 8192), (0x1063000, 4096))) == [([16], 2), ([4195], 1)]
    folios.add(4096 + 512, 9)
    whole = ((0x1E000, 8192), (0x1200000, 2 << 20), *MANY)
    assert sum(len(heads) * pages for heads, pages in told(folios, whole)) == 2 + 512 + 128


def test_one_frame_under_two_addresses_is_met_twice():
    folios, _ = batched()
    assert told(folios, ((0x1000000, 4096), (0x1000000, 4096))) == [([4096], 1), ([4096], 1)]


def test_a_large_folio_of_a_batch_that_is_met_in_part_leaves_it():
    folios = Folios()
    (batch,) = folios.add_runs(((0x1000000, 64 << 16),), 4)
    groups = {int(group.heads[0]): (group.count, pages) for group, pages in folios.groups(((0x1008000, 16 << 12),))}
    assert groups == {4096: (1, 8), 4112: (1, 8)}
    assert batch.count == 62


@pytest.mark.parametrize("once", [False, True])
def test_pins_are_counted_by_page_or_by_folio(once):
    folios = Folios()
    folio = folios.add(16, 4, 16)
    assert folios.pin(((0x13000, 8192),), once=once) == 1
    assert (folio.refcount, folio.pincount) == ((17, 1) if once else (18, 2))
    folios.pin(((0x13000, 8192),), -1, once=once)
    assert (folio.refcount, folio.pincount) == (16, 0)


def test_a_pin_inside_a_page_counts_the_page():
    folios, batch = batched()
    assert folios.pin(((0x1000800, 4096),)) == 2
    assert [state.refcount for state in folios.states()][:3] == [1025, 1025, 1]
    assert batch.maybe_dma_pinned
    folios.pin(((0x1000800, 4096),), -1)
    assert not batch.maybe_dma_pinned


RUNS = st.lists(st.tuples(st.integers(0, 140), st.integers(1, 40)), min_size=1, max_size=6)


@given(RUNS, st.sampled_from([0, 2]), st.booleans())
def test_pins_on_a_batch_and_on_singles_count_the_same(runs, order, once):
    runs = [(0x1000000 + (first << 12), pages << 12) for first, pages in runs]
    together, alone = Folios(), Folios()
    together.add_runs(((0x1000000, 128 << 12 + order),), order)
    for pfn in range(4096, 4096 + (128 << order), 1 << order):
        alone.add(pfn, order)
    for run in runs:  # one by one, since `once` counts a folio once for each call
        together.pin((run,), once=once)
        alone.pin((run,), once=once)
    assert list(together.states()) == list(alone.states())


@given(RUNS)
def test_groups_are_every_page_once(runs):
    folios, _ = batched()
    pages = {4096 + at for first, n in runs for at in range(first, first + n) if at < 100}
    spans = sorted({pfn: (pfn << 12, 4096) for pfn in pages}.values())
    met = [int(head) for group, n in folios.groups(spans) for head in group.heads for _ in range(n)] if spans else []
    assert sorted(met) == sorted(pages)


def test_what_is_forgotten_is_no_folio_any_more():
    folios, batch = batched()
    folios.remove(batch)
    folio = folios.add(7, 0)
    folios.remove(folio)
    assert list(folios.states()) == []
    assert isinstance(folio, Folio)
    assert isinstance(batch, FolioBatch)


def test_batches_that_are_alike_become_one_and_keep_what_each_folio_has():
    folios = Folios()
    for i in range(40):
        (batch,) = folios.add_runs(((0x1000000 + (i << 19), 64 << 12),), 0)
        batch.refcount = batch.mapcount = 1
    folios.pin(((0x1000000, 4096), (0x1080000, 8192)))
    folios.set_dirty(((0x1081000, 1),))
    before = list(folios.states())
    (new,) = folios.add_runs(((0x9000000, 64 << 12),), 0)
    assert len(folios.batches) < 12
    folios.remove(new)
    assert list(folios.states()) == before


def test_what_was_clean_is_told_when_it_becomes_dirty():
    folios, batch = batched()
    folios.add(16, 4)
    runs = ((0x1000800, 4096), (0x12000, 4096))
    assert [tuple(part) for part in folios.set_dirty(runs)] == [((0x1000000, 8192),), ((0x10000, 65536),)]
    assert folios.set_dirty(runs) == []
    assert [bool(state.flags & PG_dirty) for state in folios.states()][:4] == [True, True, True, False]
    folios.set_dirty(MANY)
    assert batch.flags & PG_dirty
    assert batch.dirty is None


def test_small_folios_with_very_many_references_all_look_pinned_and_large_ones_do_not():
    _, batch = batched()
    assert not batch.maybe_dma_pinned
    batch.refcount = 1024  # MM-16: a false positive
    assert batch.maybe_dma_pinned
    large = FolioBatch(batch.heads, 1, 1024, 0)
    assert not large.maybe_dma_pinned
