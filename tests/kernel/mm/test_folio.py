import pytest

from labkit.kernel.mm.folio import Folio, Folios
from labkit.scatter.page import Page


@pytest.mark.parametrize(("order", "refs"), [(0, 1), (4, 16), (9, 1)])
def test_a_folio_begins_with_a_reference_for_each_entry_that_maps_it(order, refs):
    assert (Folio(512, order).refcount, Folio(512, order).pincount) == (refs, 0)


def test_worked_vector_v6_three_pins_of_a_small_folio():
    folio = Folio(7, 0)
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
    folio = Folio(512, 9)
    folio.pin(512)
    assert (folio.refcount, folio.pincount) == (513, 512)
    assert folio.maybe_dma_pinned
    folio.unpin(512)
    assert (folio.refcount, folio.pincount) == (1, 0)
    folio.refcount = 5000
    assert not folio.maybe_dma_pinned


def test_unpin_takes_off_what_pin_put_on():
    folio = Folio(7, 0)
    folio.pin(5)
    folio.unpin(3)
    assert folio.refcount == 2049


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


def test_not_all_memory_has_a_folio_and_a_page_without_one_is_an_error():
    assert Folios().phys_to_folio(0xC0000000) is None
    with pytest.raises(KeyError):
        Folios().page_folio(Page(7))


def test_a_tail_page_leads_to_its_head():
    folios = Folios()
    folio = folios.add(16, 4)
    assert folios.page_folio(Page(23)) is folio
