import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labkit.kernel.mm.backing.xarray import Entry, XArray


def test_a_folio_is_found_by_each_of_its_pages_and_by_no_other():
    pages = XArray()
    pages.store(8, 100, 2)
    assert [pages.find(index) for index in (7, 8, 11, 12)] == [None, Entry(8, 100, 2), Entry(8, 100, 2), None]
    assert pages.pfns(9, 12).tolist() == [101, 102, 103]
    assert pages.nrpages == 4


def test_frame_0_is_a_frame():
    pages = XArray()
    pages.store(5, 0, 0)
    assert pages.find(5) == Entry(5, 0, 0)


def test_many_folios_of_one_order_are_stored_at_once_across_nodes():
    pages = XArray()
    pages.store_all(np.array([1020, 1022, 1024, 4096]), np.array([10, 20, 30, 40]), 1)
    assert list(pages.entries(0, 1 << 40)) == [(1020, 10, 1), (1022, 20, 1), (1024, 30, 1), (4096, 40, 1)]
    assert list(pages.entries(1023, 1025)) == [(1022, 20, 1), (1024, 30, 1)]


def test_a_terabyte_of_large_folios_is_no_memory_to_speak_of():
    pages = XArray()
    for index in range(0, 1 << 28, 1 << 18):
        pages.store(index, index + 5, 10)
    assert pages.nrpages == 1 << 20
    assert all(node.strides == (0,) for node in pages.nodes.values())
    assert pages.find((1 << 28) - 1) is None
    assert pages.find((1 << 18) + 1023) == Entry(1 << 18, (1 << 18) + 5, 10)


def test_a_file_costs_what_was_touched_of_it():
    pages = XArray()
    pages.store((1 << 51) - 1, 7, 0)
    assert len(pages.nodes) == 1
    assert list(pages.entries(0, 1 << 51)) == [((1 << 51) - 1, 7, 0)]
    pages.erase((1 << 51) - 1, 0)
    assert pages.nodes == {}


def test_a_folio_moves_with_its_order():
    pages = XArray()
    for index, pfn, order in ((0, 64, 3), (8, 32, 0), (1024, 1024, 10)):
        pages.store(index, pfn, order)
    pages.move(64, 128)
    pages.move(1024, 4096)
    pages.move(5, 6)
    assert list(pages.entries(0, 4096)) == [(0, 128, 3), (8, 32, 0), (1024, 4096, 10)]
    assert pages.nrpages == 8 + 1 + 1024


PLACES = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 10), st.booleans()), max_size=40)


@given(PLACES, st.integers(0, 4000), st.integers(0, 4000))
def test_it_is_a_dict_of_pages(places, first, nr):
    pages, model = XArray(), {}
    for place, order, put in places:
        index = place >> order << order
        mine = range(index, index + (1 << order))
        if put and not any(page in model for page in mine):
            pages.store(index, 1 << 20 | index, order)
            model |= dict.fromkeys(mine, (index, 1 << 20 | index, order))
        elif not put and place in model:
            gone = model[place]
            pages.erase(gone[0], gone[2])
            model = {page: entry for page, entry in model.items() if entry != gone}
    assert pages.nrpages == len(model)
    assert list(pages.entries(first, first + nr)) == sorted({model[p] for p in range(first, first + nr) if p in model})
    assert [bool(word) for word in pages.words(first, first + nr)] == [p in model for p in range(first, first + nr)]
    assert all(pages.find(page) == model.get(page) for page in range(first, first + nr, 97))
    assert bool(pages.nodes) == bool(model)
