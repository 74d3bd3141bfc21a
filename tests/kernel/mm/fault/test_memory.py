import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_munmap

VA = 0x7F00_0000_0000


def heads(mm):
    return sorted(mm.folios.by_head)


def test_a_mapping_costs_no_frame_before_it_is_touched(make_mm):
    space = make_mm(7, 33)
    assert do_mmap(space.mm, 8192) == VA
    assert space.raw == [("Mmap", 5, 0, VA, 8192, "rw-", "anon", 0, "anon")]
    assert heads(space.mm) == []


def test_a_fault_brings_the_frames_and_one_record_tells_of_all(make_mm):
    space = make_mm(7, 33)
    do_mmap(space.mm, 8192)
    vma = space.mm.space.vmas[0]
    assert handle_mm_fault(space.mm, vma, 0, 2) == 2
    assert list(vma.table.ptes) == [0x7067, 0x21067]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 0, 1, ((0x7000, 4096), (0x21000, 4096)), 0)]


def test_what_is_present_is_not_brought_again(make_mm):
    space = make_mm(7, 33)
    do_mmap(space.mm, 8192)
    vma = space.mm.space.vmas[0]
    handle_mm_fault(space.mm, vma, 0, 2)
    assert handle_mm_fault(space.mm, vma, 0, 2) == 0
    assert len(space.raw) == 2


def test_around_a_page_that_is_there_two_records_tell_and_all_are_counted(make_mm):
    space = make_mm(9, 7, 33)
    do_mmap(space.mm, 3 * 4096)
    vma = space.mm.space.vmas[0]
    handle_mm_fault(space.mm, vma, 1, 2)
    assert handle_mm_fault(space.mm, vma, 0, 3) == 2
    assert space.raw[1:] == [
        ("MmPageAlloc", 5, 0, VA + 4096, 0, 1, ((0x9000, 4096),), 0),
        ("MmPageAlloc", 5, 0, VA, 0, 1, ((0x7000, 4096),), 0),
        ("MmPageAlloc", 5, 0, VA + 8192, 0, 1, ((0x21000, 4096),), 0),
    ]


def test_a_fault_in_the_middle_of_a_folio_brings_the_whole_folio(make_mm):
    space = make_mm(16, order=4)
    do_mmap(space.mm, 65536, order=4)
    vma = space.mm.space.vmas[0]
    assert handle_mm_fault(space.mm, vma, 5, 6) == 1
    assert list(vma.table.ptes) == [(pfn << 12) | 0x67 for pfn in range(16, 32)]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 4, 16, ((0x10000, 65536),), 0)]


def test_a_huge_folio_is_a_leaf_with_one_reference(make_mm):
    space = make_mm(1024, order=9)
    do_mmap(space.mm, 2 << 20, order=9)
    vma = space.mm.space.vmas[0]
    assert handle_mm_fault(space.mm, vma, 300, 301) == 1
    assert vma.table.word(0) == 0x4000E7
    assert vma.table.word(511) == 0x5FF0E7
    assert space.mm.folios.by_head[1024].refcount == 1
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 9, 1, ((0x400000, 2 << 20),), 0)]


def test_memory_that_runs_out_half_way_leaves_what_came(make_mm, only_frames):
    space = make_mm()
    only_frames(space.mm.frames.buddy, 4103, 4129)
    do_mmap(space.mm, 3 * 4096)
    vma = space.mm.space.vmas[0]
    with pytest.raises(SyscallError, match="ENOMEM"):
        handle_mm_fault(space.mm, vma, 0, 3)
    assert list(vma.table.ptes) == [0x1007067, 0x1021067, 0]
    assert heads(space.mm) == [4103, 4129]
    assert space.raw[1:] == [("MmPageAlloc", 5, 0, VA, 0, 1, ((0x1007000, 4096), (0x1021000, 4096)), 0)]
    do_munmap(space.mm, VA, 4 << 20)
    assert heads(space.mm) == []
    assert space.mm.frames.buddy.nr_free == 2


def test_memory_without_any_right_may_not_be_touched(make_mm):
    space = make_mm(7)
    do_mmap(space.mm, 4096, prot="---")
    with pytest.raises(SyscallError) as caught:
        handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    assert str(caught.value) == "mm: addr=0x7f0000000000 may not be touched (-EFAULT)"


def test_munmap_gives_every_folio_back_in_one_record(make_mm):
    space = make_mm(4103, 4129)
    before = space.mm.frames.buddy.nr_free
    do_mmap(space.mm, 3 * 4096)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    do_munmap(space.mm, VA, 4 << 20)
    assert space.raw[2:] == [
        ("Munmap", 5, 0, VA, 12288, 0),
        ("MmPageFree", 5, 0, 0, ((0x1007000, 4096), (0x1021000, 4096))),
    ]
    assert space.mm.frames.buddy.nr_free == before
    assert space.mm.space.find_vma(VA) is None


def test_munmap_of_what_was_never_touched_frees_nothing(make_mm):
    space = make_mm()
    do_mmap(space.mm, 4096)
    do_munmap(space.mm, VA, 4 << 20)
    assert space.raw[1:] == [("Munmap", 5, 0, VA, 4096, 0)]


def test_a_page_pinned_by_count_outlives_its_mapping_until_the_unpin(make_mm):
    space = make_mm(4103, 4129)
    do_mmap(space.mm, 8192)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    space.mm.folios.pin(((0x1007000, 4096),))
    do_munmap(space.mm, VA, 4 << 20)
    assert heads(space.mm) == [4103]
    assert space.mm.folios.by_head[4103].refcount == 1024
    space.mm.frames.release_orphans()
    assert heads(space.mm) == [4103]
    space.mm.folios.pin(((0x1007000, 4096),), -1)
    space.mm.frames.release_orphans()
    assert heads(space.mm) == []
    assert space.raw[-2:] == [
        ("MmPageFree", 5, 0, 0, ((0x1021000, 4096),)),
        ("MmPageFree", 5, 0, 0, ((0x1007000, 4096),)),
    ]


def test_a_range_in_the_ledger_keeps_its_frames_as_well(make_mm):
    space = make_mm(4103, 4129)
    do_mmap(space.mm, 8192)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    token = space.mm.ledger.pin(1, 0, "range", ((0x1007800, 512),))
    do_munmap(space.mm, VA, 4 << 20)
    assert heads(space.mm) == [4103]
    space.mm.frames.release_orphans()
    assert heads(space.mm) == [4103]
    space.mm.ledger.unpin(token)
    space.mm.frames.release_orphans()
    assert heads(space.mm) == []


def test_a_pinned_huge_folio_stays_whole(make_mm):
    space = make_mm(4608, order=9)
    do_mmap(space.mm, 2 << 20, order=9)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    space.mm.folios.pin(((0x1264000, 4096),))
    do_munmap(space.mm, VA, 4 << 20)
    assert heads(space.mm) == [4608]
    space.mm.folios.pin(((0x1264000, 4096),), -1)
    space.mm.frames.release_orphans()
    assert space.raw[-1] == ("MmPageFree", 5, 0, 9, ((0x1200000, 2 << 20),))


def test_memory_that_goes_back_is_wiped_once(make_mm):
    space, wiped = make_mm(4103, 4129), []
    space.mm.frames.wipe = lambda addr, nbytes: wiped.append((addr, nbytes))
    do_mmap(space.mm, 8192)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    token = space.mm.ledger.pin(1, 0, "range", ((0x1007000, 4096),))
    do_munmap(space.mm, VA, 4 << 20)
    assert wiped == [(0x1021000, 4096)]
    space.mm.ledger.unpin(token)
    space.mm.frames.release_orphans()
    assert wiped == [(0x1021000, 4096), (0x1007000, 4096)]
