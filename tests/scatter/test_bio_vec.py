import numpy as np

from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVec, BioVecs
from labkit.scatter.memory_class import RAM
from labkit.scatter.page import Page, page_to_phys


def test_a_page_stands_for_one_frame():
    assert page_to_phys(Page(33)) == 0x21000


def test_an_address_becomes_a_page_and_an_offset():
    assert BioVecs.of([(0x21200, 512)]) == (BioVec(Page(33), 512, 0x200),)
    assert BIO_VEC_BYTES == 16


def test_one_vector_may_run_over_many_frames():
    assert BioVecs.of([(0x21200, 7680)]) == (BioVec(Page(33), 7680, 0x200),)


def test_a_table_gives_its_addresses_back_for_a_look_at_each_page():
    table = BioVecs.of([(0x64200, 7680), (0x12C000, 1024)])
    assert table.vecs == ((0x64200, 7680), (0x12C000, 1024))
    assert (table.nbytes, table.struct_pages) == (8704, 2)


def test_a_slice_begins_inside_a_vector_as_a_clone_does():
    table = BioVecs.of([(0x7000, 4096), (0x21000, 4096)])
    assert table.slice(3584, 1024) == (BioVec(Page(7), 512, 3584), BioVec(Page(33), 512, 0))
    assert isinstance(table.slice(3584, 1024), BioVecs)
    assert table.slice(0, 8192) is table
    assert BioVecs.of([(0x7000, 8192)]).slice(4096, 512) == (BioVec(Page(8), 512, 0),)


def test_what_has_a_struct_page_is_ram():
    table = BioVecs.of([(0x7000, 4096), (0x21000, 512)])
    assert (table.cls, table.classes) == (RAM, ((RAM, 4608),))


def test_the_addresses_of_a_full_bio_stand_in_columns():
    ranges = tuple((pfn << 13, 4096) for pfn in range(256))
    assert BioVecs.of(ranges).vecs == ranges
    assert BioVecs.of(ranges).vecs.rows.nbytes == 4096


def test_a_part_of_a_long_table_is_a_view_of_its_columns():
    table = BioVecs.of([(pfn << 13, 4096) for pfn in range(256)])
    part = table.slice(4096, 200 * 4096)
    assert np.shares_memory(part.vecs.rows, table.vecs.rows)
    assert part == table[1:201] == tuple(table)[1:201]
    assert (part[0], len(part), part.nbytes) == (BioVec(Page(2), 4096, 0), 200, 200 * 4096)
    assert hash(part) == hash(tuple(part))
