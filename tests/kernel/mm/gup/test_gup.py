import errno
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.fork import dup_mmap
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_munmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup import follow
from labkit.kernel.mm.gup.gup import pin_user_pages, unpin_user_pages
from labkit.kernel.mm.gup.longterm import leave_movable
from labkit.kernel.mm.gup.phyrs import get_user_phyrs
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_IO, VM_MIXEDMAP, VM_SHARED, VMA
from labkit.scatter.page import Page

VA = 0x7F00_0000_0000
WRITE, FORCE, NOWAIT, NOFAULT, ANON, LONGTERM, SPLIT_PMD, P2PDMA = 0x1, 0x8, 0x10, 0x20, 0x80, 0x100, 0x200, 0x400
PIN = 0x80000


def mapped(make_mm, *pfns, prot="rw-", order=0):
    """Map as many pages as there are frames, and touch them all."""
    space = make_mm(*pfns, order=order)
    do_mmap(space.mm, len(pfns) * 4096 << order, prot, order=order)
    vma = space.mm.space.vmas[0]
    handle_mm_fault(space.mm, vma, 0, len(pfns) << order, write="w" in prot)
    return space.mm


def ranges(mm, addr, nbytes, *, write=True):
    return get_user_phyrs(mm, addr, nbytes, write=write).phyrs.vecs


def tail(pages):
    return pages.fast, pages.slow, pages.faults


def device_memory(make_mm, kind, vm, *, special=False):
    """Map frames 7 and 9, which have struct pages, as memory of `kind`."""
    space = make_mm(33, 35)
    groups = [space.mm.folios.add(pfn, 0, 1, 0) for pfn in (7, 9)]
    for group in groups:
        group.refcount = 2

    def fault(_mm, vma, first, last, *, write):
        assert write
        for at in range(first, last):
            bits = vma.pte_flags | (PAGE_SPECIAL if special else 0)
            vma.table.set_range(at, (7 + 2 * at) << 12, 1, bits)
        return 0

    do_mmap(space.mm, 8192, name=kind, ops=SimpleNamespace(kind=kind, flags=vm, fault=fault))
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    return space.mm


def touching(mm):
    """Make two mappings of one page each, without a gap."""
    do_mmap(mm, 4096)
    assert do_mmap(mm, 4096, addr=VA + 4096) == VA + 4096


def refusal(call, *args, write=True):
    with pytest.raises(SyscallError) as caught:
        call(*args, write=write)
    return str(caught.value)


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
    do_mmap(space.mm, 4096, prot)
    sentence = refusal(call, space.mm, VA, 1, write=write)
    assert sentence == f"gup: addr=0x7f0000000000 lies in {prot} memory: no right to {what} it (-EFAULT)"
    assert space.mm.folios.by_head == {}


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
def test_user_space_ends_before_its_last_page(make_mm, call):
    sentence = refusal(call, make_mm().mm, 0x7FFF_FFFF_E000, 8192 if call is get_user_phyrs else 2)
    assert sentence == "gup: addr=0x7fffffffe000+8192 ends beyond user space (MM-6) (-EFAULT)"
    assert "is not mapped" in refusal(call, make_mm().mm, 0x7FFF_FFFF_E000, 4096 if call is get_user_phyrs else 1)


def test_pages_are_pinned_one_by_one_by_1024(make_mm):
    mm = mapped(make_mm, 100, 101, 300)
    found = pin_user_pages(mm, VA + 512, 3, write=True)
    assert (found.runs, found.nr, found.ptes, found.atomics) == (((0x64000, 8192), (0x12C000, 4096)), 3, 3, 3)
    assert found.pages == [Page(100), Page(101), Page(300)]
    assert [mm.folios.by_head[pfn].refcount for pfn in (100, 101, 300)] == [1025, 1025, 1025]
    assert unpin_user_pages(mm, found.pages) == 3
    assert [mm.folios.by_head[pfn].refcount for pfn in (100, 101, 300)] == [1, 1, 1]


def test_under_a_leaf_one_atomic_pins_them_all(make_mm):
    mm = mapped(make_mm, 1024, order=9)
    found = pin_user_pages(mm, VA, 256, write=True)
    assert (found.nr, found.stores, found.ptes, found.atomics) == (256, 256, 1, 1)
    folio = mm.folios.by_head[1024]
    assert (folio.refcount, folio.pincount) == (257, 256)
    assert unpin_user_pages(mm, found.pages) == 1
    assert (folio.refcount, folio.pincount) == (1, 0)


def test_two_leaves_take_two_atomics(make_mm):
    mm = mapped(make_mm, 1024, 1536, order=9)
    found = pin_user_pages(mm, VA + (511 << 12), 2, write=True)
    assert (found.ptes, found.atomics) == (2, 2)


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
    only_frames(space.mm.frames.buddy, 7, 33)
    do_mmap(space.mm, 4 * 4096)
    assert pin_user_pages(space.mm, VA, 4, write=True).pages == [Page(7), Page(33)]
    assert "(-ENOMEM)" in refusal(pin_user_pages, space.mm, VA + 8192, 2)


def test_whatever_else_goes_wrong_lets_go_of_what_was_pinned(make_mm, monkeypatch):
    space = make_mm(7, 33)
    touching(space.mm)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)

    def broken(*_args, **_named):
        raise RuntimeError("a bug")

    monkeypatch.setattr(follow, "handle_mm_fault", broken)
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
    assert all(folio.refcount == 1 for folio in mm.folios.states())


def test_flags_have_the_values_of_the_kernel():
    assert (follow.FOLL_WRITE, follow.FOLL_GET, follow.FOLL_FORCE, follow.FOLL_NOWAIT) == (0x1, 0x2, 0x8, 0x10)
    assert (follow.FOLL_NOFAULT, follow.FOLL_ANON, follow.FOLL_LONGTERM) == (0x20, 0x80, 0x100)
    assert (follow.FOLL_SPLIT_PMD, follow.FOLL_PCI_P2PDMA) == (0x200, 0x400)
    assert (follow.FOLL_PIN, follow.FOLL_FAST_ONLY, follow.FOLL_MADV_POPULATE) == (0x80000, 0x100000, 0x400000)


@pytest.mark.parametrize(
    ("flags", "valid"),
    [
        (PIN, True),
        (0x2, True),
        (PIN | 0x2, False),
        (0x2 | LONGTERM, False),
        (PIN | LONGTERM, True),
        (PIN | LONGTERM | P2PDMA, False),
        (PIN | 1 << 20, False),
        (PIN | 1 << 13, False),
    ],
)
def test_rule_mm3_some_flags_do_not_go_together(flags, valid):
    assert follow.is_valid_gup_args(flags) is valid


def test_flags_that_do_not_go_together_are_einval(make_mm):
    with pytest.raises(SyscallError, match=r"flags=0x80501 do not go together \(MM-3\) \(-EINVAL\)"):
        pin_user_pages(make_mm().mm, VA, 1, write=True, flags=LONGTERM | P2PDMA)


@pytest.mark.parametrize(
    ("kind", "vm", "prot", "flags", "code", "words"),
    [
        ("gpu", VM_IO, "---", WRITE | ANON | LONGTERM, "EFAULT", "without struct pages"),
        ("fsdax", 0, "---", WRITE | ANON | LONGTERM, "EFAULT", "FOLL_ANON"),
        ("fsdax", VM_HUGETLB, "---", WRITE | LONGTERM | SPLIT_PMD, "EOPNOTSUPP", "is storage"),
        ("secretmem", VM_HUGETLB, "---", WRITE | SPLIT_PMD, "EOPNOTSUPP", "FOLL_SPLIT_PMD"),
        ("secretmem", VM_SHARED, "---", WRITE, "EFAULT", "secret memory"),
        ("file", VM_SHARED, "---", WRITE | LONGTERM, "EFAULT", "tracks what is dirty"),
        ("file", VM_SHARED, "r--", WRITE | FORCE, "EFAULT", "no right to write"),
        ("file", 0, "r--", WRITE, "EFAULT", "no right to write"),
        ("file", 0, "-w-", 0, "EFAULT", "no right to read"),
        ("file", 0, "r--", WRITE | FORCE, None, ""),
        ("file", VM_SHARED, "---", FORCE, None, ""),
        ("memfd", VM_SHARED, "rw-", WRITE | LONGTERM, None, ""),
        ("devdax", VM_SHARED, "rw-", WRITE | LONGTERM, None, ""),
        ("device-coherent", 0, "rw-", WRITE, None, ""),
    ],
)
def test_the_checks_of_a_mapping_come_in_the_order_of_the_kernel(kind, vm, prot, flags, code, words):
    vma = VMA(VA, VA + 4096, prot, kind, 0, PageTable(1), SimpleNamespace(kind=kind, flags=vm), vm)
    refused = follow.check_vma_flags(vma, VA, flags | PIN)
    assert (refused and refused.errno) == (code and getattr(errno, code))
    assert words in str(refused)


def test_the_fast_way_takes_what_is_there_and_the_slow_way_what_must_be_brought(make_mm):
    mm = mapped(make_mm, 100, 101)
    assert tail(pin_user_pages(mm, VA, 2, write=True)) == (2, 0, 0)
    space = make_mm(7, 33, 35)
    do_mmap(space.mm, 4 * 4096)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 2, 3)
    assert tail(pin_user_pages(space.mm, VA, 3, write=True)) == (1, 2, 1)
    assert space.mm.has_pinned


@pytest.mark.parametrize(("flag", "code"), [(NOFAULT, "EFAULT"), (NOWAIT, "EAGAIN")])
@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
def test_whoever_may_not_fault_gets_what_is_there(make_mm, call, flag, code):
    mm = mapped(make_mm, 7)
    do_mmap(mm, 4096, addr=VA + 4096)
    with pytest.raises(SyscallError, match=f"addr=0x7f0000001000 needs a fault, .*FOLL.*-{code}"):
        call(mm, VA + 4096, 1, write=True, flags=flag)
    assert pin_user_pages(mm, VA, 2, write=True, flags=flag).nr == 1


def test_rule_mm15_the_zero_page_is_pinned_without_a_count(make_mm):
    space = make_mm(7, 33)
    do_mmap(space.mm, 2 * 4096)
    found = pin_user_pages(space.mm, VA, 2, write=False)
    assert (found.pages, found.ptes, found.atomics) == ([Page(7), Page(7)], 2, 0)
    assert tail(found) == (0, 2, 2)
    assert unpin_user_pages(space.mm, found.runs) == 0
    assert pin_user_pages(space.mm, VA, 1, write=False, flags=LONGTERM).pages == [Page(33)]
    assert space.mm.folios.by_head[33].refcount == 1025


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
@pytest.mark.parametrize(("write", "pages"), [(True, 1), (False, 1), (False, 40)])
def test_rule_mm18_memory_that_is_shared_since_a_fork_is_copied_before_either_kind_of_pin(make_mm, call, write, pages):
    mm = mapped(make_mm, *range(1000, 1000 + pages))
    child = Mm(mm.frames, 1)
    dup_mmap(mm, child)
    units = pages if call is pin_user_pages else pages * 4096
    found = call(mm, VA, units, write=write)
    assert found.faults == pages
    ranges = found.runs if call is pin_user_pages else found.phyrs.vecs
    assert all(not 1000 <= addr >> 12 < 1000 + pages for addr, _ in ranges)
    assert child.space.vmas[0].table.word(0) >> 12 & 0xFFFFF == 1000
    again = call(mm, VA, units, write=write)
    assert again.faults == 0


def test_a_forced_write_pin_of_read_only_memory_gets_a_page_of_its_own(make_mm):
    mm = mapped(make_mm, 7, 33, prot="r--")
    assert pin_user_pages(mm, VA, 1, write=True, flags=FORCE).nr == 1
    assert mm.space.vmas[0].table.word(0) & 2 == 0


@pytest.mark.parametrize(
    ("kind", "vm", "flags", "code"),
    [
        ("p2pdma", VM_SHARED | VM_MIXEDMAP, 0, "EREMOTEIO"),
        ("p2pdma", VM_SHARED | VM_MIXEDMAP, P2PDMA, None),
        ("fsdax", VM_SHARED, 0, None),
        ("fsdax", VM_SHARED, LONGTERM, "EOPNOTSUPP"),
        ("devdax", VM_SHARED, LONGTERM, None),
        ("secretmem", VM_SHARED, 0, "EFAULT"),
        ("mixed", VM_SHARED | VM_MIXEDMAP, 0, "EEXIST"),
    ],
)
@pytest.mark.parametrize("pages", [1, 2])
def test_rule_mm27_memory_of_devices_is_pinned_or_refused_by_kind(make_mm, kind, vm, flags, code, pages):
    mm = device_memory(make_mm, kind, vm, special=kind == "mixed")
    if code:
        with pytest.raises(SyscallError) as caught:
            pin_user_pages(mm, VA, pages, write=True, flags=flags)
        assert caught.value.errno == getattr(errno, code)
        assert mm.folios.by_head[7].refcount == 2
    else:
        found = pin_user_pages(mm, VA, pages, write=True, flags=flags)
        assert (found.nr, found.atomics, found.fast > 0) == (pages, pages, not (flags & LONGTERM))
        assert mm.folios.by_head[7].refcount == 1026


def test_rule_mm27_a_pin_for_the_long_term_moves_coherent_memory_to_ram_first(make_mm):
    mm = device_memory(make_mm, "device-coherent", 0)
    found = pin_user_pages(mm, VA, 1, write=True, flags=LONGTERM)
    assert found.pages == [Page(33)]


def test_a_fault_that_brings_nothing_is_efault(make_mm):
    space = make_mm()
    ops = SimpleNamespace(kind="strange", flags=VM_SHARED, fault=lambda *_a, **_n: 0)
    do_mmap(space.mm, 4096, ops=ops)
    assert "is not there after a fault" in refusal(pin_user_pages, space.mm, VA, 1)


def test_a_million_pages_are_runs_and_no_list(make_mm):
    mm = mapped(make_mm, 2048, 4096, order=10)
    found = pin_user_pages(mm, VA, 2048, write=True)
    assert (found.runs, found.nr, found.atomics) == (((0x800000, 4 << 20), (0x1000000, 4 << 20)), 2048, 4)
    assert unpin_user_pages(mm, found.runs) == 2


@pytest.mark.parametrize("pages", [0, -1, -(1 << 40)])
def test_no_page_cannot_be_pinned(make_mm, pages):
    mm = mapped(make_mm, 7)
    assert refusal(pin_user_pages, mm, VA, pages).endswith("is less than a byte (-EINVAL)")
    assert mm.folios.by_head[7].refcount == 1


@pytest.mark.parametrize(
    ("order", "pages", "lines"), [(0, 1, 1), (0, 3, 3), (4, 1, 2), (4, 16, 2), (4, 17, 4), (9, 256, 2), (9, 1, 2)]
)
def test_a_pin_writes_a_line_of_each_folio_and_a_second_one_of_a_large_one(make_mm, order, pages, lines):
    mm = mapped(make_mm, *(1024 + (i << order) for i in range(3)), order=order)
    assert pin_user_pages(mm, VA, pages, write=True).cache_lines == lines


def test_a_pin_of_the_zero_page_writes_no_line(make_mm):
    mm = make_mm(7).mm
    do_mmap(mm, 65536)
    assert pin_user_pages(mm, VA, 16, write=False).cache_lines == 0


def test_the_last_unpin_frees_what_was_unmapped_meanwhile(make_mm):
    mm = mapped(make_mm, 5000, 5002)
    first, second = (pin_user_pages(mm, VA, 1, write=True) for _ in range(2))
    do_munmap(mm, VA, 8192)
    unpin_user_pages(mm, first.runs)
    assert list(mm.folios.by_head) == [5000]
    unpin_user_pages(mm, second.runs)
    assert (mm.folios.by_head, mm.frames.orphans) == ({}, [])


def movable(pages):
    """Return the memory of a task of `pages` pages, all of it in ZONE_MOVABLE."""
    mm = Mm(Frames(Buddy(256 << 20, movablecore=64 << 20), lambda _raw: None, lambda: 0))
    do_mmap(mm, pages * 4096)
    handle_mm_fault(mm, mm.space.vmas[0], 0, pages)
    return mm


def in_movable(mm, runs):
    zone = next(zone for zone in mm.frames.buddy.zones if zone.name == "Movable")
    return any(zone.start <= addr >> 12 < zone.end for addr, _ in runs)


@pytest.mark.parametrize("pages", [1, 16, 100])
def test_rule_mm21_a_pin_for_the_long_term_leaves_zone_movable_first(pages):
    mm = movable(pages)
    found = pin_user_pages(mm, VA, pages, write=True)
    assert in_movable(mm, found.runs)
    unpin_user_pages(mm, found.runs)
    found = pin_user_pages(mm, VA, pages, write=True, flags=LONGTERM)
    assert (found.nr, in_movable(mm, found.runs)) == (pages, False)
    assert get_user_phyrs(mm, VA, pages * 4096, write=True).phyrs.vecs == found.runs


@pytest.mark.parametrize("pages", [1, 16, 100])
def test_rule_mm21_phyrs_for_the_long_term_leave_zone_movable_first(pages):
    mm = movable(pages)
    assert in_movable(mm, get_user_phyrs(mm, VA, pages * 4096, write=True).phyrs.vecs)
    assert not in_movable(mm, get_user_phyrs(mm, VA, pages * 4096, write=True, flags=PIN | LONGTERM).phyrs.vecs)


@pytest.mark.parametrize("call", [get_user_phyrs, pin_user_pages])
def test_rule_mm21_what_is_held_and_cannot_leave_zone_movable_is_not_pinned_for_the_long_term(call):
    mm = movable(1)
    pin_user_pages(mm, VA, 1, write=True)
    with pytest.raises(SyscallError, match=r"references where 1 are accounted for \(MM-21\) \(-EAGAIN\)"):
        call(mm, VA, 1, write=True, flags=PIN | LONGTERM)


def test_rule_mm21_memory_that_others_map_leaves_zone_movable_if_they_are_known():
    mm = movable(1)
    child = Mm(mm.frames, 1)
    dup_mmap(mm, child)
    word = mm.space.vmas[0].table.word(0)
    with pytest.raises(SyscallError, match="is mapped elsewhere too"):
        leave_movable(mm, ((word & ADDR_MASK, 4096),))
    assert leave_movable(mm, ((word & ADDR_MASK, 4096),), (mm, child))
