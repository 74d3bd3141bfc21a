from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import InvariantError, SyscallError
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.fault.fork import dup_mmap
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_munmap
from labkit.kernel.mm.gup.follow import FOLL_GET, FOLL_LONGTERM, FOLL_PCI_P2PDMA, FOLL_PIN, FOLL_TOUCH
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs, split_token
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_IO, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr
from labkit.scatter.range_array import RangeArray
from labkit.trace.page_flags import PG_dirty
from labkit.trace.state import state_at
from labkit.trace.tracer import typed

VA = 0x7F00_0000_0000
BAR = MemoryClass("mmio", "gpu0")


def mapped(make_mm, *pfns, prot="rw-", order=0):
    """Map as many pages as there are frames, and touch them all."""
    space = make_mm(*pfns, order=order)
    do_mmap(space.mm, len(pfns) * 4096 << order, prot, order=order)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, len(pfns) << order, write="w" in prot)
    return space.mm


def ranges(mm, addr, nbytes, *, write=True, **named):
    return get_user_phyrs(mm, addr, nbytes, write=write, **named).phyrs.vecs


def refusal(mm, addr, nbytes, **named):
    with pytest.raises(SyscallError) as caught:
        get_user_phyrs(mm, addr, nbytes, **({"write": True} | named))
    return str(caught.value)


def bar(mm, addr=VA, *, registered=True, flags=VM_IO | VM_PFNMAP | VM_SHARED, pages=4, start=1 << 40, cls=BAR):
    """Map `pages` pages of a device's memory; return its provider."""
    provider = Provider("gpu0", start, pages << 12, cls)

    def fault(_mm, vma, first, last, *, write):  # noqa: ARG001
        vma.table.set_range(first, start + (first << 12), last - first, vma.pte_flags | PAGE_SPECIAL)
        return 0

    ops = SimpleNamespace(kind="gpu", flags=flags, fault=fault, provider=provider if registered else None)
    do_mmap(mm, pages << 12, name="gpu0", ops=ops, addr=addr)
    return provider


def test_worked_vector_v1(make_mm):
    mm = mapped(make_mm, 100, 101, 300)
    found = get_user_phyrs(mm, VA + 512, 8704, write=True)
    assert found.phyrs.vecs == ((0x64200, 7680), (0x12C000, 1024))
    assert (found.nbytes, found.ptes, found.faults) == (8704, 3, 0)


def test_worked_vector_v2(make_mm):
    assert ranges(mapped(make_mm, 100, 101, 300), VA + 512, 4608) == ((0x64200, 4608),)


def test_worked_vector_v3_a_mebibyte_of_a_huge_page_is_one_phyr_and_one_entry(make_mm):
    found = get_user_phyrs(mapped(make_mm, 1024, order=9), VA, 1 << 20, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x400000, 1 << 20),), 1)


def test_two_leaves_that_touch_are_one_phyr_of_two_entries(make_mm):
    found = get_user_phyrs(mapped(make_mm, 1024, 1536, order=9), VA + 4096, (4 << 20) - 8192, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x401000, (4 << 20) - 8192),), 2)


def test_worked_vector_v6_three_pins_of_a_small_folio_are_3072(make_mm):
    mm = mapped(make_mm, 7)
    folio, phyrs = mm.folios.by_head[7], get_user_phyrs(mm, VA, 512, write=True).phyrs
    tokens = [pin_phyrs(mm, phyrs, POLICIES["page"])[0] for _ in range(3)]
    assert (folio.refcount, folio.maybe_dma_pinned) == (3073, True)
    for token in tokens:
        put_user_phyrs(mm, token)
    assert (folio.refcount, folio.maybe_dma_pinned) == (1, False)
    folio.refcount = 1200
    assert folio.maybe_dma_pinned  # a false positive (MM-16)


def test_one_page_takes_the_short_way_to_the_same_answer(make_mm):
    found = get_user_phyrs(mapped(make_mm, 100, 101), VA + 4096 + 512, 1024, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x65200, 1024),), 1)


def test_two_pieces_of_two_pages_are_counted_as_two_entries(make_mm):
    found = get_user_phyrs(mapped(make_mm, 100, 300), VA + 4095, 2, write=True)
    assert (found.phyrs.vecs, found.ptes) == (((0x64FFF, 1), (0x12C000, 1)), 2)


def test_a_page_that_is_not_there_is_faulted_in(make_mm):
    space = make_mm(7, 33)
    do_mmap(space.mm, 8192)
    found = get_user_phyrs(space.mm, VA + 4096, 512, write=True)
    assert (found.phyrs.vecs, found.faults) == (((0x7000, 512),), 1)
    assert ranges(space.mm, VA, 8192) == ((0x21000, 4096), (0x7000, 4096))


def test_read_only_memory_can_be_written_to_a_file_and_not_read_into(make_mm):
    mm = mapped(make_mm, 7, prot="r--")
    assert ranges(mm, VA, 4096, write=False)[0][1] == 4096
    assert "lies in r-- memory: no right to write to it" in refusal(mm, VA, 512)


def test_what_was_never_written_is_the_zero_page_again_and_again(make_mm):
    space = make_mm(7)
    do_mmap(space.mm, 3 * 4096)
    assert ranges(space.mm, VA, 3 * 4096, write=False) == ((0x7000, 4096),) * 3


@pytest.mark.parametrize("addr", [-4096, 0, 1 << 63])
def test_addresses_from_nowhere_are_efault(make_mm, addr):
    assert "(-EFAULT)" in refusal(make_mm().mm, addr, 4096)


def test_addresses_beyond_64_bits_are_eoverflow(make_mm):
    assert "(-EOVERFLOW)" in refusal(make_mm().mm, (1 << 64) - 4096, 8192)


def test_no_frame_left_is_enomem_and_nothing_is_pinned(make_mm, only_frames):
    space = make_mm()
    only_frames(space.mm.frames.buddy, 7)
    do_mmap(space.mm, 8192)
    assert "(-ENOMEM)" in refusal(space.mm, VA, 8192)
    assert space.mm.folios.by_head[7].refcount == 1
    assert space.mm.ledger.held == {}


def test_the_first_page_that_fails_decides(make_mm):
    space = make_mm(7, 33)
    do_mmap(space.mm, 8192)
    assert "addr=0x7f0000002000 is not mapped" in refusal(space.mm, VA, 5 * 4096)


def test_with_a_limit_the_ranges_end_early_and_whole(make_mm):
    mm = mapped(make_mm, 7, 8, 33, 34, 50)
    found = get_user_phyrs(mm, VA + 512, 5 * 4096 - 512, write=True, max_entries=2)
    assert (found.phyrs.vecs, found.nbytes) == (((0x7200, 7680), (0x21000, 8192)), 15872)
    assert ranges(mm, VA, 5 * 4096, max_entries=3) == ((0x7000, 8192), (0x21000, 8192), (0x32000, 4096))


def test_with_a_limit_little_beyond_it_is_faulted_in(make_mm):
    space = make_mm(*range(5000, 5200, 2))
    do_mmap(space.mm, 1 << 30)
    found = get_user_phyrs(space.mm, VA, 1 << 30, write=True, max_entries=16)
    assert (len(found.phyrs), found.nbytes, found.faults) == (16, 16 * 4096, 48)


def test_with_a_limit_what_comes_before_a_page_that_cannot_be_had_is_found(make_mm):
    mm = mapped(make_mm, 7, 33)
    assert ranges(mm, VA, 5 * 4096, max_entries=16) == ((0x7000, 4096), (0x21000, 4096))
    assert "addr=0x7f0000002000 is not mapped" in refusal(mm, VA + 8192, 4096, max_entries=16)


def test_memory_of_a_device_is_efault_unless_its_owner_has_registered_it(make_mm):
    mm = make_mm().mm
    bar(mm, registered=False)
    assert refusal(mm, VA, 4096) == (
        "gup: addr=0x7f0000000000 lies in gpu0, memory of a device without struct pages (MISS-3) (-EFAULT)"
    )


def test_registered_memory_of_a_device_is_a_range_of_its_class(make_mm):
    mm = make_mm().mm
    bar(mm)
    found = get_user_phyrs(mm, VA + 512, 8192, write=True)
    assert found.phyrs == (Phyr((1 << 40) + 512, 8192, BAR),)


def test_registered_memory_is_checked_for_rights_all_the_same(make_mm):
    mm = make_mm().mm
    bar(mm)
    mm.space.vmas[0].prot = "r--"
    assert "no right to write to it" in refusal(mm, VA, 4096)


def test_revoked_memory_is_enodev_and_its_owner_learns_who_holds_it(make_mm):
    mm = make_mm().mm
    provider = bar(mm)
    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA, 4096, write=True).phyrs, POLICIES["lease"], 3)
    done = []
    assert (provider.live, provider.revoke(mm.ledger), provider.live) == (True, (token,), False)
    mm.ledger.on_release(token, done.append)
    assert refusal(mm, VA, 4096).endswith("lies in gpu0, whose owner has revoked it (D-13) (-ENODEV)")
    put_user_phyrs(mm, token)
    assert [pin.io for pin in done] == [3]
    assert provider.revoke(mm.ledger) == ()


def test_a_provider_that_promised_to_stay_is_not_revoked(make_mm):
    provider = Provider("cmb", 1 << 40, 4096, BAR, revocable=False)
    with pytest.raises(SyscallError, match="promised to stay"):
        provider.revoke(make_mm().mm.ledger)
    assert provider.live


def test_ranges_of_two_classes_never_join_though_their_addresses_touch(make_mm):
    mm = mapped(make_mm, 7)
    bar(mm, VA + 4096, start=0x8000, pages=1)
    assert get_user_phyrs(mm, VA, 8192, write=True).phyrs == (Phyr(0x7000, 4096, RAM), Phyr(0x8000, 4096, BAR))


def test_many_ranges_of_two_classes_keep_theirs(make_mm):
    mm = mapped(make_mm, *range(1000, 1200, 2))
    bar(mm, VA + (100 << 12))
    found = get_user_phyrs(mm, VA, 104 << 12, write=True).phyrs
    assert (len(found), found.classes) == (101, ((RAM, 100 << 12), (BAR, 4 << 12)))


def test_an_entry_without_a_page_in_memory_that_nobody_registered_is_eexist(make_mm):
    mm = make_mm().mm
    bar(mm, registered=False, flags=VM_MIXEDMAP | VM_SHARED)
    assert refusal(mm, VA, 4096).endswith("has no struct page (MM-11) (-EEXIST)")


def test_after_a_fork_a_write_to_a_file_gets_a_copy_of_a_page_too(make_mm):
    mm = mapped(make_mm, 7)
    dup_mmap(mm, Mm(mm.frames, 1))
    found = get_user_phyrs(mm, VA, 4096, write=False)
    assert found.faults == 1
    assert found.phyrs.vecs != ((0x7000, 4096),)


def test_what_is_put_back_dirty_marks_its_folios_once_and_tells_of_it(make_mm):
    space = make_mm(7, 8, 33)
    mm = space.mm
    do_mmap(mm, 3 * 4096)
    for _ in range(2):
        token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA + 4095, 2, write=True).phyrs, POLICIES["range"], 5)
        put_user_phyrs(mm, token, dirty=True)
    told = [raw for raw in space.raw if raw[0] == "FolioFlags"]
    assert told == [("FolioFlags", 5, 5, ((0x7000, 8192),), 1 << 4, 0)]
    assert {f.pfn: f.flags & PG_dirty for f in mm.folios.states()} == {7: 16, 8: 16}


def test_memory_without_folios_is_not_marked(make_mm):
    space = make_mm()
    bar(space.mm)
    token, _ = pin_phyrs(space.mm, get_user_phyrs(space.mm, VA, 8192, write=True).phyrs, POLICIES["range"])
    put_user_phyrs(space.mm, token, dirty=True)
    assert not [raw for raw in space.raw if raw[0] == "FolioFlags"]


def test_a_large_read_marks_the_folios_that_are_clean(make_mm):
    space = make_mm(*range(5000, 5200))
    mm = space.mm
    do_mmap(mm, 200 * 4096)
    for first, last in ((0, 100), (50, 200), (0, 200)):
        phyrs = get_user_phyrs(mm, VA + first * 4096, (last - first) * 4096, write=True).phyrs
        put_user_phyrs(mm, pin_phyrs(mm, phyrs, POLICIES["range"])[0], dirty=True)
    told = [raw[3] for raw in space.raw if raw[0] == "FolioFlags"]
    assert [sum(nbytes for _, nbytes in each) >> 12 for each in told] == [100, 100]


def test_munmap_while_a_range_is_held_frees_it_afterwards(make_mm):
    mm = mapped(make_mm, 5000, 5002)
    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA + 512, 512, write=True).phyrs, POLICIES["range"])
    do_munmap(mm, VA, 8192)
    assert list(mm.folios.by_head) == [5000]
    put_user_phyrs(mm, token)
    assert (mm.folios.by_head, mm.frames.orphans) == ({}, [])


@pytest.mark.parametrize("policy", ["page", "folio", "range", "lease", "none"])
def test_rule_phyr17_a_token_may_be_split_in_two_and_each_part_let_go_of(make_mm, policy):
    mm = mapped(make_mm, 16, order=4)
    folio, before = mm.folios.by_head[16], mm.folios.by_head[16].refcount
    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA, 65536, write=True).phyrs, POLICIES[policy], 2)
    whole, done = folio.pincount, []
    mm.ledger.on_release(token, done.append)
    parts = split_token(mm, token, 4608, io=2)
    assert [mm.ledger.held[part].ranges for part in parts] == [((0x10000, 4608),), ((0x11200, 60928),)]
    assert folio.pincount == {"page": whole + 1, "folio": 2}.get(policy, 0)  # the page of the cut is counted twice
    with pytest.raises(InvariantError):
        put_user_phyrs(mm, token)
    put_user_phyrs(mm, parts[0])
    assert done == []
    put_user_phyrs(mm, parts[1])
    assert [pin.token for pin in done] == [parts[1]]
    assert (folio.refcount, folio.pincount, mm.ledger.held) == (before, 0, {})


@pytest.mark.parametrize("at", [0, 4096, -1])
def test_a_token_is_not_split_at_its_ends(make_mm, at):
    mm = mapped(make_mm, 7)
    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA, 4096, write=True).phyrs, POLICIES["page"])
    with pytest.raises(InvariantError, match="leaves nothing"):
        split_token(mm, token, at)
    assert mm.folios.by_head[7].refcount == 1025


def test_a_token_that_is_not_held_is_not_split(make_mm):
    with pytest.raises(InvariantError, match="is not held, and is split"):
        split_token(make_mm().mm, 1, 1)


@pytest.mark.parametrize("io", [0, 3])
def test_a_token_whose_io_is_on_its_way_is_split_by_that_io_alone(make_mm, io):
    mm = mapped(make_mm, 7)
    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA, 4096, write=True).phyrs, POLICIES["page"], 2)
    sentence = r"gup: pin token 1 is held by IO 2, which is on its way and .* \(-EBUSY\)"
    with pytest.raises(SyscallError, match=sentence):
        split_token(mm, token, 512, io=io)
    assert (list(mm.ledger.held), mm.folios.by_head[7].refcount) == ([token], 1025)


def test_the_parts_of_a_token_are_of_the_task_and_end_with_the_event_that_it_had(make_mm):
    mm = mapped(make_mm, 7)
    phyrs = get_user_phyrs(mm, VA, 4096, write=True).phyrs
    token = mm.ledger.pin(2, 0, "none", phyrs.vecs, 5, phyrs, per_bio=True)
    for part in split_token(mm, token, 512, io=2):
        assert (mm.ledger.task_of(part), mm.ledger.held[part].io) == (5, 2)
        assert mm.ledger.released_by(part) == "bio_release_pages of its bio (page)"


@pytest.mark.parametrize("policy", ["page", "folio", "range", "lease", "none"])
def test_the_trace_tells_of_pins_that_no_io_took(make_mm, told, policy):
    space = make_mm(5008, 5040, order=4)
    mm = space.mm
    do_mmap(mm, 131072, order=4)

    def look():
        told(space)
        held = tuple(mm.ledger.held[token] for token in sorted(mm.ledger.held))
        assert state_at([typed(raw) for raw in space.raw_all], 5).pins == held

    token, _ = pin_phyrs(mm, get_user_phyrs(mm, VA, 131072, write=True).phyrs, POLICIES[policy], addr=VA, ptes=32)
    look()
    parts = split_token(mm, token, 4608)
    look()
    do_munmap(mm, VA, 131072)
    for part in parts:
        put_user_phyrs(mm, part, dirty=True)
        look()
    assert (mm.ledger.held, mm.frames.orphans) == ({}, [])


@pytest.mark.parametrize("more", [{"max_entries": 0}, {"max_entries": -1}, {"nbytes": 0}, {"nbytes": -4096}])
def test_less_than_a_range_or_a_byte_cannot_be_asked_for(make_mm, more):
    mm = mapped(make_mm, 7)
    assert refusal(mm, VA, **({"nbytes": 4096} | more)).endswith("(-EINVAL)")


@pytest.mark.parametrize("pages", [1, 64, 65])
@pytest.mark.parametrize(
    "flags", [FOLL_GET | FOLL_PIN, FOLL_LONGTERM, FOLL_PIN | FOLL_LONGTERM | FOLL_PCI_P2PDMA, 1 << 25, FOLL_TOUCH]
)
def test_rule_mm3_flags_are_looked_at_however_few_the_pages(make_mm, flags, pages):
    mm = mapped(make_mm, *range(5000, 5065))
    assert refusal(mm, VA, pages * 4096, flags=flags).endswith("do not go together (MM-3) (-EINVAL)")


def encoded(addrs):
    """Run-length encode physical byte addresses, one by one."""
    out = []
    for addr in addrs:
        if out and sum(out[-1]) == addr:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((addr, 1))
    return tuple(out)


@settings(max_examples=500, deadline=None)
@given(
    pfns=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    start=st.integers(0, 4 * 4096),
    nbytes=st.integers(1, 3 * 4096),
    chunk=st.none() | st.integers(1, 5),
)
def test_invariant_7_the_list_is_the_run_length_encoding_of_the_addresses(make_mm, pfns, start, nbytes, chunk):
    mm = make_mm().mm
    do_mmap(mm, len(pfns) * 4096)
    runs = RangeArray(np.array(pfns) << 12, np.full(len(pfns), 4096))
    mm.space.vmas[0].table.set_runs(0, runs, mm.space.vmas[0].pte_flags)
    start %= len(pfns) * 4096
    nbytes = min(nbytes, len(pfns) * 4096 - start)
    found = get_user_phyrs(mm, VA + start, nbytes, write=True, max_entries=chunk)
    want = encoded((pfns[at >> 12] << 12) + at % 4096 for at in range(start, start + nbytes))
    assert tuple(found.phyrs.vecs) == (want if chunk is None else want[:chunk])
    assert found.nbytes == found.phyrs.nbytes == sum(n for _, n in want[:chunk])


@settings(max_examples=100, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 40)), min_size=1, max_size=60), data=st.data())
def test_invariant_7_holds_for_long_walks_too(make_mm, runs, data):
    pfns = [pfn + i for pfn, n in runs for i in range(n)]
    mm = make_mm().mm
    do_mmap(mm, len(pfns) * 4096)
    for at, pfn in enumerate(pfns):
        mm.space.vmas[0].table.set_range(at, pfn << 12, 1, mm.space.vmas[0].pte_flags)
    first = data.draw(st.integers(0, len(pfns) - 1))
    last = data.draw(st.integers(first + 1, len(pfns)))
    pages = encoded(unit for unit in pfns[first:last])
    want = tuple((pfn << 12, n << 12) for pfn, n in pages)
    assert tuple(ranges(mm, VA + first * 4096, (last - first) * 4096)) == want
