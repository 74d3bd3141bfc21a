from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.backing.rmap import rmap_walk
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mprotect
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.trace.page_flags import PG_dirty, PG_uptodate


def mapped(space, *, shared=True, offset=0, pages=8, prot="rw-"):
    """Return a file whose pages 4 to 7 are one folio, and a mapping of it."""
    file = AddressSpace(space.mm.frames, "data", 1 << 20, backed=True)
    file.fill = lambda _pos, _runs: None
    file.add_folio(4, 2, PG_uptodate)
    mmap_file(space.mm, file, pages * 4096, prot, shared=shared, offset=offset)
    return file, space.mm.space.vmas[0]


def touch(space, vma, first, last, *, write):
    handle_mm_fault(space.mm, vma, first, last, write=write)


def test_a_folio_is_where_its_pages_and_those_of_a_mapping_meet(make_mm):
    space = make_mm()
    file, vma = mapped(space, offset=6 * 4096)
    other = Mm(space.mm.frames, 1)
    mmap_file(other, file, 5 * 4096)
    found = [(at.vma.pgoff, at.first, at.last) for at in rmap_walk(file.i_mmap.values(), file, file.find(4))]
    assert found == [(6, 0, 2), (0, 4, 5)]
    assert vma.pgoff == 6


def test_a_store_makes_the_folio_dirty_and_cleaning_it_lets_the_next_store_be_noticed(make_mm, told):
    space = make_mm()
    file, vma = mapped(space)
    touch(space, vma, 4, 6, write=True)
    assert file.find(4).flags & PG_dirty
    told(space)
    file.mkclean(4)
    assert [vma.table.word(at) & 0x43 for at in (4, 5)] == [1, 1]
    file.find(4).flags &= ~PG_dirty
    touch(space, vma, 5, 6, write=True)
    assert file.find(4).flags & PG_dirty
    assert [vma.table.word(at) & 0x42 for at in (4, 5)] == [0, 0x42]


def test_a_private_mapping_never_makes_the_file_dirty(make_mm, told):
    space = make_mm()
    file, vma = mapped(space, shared=False)
    touch(space, vma, 4, 6, write=True)
    assert file.find(4).flags & PG_dirty == 0
    told(space)


def test_a_folio_that_is_unmapped_leaves_copies_of_its_pages_alone(make_mm, told):
    space = make_mm()
    file, vma = mapped(space, shared=False)
    touch(space, vma, 3, 8, write=False)
    touch(space, vma, 5, 6, write=True)
    file.unmap(4)
    assert vma.table.gaps(0, 8) == [(0, 3), (4, 5), (6, 8)]
    assert file.find(4).mapcount == 0
    told(space)


def test_rights_that_come_back_make_nothing_writable_that_was_not_stored_to(make_mm):
    space = make_mm()
    file, vma = mapped(space, prot="r--")
    touch(space, vma, 4, 8, write=False)
    do_mprotect(space.mm, vma.start, 8 * 4096, "rw-")
    assert vma.table.word(4) & 2 == 0
    touch(space, vma, 4, 5, write=True)
    assert (vma.table.word(4) & 2, vma.table.word(5) & 2) == (2, 0)
    assert file.find(4).flags & PG_dirty


def test_a_folio_that_is_removed_is_in_no_file_and_one_that_is_mapped_still_lives(make_mm, told):
    space = make_mm()
    file, vma = mapped(space)
    touch(space, vma, 4, 5, write=False)
    folio = file.find(4)
    file.remove(6)
    assert (file.find(4), file.nrpages, folio.mapping, folio.refcount) == (None, 0, None, 1)
    told(space)
