import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.gup import pin_user_pages, unpin_user_pages

VA = 0x7F00_0000_0000


def heads(mm):
    return sorted(mm.folios.by_head)


def test_a_mapping_costs_no_frame_before_it_is_touched(make_mm):
    space = make_mm(7, 33)
    assert space.mm.mmap(8192) == VA
    assert space.raw == [("Mmap", 5, 0, VA, 8192, "rw-", "anon")]
    assert heads(space.mm) == []


def test_a_fault_brings_the_frames_and_one_record_tells_of_all(make_mm):
    space = make_mm(7, 33)
    space.mm.mmap(8192)
    vma = space.mm.space.vmas[0]
    assert space.mm.handle_mm_fault(vma, 0, 2) == 2
    assert list(vma.table.ptes) == [0x7007, 0x21007]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 0, 1, ((0x7000, 4096), (0x21000, 4096)))]


def test_what_is_present_is_not_brought_again(make_mm):
    space = make_mm(7, 33)
    space.mm.mmap(8192)
    vma = space.mm.space.vmas[0]
    space.mm.handle_mm_fault(vma, 0, 2)
    assert space.mm.handle_mm_fault(vma, 0, 2) == 0
    assert len(space.raw) == 2


def test_around_a_page_that_is_there_two_records_tell_and_all_are_counted(make_mm):
    space = make_mm(9, 7, 33)
    space.mm.mmap(3 * 4096)
    vma = space.mm.space.vmas[0]
    space.mm.handle_mm_fault(vma, 1, 2)
    assert space.mm.handle_mm_fault(vma, 0, 3) == 2
    assert space.raw[1:] == [
        ("MmPageAlloc", 5, 0, VA + 4096, 0, 1, ((0x9000, 4096),)),
        ("MmPageAlloc", 5, 0, VA, 0, 1, ((0x7000, 4096),)),
        ("MmPageAlloc", 5, 0, VA + 8192, 0, 1, ((0x21000, 4096),)),
    ]


def test_a_fault_in_the_middle_of_a_folio_brings_the_whole_folio(make_mm):
    space = make_mm(16, order=4)
    space.mm.mmap(65536, order=4)
    vma = space.mm.space.vmas[0]
    assert space.mm.handle_mm_fault(vma, 5, 6) == 1
    assert list(vma.table.ptes) == [(pfn << 12) | 7 for pfn in range(16, 32)]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 4, 16, ((0x10000, 65536),))]


def test_a_huge_folio_is_a_leaf_with_one_reference(make_mm):
    space = make_mm(1024, order=9)
    space.mm.mmap(2 << 20, order=9)
    vma = space.mm.space.vmas[0]
    assert space.mm.handle_mm_fault(vma, 300, 301) == 1
    assert vma.table.ptes[0] == 0x400087
    assert vma.table.ptes[511] == 0x5FF087
    assert space.mm.folios.by_head[1024].refcount == 1
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 9, 1, ((0x400000, 2 << 20),))]


def test_memory_that_runs_out_half_way_leaves_what_came(make_mm, only_frames):
    space = make_mm()
    only_frames(space.mm.buddy, 4103, 4129)
    space.mm.mmap(3 * 4096)
    vma = space.mm.space.vmas[0]
    with pytest.raises(SyscallError, match="ENOMEM"):
        space.mm.handle_mm_fault(vma, 0, 3)
    assert list(vma.table.ptes) == [0x1007007, 0x1021007, 0]
    assert heads(space.mm) == [4103, 4129]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 0, 1, ((0x1007000, 4096), (0x1021000, 4096)))]
    space.mm.munmap(VA)
    assert heads(space.mm) == []
    assert sorted(space.mm.buddy.zones[0].free_area[0]) == [4103, 4129]


def test_memory_without_any_right_may_not_be_touched(make_mm):
    space = make_mm(7)
    space.mm.mmap(4096, prot="---")
    with pytest.raises(SyscallError) as caught:
        space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 1)
    assert str(caught.value) == "mm: addr=0x7f0000000000 may not be touched (-EFAULT)"


def test_munmap_gives_every_folio_back_in_one_record(make_mm):
    space = make_mm(4103, 4129)
    before = space.mm.buddy.nr_free
    space.mm.mmap(3 * 4096)
    space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 2)
    space.mm.munmap(VA)
    assert space.raw[2:] == [
        ("Munmap", 5, 0, VA, 12288),
        ("MmPageFree", 5, 0, 0, ((0x1007000, 4096), (0x1021000, 4096))),
    ]
    assert space.mm.buddy.nr_free == before
    assert space.mm.space.find_vma(VA) is None


def test_munmap_of_what_was_never_touched_frees_nothing(make_mm):
    space = make_mm()
    space.mm.mmap(4096)
    space.mm.munmap(VA)
    assert space.raw[1:] == [("Munmap", 5, 0, VA, 4096)]


def test_a_page_pinned_by_count_outlives_its_mapping_until_the_unpin(make_mm):
    space = make_mm(4103, 4129)
    space.mm.mmap(8192)
    space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 2)
    pages = pin_user_pages(space.mm, VA, 1, write=True).pages
    space.mm.munmap(VA)
    assert heads(space.mm) == [4103]
    assert space.mm.folios.by_head[4103].refcount == 1024
    space.mm.release_orphans()
    assert heads(space.mm) == [4103]
    unpin_user_pages(space.mm, pages)
    space.mm.release_orphans()
    assert heads(space.mm) == []
    assert space.raw[-2:] == [
        ("MmPageFree", 5, 0, 0, ((0x1021000, 4096),)),
        ("MmPageFree", 5, 0, 0, ((0x1007000, 4096),)),
    ]


def test_a_range_in_the_ledger_keeps_its_frames_as_well(make_mm):
    space = make_mm(4103, 4129)
    space.mm.mmap(8192)
    space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 2)
    token = space.mm.ledger.pin(1, 0, "range", ((0x1007800, 512),))
    space.mm.munmap(VA)
    assert heads(space.mm) == [4103]
    space.mm.release_orphans()
    assert heads(space.mm) == [4103]
    space.mm.ledger.unpin(token)
    space.mm.release_orphans()
    assert heads(space.mm) == []


def test_a_pinned_huge_folio_stays_whole(make_mm):
    space = make_mm(4608, order=9)
    space.mm.mmap(2 << 20, order=9)
    pages = pin_user_pages(space.mm, VA + (100 << 12), 1, write=True).pages
    space.mm.munmap(VA)
    assert heads(space.mm) == [4608]
    unpin_user_pages(space.mm, pages)
    space.mm.release_orphans()
    assert space.raw[-1] == ("MmPageFree", 5, 0, 9, ((0x1200000, 2 << 20),))


def test_memory_that_goes_back_is_wiped_once(make_mm):
    space, wiped = make_mm(4103, 4129), []
    space.mm._wipe = lambda addr, nbytes: wiped.append((addr, nbytes))
    space.mm.mmap(8192)
    space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 2)
    token = space.mm.ledger.pin(1, 0, "range", ((0x1007000, 4096),))
    space.mm.munmap(VA)
    assert wiped == [(0x1021000, 4096)]
    space.mm.ledger.unpin(token)
    space.mm.release_orphans()
    assert wiped == [(0x1021000, 4096), (0x1007000, 4096)]
