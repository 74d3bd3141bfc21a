import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.mm.gup import get_user_phyrs, pin_user_pages, unpin_user_pages
from labkit.scatter.page import Page

VA = 0x7F00_0000_0000


def mapped(make_mm, *pfns, prot="rw-", order=0):
    """Map as many pages as there are frames, and touch them all."""
    space = make_mm(*pfns, order=order)
    space.mm.mmap(len(pfns) * 4096 << order, prot, order=order)
    vma = space.mm.space.vmas[0]
    space.mm.handle_mm_fault(vma, 0, len(pfns) << order)
    return space.mm


def ranges(mm, addr, nbytes, *, write=True):
    return get_user_phyrs(mm, addr, nbytes, write=write).phyrs.vecs


def touching(mm):
    """Make two mappings of one page each, without a gap."""
    mm.mmap(4096)
    mm.space._next = VA + 4096
    assert mm.mmap(4096) == VA + 4096


def refusal(call, *args, write=True):
    with pytest.raises(SyscallError) as caught:
        call(*args, write=write)
    return str(caught.value)


def test_worked_vector_v1(make_mm):
    mm = mapped(make_mm, 100, 101, 300)
    found = get_user_phyrs(mm, VA + 512, 8704, write=True)
    assert found.phyrs.vecs == ((0x64200, 7680), (0x12C000, 1024))
    assert found.ptes == 3


def test_worked_vector_v2(make_mm):
    assert ranges(mapped(make_mm, 100, 101, 300), VA + 512, 4608) == ((0x64200, 4608),)


def test_worked_vector_v3_a_mebibyte_of_a_huge_page_is_one_phyr(make_mm):
    mm = mapped(make_mm, 1024, order=9)
    found = get_user_phyrs(mm, VA, 1 << 20, write=True)
    assert found.phyrs.vecs == ((0x400000, 1 << 20),)


def test_one_page_takes_the_short_way_to_the_same_answer(make_mm):
    mm = mapped(make_mm, 100, 101)
    found = get_user_phyrs(mm, VA + 4096 + 512, 1024, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x65200, 1024),), 1)


def test_two_pieces_of_two_pages_are_counted_as_two_entries(make_mm):
    found = get_user_phyrs(mapped(make_mm, 100, 300), VA + 4095, 2, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x64FFF, 1), (0x12C000, 1)), 2)


def test_a_page_that_is_not_there_is_faulted_in(make_mm):
    space = make_mm(7, 33)
    space.mm.mmap(8192)
    assert ranges(space.mm, VA + 4096, 512) == ((0x7000, 512),)
    assert ranges(space.mm, VA, 8192) == ((0x21000, 4096), (0x7000, 4096))


def test_a_range_may_cross_mappings_that_touch(make_mm):
    space = make_mm(7, 8)
    touching(space.mm)
    assert ranges(space.mm, VA, 8192) == ((0x7000, 8192),)
    assert pin_user_pages(space.mm, VA, 2, write=True).pages == [Page(7), Page(8)]


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
def test_no_mapping_is_efault_at_once(make_mm, call):
    assert refusal(call, make_mm().mm, VA, 2) == "gup: addr=0x7f0000000000 is not mapped (MM-4) (-EFAULT)"


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
@pytest.mark.parametrize(
    ("prot", "write", "what"),
    [("r--", True, "write to"), ("---", True, "write to"), ("---", False, "read from"), ("-w-", False, "read from")],
)
def test_a_missing_right_is_efault_before_any_fault(make_mm, call, prot, write, what):
    space = make_mm(7)
    space.mm.mmap(4096, prot)
    sentence = refusal(call, space.mm, VA, 1, write=write)
    assert sentence == f"gup: addr=0x7f0000000000 lies in {prot} memory: no right to {what} it (-EFAULT)"
    assert space.mm.folios.by_head == {}


def test_read_only_memory_can_be_written_to_a_file(make_mm):
    space = make_mm(7)
    space.mm.mmap(4096, "r--")
    assert ranges(space.mm, VA, 4096, write=False) == ((0x7000, 4096),)


@pytest.mark.parametrize("write", [True, False])
def test_present_read_only_memory_is_checked_on_the_short_way_too(make_mm, write):
    mm = mapped(make_mm, 7, prot="r--")
    if write:
        assert "no right to write to it" in refusal(get_user_phyrs, mm, VA, 512)
    else:
        assert ranges(mm, VA, 512, write=False) == ((0x7000, 512),)


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
def test_user_space_ends_before_its_last_page(make_mm, call):
    sentence = refusal(call, make_mm().mm, 0x7FFF_FFFF_E000, 8192 if call is get_user_phyrs else 2)
    assert sentence == "gup: addr=0x7fffffffe000+8192 ends beyond user space (MM-6) (-EFAULT)"
    assert "is not mapped" in refusal(call, make_mm().mm, 0x7FFF_FFFF_E000, 4096 if call is get_user_phyrs else 1)


@pytest.mark.parametrize("addr", [-4096, 0, 1 << 63])
def test_addresses_from_nowhere_are_efault(make_mm, addr):
    assert "(-EFAULT)" in refusal(get_user_phyrs, make_mm().mm, addr, 4096)


def test_no_frame_left_is_enomem_and_nothing_is_pinned(make_mm, only_frames):
    space = make_mm()
    only_frames(space.mm.buddy, 7)
    space.mm.mmap(8192)
    assert "(-ENOMEM)" in refusal(get_user_phyrs, space.mm, VA, 8192)
    assert space.mm.folios.by_head[7].refcount == 1


def test_the_first_page_that_fails_decides(make_mm):
    space = make_mm(7, 33)
    space.mm.mmap(8192)
    assert "addr=0x7f0000002000 is not mapped" in refusal(get_user_phyrs, space.mm, VA, 5 * 4096)


def test_pages_are_pinned_one_by_one_by_1024(make_mm):
    mm = mapped(make_mm, 100, 101, 300)
    found = pin_user_pages(mm, VA + 512, 3, write=True)
    assert found == ([Page(100), Page(101), Page(300)], 3, 3)
    assert [mm.folios.by_head[pfn].refcount for pfn in (100, 101, 300)] == [1025, 1025, 1025]
    assert unpin_user_pages(mm, found.pages) == 3
    assert [mm.folios.by_head[pfn].refcount for pfn in (100, 101, 300)] == [1, 1, 1]


def test_under_a_leaf_one_atomic_pins_them_all(make_mm):
    mm = mapped(make_mm, 1024, order=9)
    found = pin_user_pages(mm, VA, 256, write=True)
    assert (len(found.pages), found.ptes, found.atomics) == (256, 256, 1)
    folio = mm.folios.by_head[1024]
    assert (folio.refcount, folio.pincount) == (257, 256)
    assert unpin_user_pages(mm, found.pages) == 1
    assert (folio.refcount, folio.pincount) == (1, 0)


def test_two_leaves_take_two_atomics(make_mm):
    mm = mapped(make_mm, 1024, 1536, order=9)
    assert pin_user_pages(mm, VA + (511 << 12), 2, write=True).atomics == 2


def test_a_large_folio_behind_ptes_takes_an_atomic_a_page_to_pin_and_one_to_let_go(make_mm):
    mm = mapped(make_mm, 16, order=4)
    found = pin_user_pages(mm, VA, 16, write=True)
    assert found.atomics == 16
    assert (mm.folios.by_head[16].refcount, mm.folios.by_head[16].pincount) == (32, 16)
    assert unpin_user_pages(mm, found.pages) == 1
    assert (mm.folios.by_head[16].refcount, mm.folios.by_head[16].pincount) == (16, 0)


def test_an_error_after_the_first_page_ends_the_list_early(make_mm):
    mm = mapped(make_mm, 100, 101)
    found = pin_user_pages(mm, VA, 5, write=True)
    assert found.pages == [Page(100), Page(101)]
    assert mm.folios.by_head[101].refcount == 1025


def test_memory_that_runs_out_ends_the_list_early_too(make_mm, only_frames):
    space = make_mm()
    only_frames(space.mm.buddy, 7, 33)
    space.mm.mmap(4 * 4096)
    assert pin_user_pages(space.mm, VA, 4, write=True).pages == [Page(7), Page(33)]
    assert "(-ENOMEM)" in refusal(pin_user_pages, space.mm, VA + 8192, 2)


def test_whatever_else_goes_wrong_lets_go_of_what_was_pinned(make_mm, monkeypatch):
    space = make_mm(7, 33)
    touching(space.mm)
    space.mm.handle_mm_fault(space.mm.space.vmas[0], 0, 1)

    def broken(*_args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(space.mm, "handle_mm_fault", broken)
    with pytest.raises(RuntimeError):
        pin_user_pages(space.mm, VA, 2, write=True)
    assert space.mm.folios.by_head[7].refcount == 1


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60, unique=True), st.data())
def test_phyrs_and_pages_name_the_same_bytes_in_the_fewest_ranges(make_mm, pfns, data):
    mm = mapped(make_mm, *pfns)
    start = data.draw(st.integers(0, len(pfns) * 4096 - 1))
    nbytes = data.draw(st.integers(1, len(pfns) * 4096 - start))
    found = get_user_phyrs(mm, VA + start, nbytes, write=True)
    first, last = start >> 12, (start + nbytes - 1) >> 12
    pages = pin_user_pages(mm, VA + start, last - first + 1, write=True)
    assert [page.pfn for page in pages.pages] == pfns[first : last + 1]
    assert found.ptes == pages.ptes == last - first + 1
    touched = [addr >> 12 for addr, length in found.phyrs.vecs for addr in range(addr & ~4095, addr + length, 4096)]
    assert touched == pfns[first : last + 1]
    assert found.phyrs.nbytes == nbytes
    assert found.phyrs[0].addr == (pfns[first] << 12) + start % 4096
    assert all(a.addr + a.len != b.addr for a, b in zip(found.phyrs, found.phyrs[1:], strict=False))
    unpin_user_pages(mm, pages.pages)
    assert all(folio.refcount == 1 for folio in mm.folios.by_head.values())
