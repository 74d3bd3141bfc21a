import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import (
    MADV_DONTNEED,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    do_madvise,
    do_mprotect,
    do_munmap,
)
from labkit.kernel.mm.gup.gup import pin_user_pages, unpin_user_pages
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine import Machine
from labkit.trace.page_flags import PG_locked
from labkit.trace.snapshot import FolioState

VA = 0x7F00_0000_0000
UPTODATE = 8


def file_of(space, nbytes=8192, **knobs):
    return AddressSpace(space.mm.frames, "data", nbytes, **knobs)


def vma_of(mm):
    return mm.space.vmas[0]


def test_a_fault_brings_the_folio_to_the_file_and_the_entry_to_the_task(make_mm, told):
    space = make_mm(7, 33)
    assert mmap_file(space.mm, file_of(space), 8192) == VA
    assert handle_mm_fault(space.mm, vma_of(space.mm), 0, 2, write=False) == 2
    both = ((0x7000, 4096), (0x21000, 4096))
    assert space.raw == [
        ("Mmap", 5, 0, VA, 8192, "rw-", "data", 0, "file"),
        ("MmFilemapAddToPageCache", 5, 0, 0, 1, UPTODATE, both, "data"),
        ("SetPtes", 5, 0, VA, 0, both, 0),
    ]
    assert list(vma_of(space.mm).table.ptes) == [0x7025, 0x21025]  # present, user, accessed; not writable yet
    assert list(space.mm.folios.states()) == [FolioState(7, 0, 2, 0, 1, UPTODATE), FolioState(33, 0, 2, 0, 1, UPTODATE)]
    told(space)


def test_a_folio_knows_which_page_of_the_file_it_is(make_mm):
    space = make_mm(7, 33)
    mmap_file(space.mm, file_of(space, 1 << 20), 8192, offset=65536)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 2, write=False)
    assert [space.mm.folios.by_head[pfn].index for pfn in (7, 33)] == [16, 17]


def test_a_write_to_a_shared_mapping_is_seen_by_all_who_map_the_file(make_mm, told):
    space = make_mm(7)
    other, file = Mm(space.mm.frames, 1), file_of(space)
    mmap_file(space.mm, file, 4096)
    mmap_file(other, file, 4096)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1, write=True)
    assert handle_mm_fault(other, vma_of(other), 0, 1, write=False) == 0
    assert (vma_of(space.mm).table.word(0), vma_of(other).table.word(0)) == (0x7067, 0x7025)
    assert space.mm.folios.by_head[7].refcount == 3
    told(space, other)


def test_a_write_to_a_private_mapping_copies_the_page(make_mm, told):
    space = make_mm(7, 33)
    mmap_file(space.mm, file_of(space), 4096, shared=False)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1, write=True)
    assert vma_of(space.mm).table.word(0) == 0x21067
    assert [(s.pfn, s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(7, 1, 0), (33, 1, 1)]
    told(space)


def test_pages_stay_in_the_file_after_munmap_and_go_with_the_file(make_mm, told):
    space = make_mm(4103)
    file, free = file_of(space), space.mm.frames.buddy.nr_free
    mmap_file(space.mm, file, 4096)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1)
    do_munmap(space.mm, VA, 4096)
    assert list(space.mm.folios.states()) == [FolioState(4103, 0, 1, 0, 0, UPTODATE)]
    file.truncate(0)
    assert space.raw[-2:] == [
        ("MmFilemapDeleteFromPageCache", 5, 0, 1, ((0x1007000, 4096),)),
        ("MmPageFree", 5, 0, 0, ((0x1007000, 4096),)),
    ]
    assert space.mm.frames.buddy.nr_free == free
    told(space)


def test_a_fault_beyond_the_end_of_the_file_is_EFAULT_and_what_lies_before_is_mapped(make_mm, told):
    space = make_mm(7, 33)
    mmap_file(space.mm, file_of(space, 5000), 16384)
    with pytest.raises(
        SyscallError, match=r"mm: addr=0x7f0000002000 lies beyond the end of data \(SIGBUS\) \(-EFAULT\)"
    ):
        handle_mm_fault(space.mm, vma_of(space.mm), 0, 4)
    assert vma_of(space.mm).table.gaps(0, 4) == [(2, 4)]
    told(space)


def test_truncate_unmaps_what_it_cuts_off(make_mm, told):
    space = make_mm(4103, 4129)
    file = file_of(space)
    mmap_file(space.mm, file, 8192)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 2)
    file.truncate(4096)
    assert vma_of(space.mm).table.gaps(0, 2) == [(1, 2)]
    assert [s.pfn for s in space.mm.folios.states()] == [4103]
    with pytest.raises(SyscallError, match="beyond the end of data"):
        handle_mm_fault(space.mm, vma_of(space.mm), 1, 2)
    told(space)


def test_truncate_does_not_wait_for_a_pin_and_the_page_lives_on_as_an_orphan(make_mm):
    space = make_mm(4103)
    file, free = file_of(space), space.mm.frames.buddy.nr_free
    mmap_file(space.mm, file, 4096)
    pages = pin_user_pages(space.mm, VA, 1, write=True)
    file.truncate(0)
    assert [(s.pfn, s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(4103, 1024, 0)]
    assert file.heads.tolist() == []
    unpin_user_pages(space.mm, pages.runs)
    space.mm.frames.release_orphans()
    assert space.mm.frames.buddy.nr_free == free


def test_a_file_that_grows_again_has_zeros_where_it_was_cut():
    machine = Machine(ram="64 MiB")
    task = machine.task()
    file = AddressSpace(machine.frames, "data", 4096)
    buf = mmap_file(task.mm, file, 4096)
    task.store(buf, b"a" * 4096)
    file.truncate(100)
    file.truncate(4096)
    assert task.load(buf, 4096) == b"a" * 100 + bytes(3996)


def test_large_folios_are_mapped_by_leaves_where_addresses_allow(make_mm, told):
    space = make_mm(4096, order=10)
    file = file_of(space, 4 << 20, order=10)
    mmap_file(space.mm, file, 4 << 20)
    handle_mm_fault(space.mm, vma_of(space.mm), 700, 701)
    assert vma_of(space.mm).table.present(0, 1024) == [(512, 1024, 9)]
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1)
    assert list(space.mm.folios.states()) == [FolioState(4096, 10, 1026, 0, 2, UPTODATE)]
    told(space)


def test_large_folios_are_mapped_by_ptes_from_an_offset_that_is_no_leaf(make_mm, told):
    space = make_mm(4096, order=10)
    mmap_file(space.mm, file_of(space, 4 << 20, order=10), 8192, offset=4096)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 2)
    assert list(vma_of(space.mm).table.ptes[:2]) == [0x1001067, 0x1002067]
    assert list(space.mm.folios.states()) == [FolioState(4096, 10, 1026, 0, 2, UPTODATE)]
    told(space)


def test_many_folios_are_one_group_and_the_counts_are_right(make_mm, told):
    space = make_mm()
    file = file_of(space, 1 << 20)
    mmap_file(space.mm, file, 1 << 20)
    assert handle_mm_fault(space.mm, vma_of(space.mm), 0, 256) == 256
    assert {(s.refcount, s.mapcount) for s in space.mm.folios.states()} == {(2, 1)}
    file.truncate(512 << 10)
    assert len(list(space.mm.folios.states())) == 128
    told(space)


def test_a_folio_that_moved_is_found_where_it_is_now(make_mm):
    space = make_mm(7)
    file = file_of(space)
    file.add(0, 1)
    file.replace(7, 33)
    assert file.runs(0, 1) == ((33 << 12, 4096),)


def test_a_file_that_is_not_open_for_writing_is_not_mapped_for_it(make_mm):
    space = make_mm()
    file = file_of(space, writable=False)
    with pytest.raises(SyscallError, match=r"mmap: data is not open for writing: neither is .* \(-EACCES\)"):
        mmap_file(space.mm, file, 4096)
    assert space.raw == []
    mmap_file(space.mm, file, 4096, "r--")
    with pytest.raises(SyscallError, match=r"mm: addr=0x7f0000000000 may not be written \(-EFAULT\)"):
        handle_mm_fault(space.mm, vma_of(space.mm), 0, 1, write=True)


@pytest.mark.parametrize(
    ("nbytes", "order", "code"),
    [(0, 0, errno.EINVAL), (-1, 0, errno.EINVAL), (4096, 11, errno.EINVAL), (1 << 63, 0, errno.EFBIG)],
)
def test_a_file_of_an_impossible_size_is_refused(make_mm, nbytes, order, code):
    with pytest.raises(BadInput) as caught:
        file_of(make_mm(), nbytes, order=order)
    assert caught.value.errno == code


def test_nonsense_is_refused_in_a_sentence(make_mm):
    space = make_mm()
    with pytest.raises(BadInput, match=r"mmap: offset=100 is not a multiple of 4096 \(-EINVAL\)"):
        mmap_file(space.mm, file_of(space), 4096, offset=100)
    with pytest.raises(BadInput, match=r"ftruncate: length=-1 is negative \(-EINVAL\)"):
        file_of(space).truncate(-1)


def test_a_write_to_a_shared_leaf_that_was_read_before_makes_the_whole_leaf_writable():
    machine = Machine(ram="64 MiB", fragmentation=0)
    task = machine.task()
    buf = task.mmap("4 MiB", "file-4MiB")
    do_madvise(task.mm, buf, 4 << 20, MADV_POPULATE_READ)
    task.store(buf + 8192, b"x")
    table = task.mm.space.vmas[0].table
    assert [(first, last, order, bool(table.word(first) & 2)) for first, last, order in table.present(0, 1024)] == [
        (0, 512, 9, True),
        (512, 1024, 9, False),
    ]
    assert [(s.refcount, s.mapcount) for s in machine.snapshot().folios] == [(1026, 2)]
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    task.munmap(buf)
    assert machine.snapshot().folios == ()
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_half_of_a_shared_leaf_becomes_ptes_before_its_rights_change_or_it_is_emptied(make_mm, told):
    space = make_mm(4096, order=10)
    mmap_file(space.mm, file_of(space, 4 << 20, order=10), 4 << 20)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1024)
    do_mprotect(space.mm, VA, 1 << 20, "r--")
    told(space)
    do_mprotect(space.mm, VA, 1 << 20, "rw-")
    do_madvise(space.mm, VA + (3 << 20), 1 << 20, MADV_DONTNEED)
    told(space)
    assert [(s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(1024 + 768, 768)]


def test_a_file_that_is_open_for_reading_alone_is_never_written_by_a_shared_mapping(make_mm, told):
    space = make_mm(7)
    file = file_of(space, writable=False)
    shared = mmap_file(space.mm, file, 4096, "r--")
    private = mmap_file(space.mm, file, 4096, "r--", shared=False)
    with pytest.raises(SyscallError, match=r"mprotect: data may never be written by this mapping \(-EACCES\)"):
        do_mprotect(space.mm, shared, 4096, "rw-")
    do_mprotect(space.mm, private, 4096, "rw-")
    assert [vma.prot for vma in space.mm.space.vmas] == ["r--", "rw-"]
    told(space)


@pytest.mark.parametrize(("kind", "prot", "advice"), [
    ("secretmem", "rw-", MADV_POPULATE_READ), ("data", "r--", MADV_POPULATE_WRITE), ("data", "-w-", MADV_POPULATE_READ),
])  # fmt: skip
def test_memory_that_gup_refuses_is_not_populated_and_that_is_EINVAL(make_mm, told, kind, prot, advice):
    space = make_mm(7)
    addr = mmap_file(space.mm, file_of(space, kind=kind), 4096, prot)
    with pytest.raises(SyscallError, match=r"madvise: data is not memory that can be made ready .* \(-EINVAL\)"):
        do_madvise(space.mm, addr, 4096, advice)
    assert vma_of(space.mm).table.gaps(0, 1) == [(0, 1)]
    told(space)


def test_a_length_that_no_file_can_have_is_EFBIG(make_mm):
    file = file_of(make_mm())
    for nbytes in (1 << 64, 1 << 63):
        with pytest.raises(BadInput, match=r"ftruncate: length=\d+ is more than a file can have \(-EFBIG\)"):
            file.truncate(nbytes)
    assert file.nbytes == 8192


def test_a_fault_on_a_file_of_a_device_waits_for_nothing_and_is_EAGAIN_until_the_page_is_there(make_mm):
    space = make_mm(7)
    file = file_of(space, backed=True)
    mmap_file(space.mm, file, 8192)
    with pytest.raises(SyscallError, match=r"filemap: pages 0 to 0 of data must come from the device, .* \(-EAGAIN\)"):
        handle_mm_fault(space.mm, vma_of(space.mm), 0, 1)
    folio = file.add_folio(0, 0, PG_locked)
    with pytest.raises(SyscallError, match=r"\(-EAGAIN\)"):
        handle_mm_fault(space.mm, vma_of(space.mm), 0, 1, write=False)
    folio.flags = UPTODATE
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 1, write=False)
    assert vma_of(space.mm).table.word(0) == 0x7025


def test_a_fault_fills_the_page_with_what_the_device_has_if_somebody_brings_it_at_once(make_mm, told):
    space = make_mm(7, 33)
    file, asked = file_of(space, 1 << 20, backed=True), []
    file.fill = lambda pos, runs: asked.append((pos, runs))
    mmap_file(space.mm, file, 8192, offset=65536)
    handle_mm_fault(space.mm, vma_of(space.mm), 0, 2, write=False)
    assert asked == [(65536, ((0x7000, 4096),)), (69632, ((0x21000, 4096),))]
    told(space)


def test_an_empty_file_of_a_device_may_be_and_one_of_memory_may_not(make_mm):
    space = make_mm()
    assert file_of(space, 0, backed=True).pages == 0
    with pytest.raises(BadInput, match="is no file: at least 1 byte"):
        file_of(space, 0)
