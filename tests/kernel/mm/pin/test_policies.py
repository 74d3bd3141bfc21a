from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import InvariantError, LabkitError, SyscallError
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.pin.tally import tally
from labkit.kernel.mm.space.vma import VM_IO, VM_SHARED
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, phyrs_of
from labkit.scatter.range_array import RangeArray

VA = 0x7F00_0000_0000
COUNTS = {"page", "folio"}
"""Those that count on folios."""


@pytest.fixture(params=POLICIES)
def policy(request):
    return POLICIES[request.param]


def mapped(make_mm, *pfns, order=0):
    space = make_mm(*pfns, order=order)
    do_mmap(space.mm, len(pfns) * 4096 << order, order=order)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, len(pfns) << order)
    return space.mm


def states(mm):
    return [(state.refcount, state.pincount) for state in mm.folios.states()]


def pinned(mm, policy, nbytes, at=0):
    return pin_phyrs(mm, get_user_phyrs(mm, VA + at, nbytes, write=True).phyrs, policy, 1)


def test_a_pin_and_its_end_leave_nothing(make_mm, policy):
    mm = mapped(make_mm, 7, 8, 33)
    token, _ = pinned(mm, policy, 3 * 4096)
    assert any(refs > 1 for refs, _ in states(mm)) is (policy.name in COUNTS)
    put_user_phyrs(mm, token)
    assert (states(mm), mm.ledger.held) == ([(1, 0)] * 3, {})
    assert mm.has_pinned


def test_a_double_unpin_is_einval_and_changes_nothing(make_mm, policy):
    mm = mapped(make_mm, 7, 33)
    token, _ = pinned(mm, policy, 8192)
    put_user_phyrs(mm, token)
    with pytest.raises(InvariantError) as caught:
        put_user_phyrs(mm, token)
    assert caught.value.errno_name == "-EINVAL"
    assert states(mm) == [(1, 0)] * 2


def test_what_was_never_pinned_is_not_let_go_of(make_mm, policy):
    mm = mapped(make_mm, 7)
    with pytest.raises(InvariantError):
        put_user_phyrs(mm, 1)
    assert (policy.name, states(mm)) == (policy.name, [(1, 0)])


def test_a_part_of_a_page_holds_the_page_and_no_other(make_mm, policy):
    mm = mapped(make_mm, 7, 33)
    token, _ = pinned(mm, policy, 8, 4096 - 16)
    assert states(mm)[1] == (1, 0)
    assert mm.ledger.holders(7) == (token,)
    assert mm.ledger.holders(33) == ()
    put_user_phyrs(mm, token)
    assert states(mm) == [(1, 0)] * 2


def test_the_zero_page_has_no_count(make_mm, policy):
    space = make_mm(7)
    do_mmap(space.mm, 8192)
    token, _ = pin_phyrs(space.mm, get_user_phyrs(space.mm, VA, 8192, write=False).phyrs, policy)
    put_user_phyrs(space.mm, token)
    assert (states(space.mm), space.mm.ledger.held) == ([], {})


@pytest.mark.parametrize("bad", [PhyrList(()), PhyrList([Phyr(0x7000, -1)]), PhyrList([Phyr(-4096, 4096)])])
def test_a_pin_on_nothing_or_on_less_is_einval_and_changes_nothing(make_mm, policy, bad):
    mm = mapped(make_mm, 7)
    with pytest.raises(LabkitError, match=r"^(gup|mm): .*(a pin on nothing|less than a byte).*\(-EINVAL\)$"):
        pin_phyrs(mm, bad, policy)
    assert (states(mm), mm.ledger.held, mm.has_pinned) == ([(1, 0)], {}, False)


def test_a_pin_by_a_policy_that_nobody_knows_is_einval_and_changes_nothing(make_mm):
    mm = mapped(make_mm, 7)
    with pytest.raises(InvariantError, match=r"mm: a pin by 'hope' is by no policy that is known \(-EINVAL\)"):
        pinned(mm, SimpleNamespace(name="hope", pin=POLICIES["page"].pin), 4096)
    assert (states(mm), mm.ledger.held) == ([(1, 0)], {})


def test_two_pins_of_one_memory_end_one_by_one(make_mm, policy):
    mm = mapped(make_mm, 7)
    first, second = pinned(mm, policy, 4096)[0], pinned(mm, policy, 512)[0]
    put_user_phyrs(mm, first)
    assert states(mm) == [(1025, 0) if policy.name in COUNTS else (1, 0)]
    put_user_phyrs(mm, second)
    assert states(mm) == [(1, 0)]


@pytest.mark.parametrize(
    ("name", "pin", "unpin"),
    [
        ("page", (32, 4, 32, 0), (2, 4, 32, 0)),
        ("folio", (2, 4, 2, 0), (2, 4, 2, 0)),
        ("range", (2, 1, 0, 32), (2, 1, 0, 0)),
        ("lease", (1, 1, 0, 32), (1, 1, 0, 0)),
        ("none", (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_each_policy_has_its_price_for_two_folios_of_64_kib(make_mm, name, pin, unpin):
    mm = mapped(make_mm, 16, 48, order=4)
    token, cost = pinned(mm, POLICIES[name], 1 << 17)
    assert cost == pin
    assert put_user_phyrs(mm, token) == unpin


def test_a_folio_counts_once_whatever_the_order_of_its_parts(make_mm):
    mm = mapped(make_mm, 16, 48, order=4)
    phyrs = phyrs_of([0x18000, 0x30000, 0x10000, 0x38000], [4096] * 4)
    assert POLICIES["folio"].pin(mm, phyrs) == (2, 4, 2, 0)
    assert [state.pincount for state in mm.folios.states()] == [1, 1]
    POLICIES["folio"].unpin(mm, phyrs)
    assert [state.pincount for state in mm.folios.states()] == [0, 0]


def test_memory_without_struct_pages_can_be_held_but_not_counted(make_mm, policy):
    mm = make_mm().mm
    provider = Provider("gpu0", 1 << 40, 8192, MemoryClass("mmio", "gpu0"))

    def fault(_mm, vma, first, last, *, write):  # noqa: ARG001
        vma.table.set_range(first, (1 << 40) + (first << 12), last - first, vma.pte_flags)
        return 0

    ops = SimpleNamespace(kind="gpu", flags=VM_IO | VM_SHARED, fault=fault, provider=provider)
    do_mmap(mm, 8192, ops=ops)
    if policy.name in COUNTS:
        with pytest.raises(SyscallError) as caught:
            pinned(mm, policy, 8192)
        assert str(caught.value) == (
            f"gup: memory at 0x10000000000 has no struct page: pin={policy.name} has nothing to count on"
            " (PHYR-28) (-EFAULT)"
        )
        assert mm.ledger.held == {}
    else:
        put_user_phyrs(mm, pinned(mm, policy, 8192)[0])


def test_memory_of_a_device_with_struct_pages_is_counted(make_mm):
    mm = make_mm().mm
    mm.folios.add(1 << 20, 0, 1, 0)
    phyrs = phyrs_of([1 << 32], [4096], MemoryClass("mmio", "cmb"))
    POLICIES["page"].pin(mm, phyrs)
    assert states(mm) == [(1025, 0)]


def test_each_policy_says_what_it_keeps_from_happening_and_whose_idea_it_is(policy):
    counted = {"migration", "fork", "reclaim", "ksm", "unplug"}
    every = counted | {"munmap", "truncate"}
    want = {"page": counted, "folio": counted, "range": counted, "lease": every, "none": set()}
    assert set(policy.blocks) == want[policy.name]
    assert all(len(sentence) > 20 for sentence in policy.blocks.values())
    labels = {"page": "upstream", "folio": "ours", "range": "ours", "lease": "ours", "none": "ours"}
    assert policy.label == labels[policy.name]


def test_rule_mm9_the_policy_page_counts_once_for_what_a_leaf_maps(make_mm):
    mm = mapped(make_mm, 1024, 4096, order=9)
    cost = POLICIES["page"].pin(mm, phyrs_of([1024 << 12, (4096 << 12) + 512], [2 << 20, 4096]))
    assert cost == (2, 4, 514, 0)
    assert [state.pincount for state in mm.folios.states()] == [512, 2]


def test_the_zero_page_costs_no_policy_a_locked_operation_or_a_line_where_something_is_counted(make_mm, policy):
    mm = make_mm(7).mm
    do_mmap(mm, 8192)
    cost = pin_phyrs(mm, get_user_phyrs(mm, VA, 8192, write=False).phyrs, policy)[1]
    assert cost[:2] == ((1, 1) if policy.name == "lease" else (0, 0))


@settings(deadline=None)
@given(spans=st.lists(st.tuples(st.integers(0, 99 * 4096), st.integers(1, 60 * 4096)), min_size=1, max_size=5))
@pytest.mark.parametrize("order", [0, 1, 9])
def test_lines_and_grabs_are_what_a_look_at_each_page_finds(make_mm, order, spans):
    mm = mapped(make_mm, 1024, *(1024 + (i << order) for i in range(2, 100)), order=order)
    first = 4096 << 10
    ranges = tuple((first + at, nbytes) for at, nbytes in spans)
    lines = grabs = 0
    last = None
    for pfn in (pfn for addr, n in ranges for pfn in range(addr >> 12, (addr + n + 4095) >> 12)):
        folio = next((f for f in mm.folios.states() if f.pfn <= pfn < f.pfn + (1 << f.order)), None)
        if folio is not None:
            fresh, last = folio != last, folio
            lines += fresh * (2 if folio.order else 1)
            grabs += fresh if folio.order >= 9 else 1
    assert tally(mm.folios, ranges) == (lines, grabs)
    assert tally(mm.folios, RangeArray.join([ranges])) == (lines, grabs)


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from([0, 2]),
    spans=st.lists(st.tuples(st.integers(0, 99 * 4096), st.integers(1, 60 * 4096)), min_size=1, max_size=5),
    data=st.data(),
)
def test_whatever_is_pinned_in_whatever_order_comes_out_even(make_mm, order, spans, data):
    space = make_mm(*data.draw(st.permutations(range(5000, 5000 + (100 << order), 1 << order))), order=order)
    mm = space.mm
    do_mmap(mm, 100 * 4096 << order, order=order)
    handle_mm_fault(mm, mm.space.vmas[0], 0, 100 << order)
    before, tokens = states(mm), []
    for at, nbytes in spans:
        name = data.draw(st.sampled_from(sorted(POLICIES)))
        tokens.append(pinned(mm, POLICIES[name], min(nbytes, (100 * 4096 << order) - at), at)[0])
        if data.draw(st.booleans()):
            mm.folios.phys_to_folio(mm.space.vmas[0].table.word(at >> 12) & 0xFFFF_FFFF_F000)  # it leaves its batch
    for token in data.draw(st.permutations(tokens)):
        put_user_phyrs(mm, token, dirty=data.draw(st.booleans()))
    assert states(mm) == before
