import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.filemap import AddressSpace
from labkit.trace.page_flags import PG_dirty, PG_locked, PG_uptodate
from labkit.trace.snapshot import FolioState


def file_of(space, nbytes=1 << 20, **knobs):
    return AddressSpace(space.mm.frames, "data", nbytes, backed=True, **knobs)


def test_folios_of_any_order_lie_side_by_side(make_mm, told):
    space = make_mm()
    file = file_of(space)
    for index, order in ((0, 3), (8, 0), (9, 0), (512, 9)):
        file.add_folio(index, order, PG_uptodate)
    assert [(folio.index, folio.order) for folio in file.folios(5, 600)] == [(0, 3), (8, 0), (9, 0), (512, 9)]
    assert [folio.refcount for folio in file.folios(0, 600)] == [8, 1, 1, 512]
    assert (file.nrpages, len(file.heads), file.find(10)) == (522, 4, None)
    told(space)


def test_a_place_that_is_taken_is_not_taken_twice(make_mm):
    space = make_mm()
    file, free = file_of(space), space.mm.frames.buddy.nr_free
    file.add_folio(5, 0)
    assert file.add_folio(4, 2) is None
    assert space.mm.frames.buddy.nr_free == free - 1


def test_the_trace_tells_for_which_io_a_folio_came_and_with_which_flags(make_mm):
    space = make_mm(7)
    file_of(space).add_folio(3, 0, PG_locked, 9)
    assert space.raw == [("MmFilemapAddToPageCache", 5, 9, 0, 1, PG_locked, ((0x7000, 4096),), "data")]


def test_a_fault_fills_what_is_missing_between_folios_that_are_there(make_mm, told):
    space = make_mm()
    file = AddressSpace(space.mm.frames, "data", 1 << 20, order=2)
    file.add_folio(5, 0, PG_uptodate)
    assert file.add(0, 12) == 1 + 3 + 1
    assert [(folio.index, folio.order) for folio in file.folios(0, 12)] == [
        (0, 2),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
        (8, 2),
    ]
    assert sum(nbytes for _, nbytes in file.runs(0, 12)) == 12 * 4096
    told(space)


def test_a_folio_that_a_device_is_at_stays_until_that_ends(make_mm, told):
    space = make_mm(4103)
    file, free = file_of(space), space.mm.frames.buddy.nr_free
    folio = file.add_folio(0, 0, PG_locked)
    file.truncate(0)
    assert list(space.mm.folios.states()) == [FolioState(4103, 0, 0, 0, 0, PG_locked)]
    told(space)
    folio.flags = 0
    file.release_orphans()
    assert space.mm.frames.buddy.nr_free == free


def test_a_folio_that_is_in_no_memory_any_more_is_an_error_of_the_file(make_mm):
    space = make_mm(7)
    file = file_of(space)
    space.mm.folios.remove(file.add_folio(0, 0))
    with pytest.raises(SyscallError, match=r"filemap: pfn=0x7 is in data and no folio \(-EIO\)"):
        file.find(0)


def test_what_a_device_wrote_to_is_dirty_though_it_was_so_in_part(make_mm):
    space = make_mm(7)
    folio = file_of(space).add_folio(0, 0, PG_uptodate | PG_dirty)
    seen = []
    folio.private = type("Private", (), {"dirty_folio": lambda _: seen.append("all")})()
    assert space.mm.folios.set_dirty(((0x7000, 1),)) == []
    assert seen == ["all"]
