import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import (
    MADV_DONTNEED,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    do_madvise,
    do_mmap,
    do_mprotect,
    do_munmap,
    mm_populate,
)

VA = 0x7F00_0000_0000


def mapped(make_mm, pages, order=0, touch=True):
    space = make_mm()
    do_mmap(space.mm, pages << 12, order=order)
    if touch:
        handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, pages)
    space.raw.clear()
    return space


def layout(mm):
    return [(vma.start - VA, vma.end - VA, vma.prot) for vma in mm.space.vmas]


def counts(mm):
    return [(state.refcount, state.mapcount) for state in mm.folios.states()]


def test_the_middle_of_a_mapping_goes_and_its_ends_stay(make_mm, told):
    space = mapped(make_mm, 5)
    free = space.mm.frames.buddy.nr_free
    do_munmap(space.mm, VA + 4096, 8192)
    assert layout(space.mm) == [(0, 4096, "rw-"), (12288, 20480, "rw-")]
    assert space.raw[0] == ("Munmap", 5, 0, VA + 4096, 8192, 0)
    assert space.mm.frames.buddy.nr_free == free + 2
    told(space)


def test_munmap_across_mappings_and_holes(make_mm, told):
    space = make_mm()
    a, b = do_mmap(space.mm, 8192), do_mmap(space.mm, 8192)
    do_munmap(space.mm, a + 4096, b - a)
    assert layout(space.mm) == [(0, 4096, "rw-"), ((2 << 20) + 4096, (2 << 20) + 8192, "rw-")]
    do_munmap(space.mm, a + 4096, 4096)  # nothing is there, and that is no error
    told(space)


@pytest.mark.parametrize(
    ("addr", "nbytes", "text"),
    [
        (VA + 1, 4096, "munmap: addr=0x7f0000000001 is not a multiple of 4096 (-EINVAL)"),
        (VA, 0, "munmap: length=0 is not a positive number of bytes (-EINVAL)"),
        (VA, 1 << 47, "munmap: addr=0x7f0000000000+140737488355328 is no range of user addresses (-EINVAL)"),
    ],
)
def test_munmap_refuses_what_is_no_range(make_mm, addr, nbytes, text):
    space = mapped(make_mm, 2)
    with pytest.raises(BadInput) as caught:
        do_munmap(space.mm, addr, nbytes)
    assert str(caught.value) == text
    assert (layout(space.mm), space.raw) == ([(0, 8192, "rw-")], [])


def test_half_of_a_huge_page_goes_and_its_folio_stays_while_a_page_of_it_is_mapped(make_mm, told):
    space = mapped(make_mm, 512, order=9)
    assert counts(space.mm) == [(1, 1)]
    do_munmap(space.mm, VA, 1 << 20)
    assert counts(space.mm) == [(256, 256)]
    assert [raw[0] for raw in space.raw] == ["SplitHugePmd", "Munmap"]
    told(space)
    do_munmap(space.mm, VA + (1 << 20), 1 << 20)
    assert counts(space.mm) == []
    told(space)


def test_rights_that_are_taken_away_are_taken_from_the_entries(make_mm, told):
    space = mapped(make_mm, 3)
    do_mprotect(space.mm, VA + 4096, 4096, "r--")
    assert layout(space.mm) == [(0, 4096, "rw-"), (4096, 8192, "r--"), (8192, 12288, "rw-")]
    assert [vma.table.word(0) & 2 for vma in space.mm.space.vmas] == [2, 0, 2]
    with pytest.raises(SyscallError) as caught:
        handle_mm_fault(space.mm, space.mm.space.vmas[1], 0, 1)
    assert str(caught.value) == "mm: addr=0x7f0000001000 may not be written (-EFAULT)"
    told(space)


def test_rights_that_come_back_need_no_copy_of_a_page_that_is_ones_own(make_mm, told):
    space = mapped(make_mm, 1)
    before = space.mm.space.vmas[0].table.word(0)
    do_mprotect(space.mm, VA, 4096, "r--")
    do_mprotect(space.mm, VA, 4096, "rw-")
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1) == 0
    assert space.mm.space.vmas[0].table.word(0) == before
    told(space)


def test_mprotect_of_a_hole_is_refused_and_changes_nothing(make_mm):
    space = mapped(make_mm, 2)
    with pytest.raises(SyscallError) as caught:
        do_mprotect(space.mm, VA, 16384, "r--")
    assert str(caught.value) == "mprotect: addr=0x7f0000002000 is not mapped (-ENOMEM)"
    with pytest.raises(BadInput, match="is not three of r, w, x, each or - "):
        do_mprotect(space.mm, VA, 4096, "wr")
    assert (layout(space.mm), space.raw) == ([(0, 8192, "rw-")], [])


def test_what_is_not_needed_is_given_back_and_comes_again_as_zeros(make_mm, told):
    space = mapped(make_mm, 4)
    free = space.mm.frames.buddy.nr_free
    do_madvise(space.mm, VA + 4096, 8192, MADV_DONTNEED)
    assert space.mm.frames.buddy.nr_free == free + 2
    assert space.mm.space.vmas[0].table.gaps(0, 4) == [(1, 3)]
    told(space)
    do_madvise(space.mm, VA, 16384, MADV_POPULATE_WRITE)
    assert space.mm.space.vmas[0].table.gaps(0, 4) == []
    told(space)


def test_populating_for_reading_maps_the_zero_page_which_nobody_counts(make_mm, told):
    space = mapped(make_mm, 3, touch=False)
    do_madvise(space.mm, VA, 12288, MADV_POPULATE_READ)
    zero = space.mm.frames.zero_page()
    assert [space.mm.space.vmas[0].table.word(at) for at in range(3)] == [zero | 0x225] * 3  # P US A SPECIAL
    assert counts(space.mm) == []
    told(space)
    do_madvise(space.mm, VA, 12288, MADV_NORMAL)
    do_munmap(space.mm, VA, 12288)
    told(space)


def test_advice_for_what_is_not_mapped_or_not_known_is_refused(make_mm):
    space = mapped(make_mm, 1)
    with pytest.raises(SyscallError, match="ENOMEM"):
        do_madvise(space.mm, VA, 8192, MADV_DONTNEED)
    with pytest.raises(BadInput) as caught:
        do_madvise(space.mm, VA, 4096, 99)
    assert str(caught.value) == "madvise: advice=99 is not known (-EINVAL)"
    assert space.raw == []


def test_map_populate_brings_everything_and_keeps_quiet_when_it_cannot(make_mm, only_frames, told):
    space = mapped(make_mm, 2, touch=False)
    mm_populate(space.mm, VA, 8192)
    assert counts(space.mm) == [(1, 1), (1, 1)]
    only_frames(space.mm.frames.buddy, 4103)
    addr = do_mmap(space.mm, 8192)
    mm_populate(space.mm, addr, 8192)
    assert space.mm.space.find_vma(addr).table.gaps(0, 2) == [(1, 2)]
    told(space)


def test_a_folio_that_would_stick_out_of_its_mapping_comes_in_small_pages(make_mm, told):
    space = mapped(make_mm, 32, order=4, touch=False)
    do_munmap(space.mm, VA, 4096 * 3)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 20)
    assert [state.order for state in space.mm.folios.states()].count(0) == 13
    assert [state.order for state in space.mm.folios.states()].count(4) == 1
    told(space)


def test_where_no_huge_page_is_left_small_ones_come(make_mm, only_frames, told):
    space = mapped(make_mm, 512, order=9, touch=False)
    only_frames(space.mm.frames.buddy, *range(4097, 8192, 2))  # half of memory is free, and no two frames touch
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 7, 9) == 2
    assert {state.order for state in space.mm.folios.states()} == {0}
    assert space.mm.space.vmas[0].table.gaps(0, 512) == [(0, 7), (9, 512)]
    told(space)


def test_a_mapping_of_impossible_rights_is_refused(make_mm):
    space = make_mm()
    with pytest.raises(BadInput) as caught:
        do_mmap(space.mm, 4096, "rwz")
    assert str(caught.value) == "mmap: prot='rwz' is not three of r, w, x, each or - (-EINVAL)"
    assert space.mm.space.vmas == []


def test_much_memory_comes_at_once_and_goes_at_once(make_mm, told):
    space = make_mm()
    free = space.mm.frames.buddy.nr_free
    do_mmap(space.mm, 8 << 20)
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2048) == 2048
    assert [raw[0] for raw in space.raw] == ["Mmap", "MmPageAlloc"]
    told(space)
    do_munmap(space.mm, VA, 8 << 20)
    assert space.mm.frames.buddy.nr_free == free
    told(space)
