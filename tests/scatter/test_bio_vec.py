from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVec, BioVecs
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
