import pytest

from labkit.kernel.mm.frames.folio import Folio, map_refs, memmap_bytes
from labkit.trace.page_flags import PG_anon, PG_anon_exclusive, PG_uptodate


@pytest.mark.parametrize(("order", "refs"), [(0, 1), (4, 16), (9, 1), (10, 2), (18, 1)])
def test_the_mapping_of_a_folio_holds_a_reference_for_each_entry(order, refs):
    assert map_refs(order) == refs


def test_a_folio_begins_without_a_reference():
    folio = Folio(512, 9)
    assert (folio.refcount, folio.mapcount, folio.pincount) == (0, 0, 0)
    assert folio.flags == PG_uptodate | PG_anon | PG_anon_exclusive


def test_the_memmap_costs_64_bytes_a_frame():
    assert memmap_bytes(1) == 64
    assert memmap_bytes((96 << 30) >> 12) == 1536 << 20  # what the pages of a 96 GiB GPU would take


def test_worked_vector_v6_three_pins_of_a_small_folio():
    folio = Folio(7, 0, 1)
    for _ in range(3):
        folio.pin(1)
    assert (folio.refcount, folio.pincount) == (3073, 0)
    assert folio.maybe_dma_pinned


def test_worked_vector_v6_many_references_look_like_a_pin():
    folio = Folio(7, 0)
    assert not folio.maybe_dma_pinned
    folio.refcount = 1200
    assert folio.maybe_dma_pinned


def test_a_large_folio_counts_pins_one_by_one_and_is_never_mistaken():
    folio = Folio(512, 9, 1)
    folio.pin(512)
    assert (folio.refcount, folio.pincount) == (513, 512)
    assert folio.maybe_dma_pinned
    folio.unpin(512)
    assert (folio.refcount, folio.pincount) == (1, 0)
    folio.refcount = 5000
    assert not folio.maybe_dma_pinned


def test_unpin_takes_off_what_pin_put_on():
    folio = Folio(7, 0, 1)
    folio.pin(5)
    folio.unpin(3)
    assert folio.refcount == 2049
