from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import InvariantError, SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency import peers
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.currency.page import PageCurrency
from labkit.kernel.currency.phyr import PhyrCurrency
from labkit.kernel.currency.unified import UnifiedCurrency
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_mprotect
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup import follow, gup
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.version import KERNELS
from labkit.scatter.payload import run_length
from labkit.trace.page_flags import PG_dirty

VA = 0x7F00_0000_0000
NVME = QueueLimits(dma_alignment=3, virt_boundary_mask=4095)
R618, R73 = KERNELS["6.18"], KERNELS["7.3"]
EVERY = {
    "phyr": PhyrCurrency,
    **{f"page {name}": partial(PageCurrency, rules) for name, rules in KERNELS.items()},
    "unified 6.18": partial(UnifiedCurrency, R618),
    "unified 7.3": partial(UnifiedCurrency, R73),
}


@pytest.fixture(params=EVERY)
def currency(request):
    return EVERY[request.param]()


def memory(*pfns, prot="rw-", touch=True, order=0):
    mm = Mm(Frames(Buddy(64 << 20), lambda _raw: None, lambda: 0))
    mm.frames.buddy.zones[0].virgin = 8192
    mm.frames.buddy.zones[0].pcp[order] = list(reversed(pfns))
    do_mmap(mm, max(1, len(pfns)) * 4096 << order, prot, order=order)
    if touch:
        handle_mm_fault(mm, mm.space.vmas[0], 0, len(pfns) << order, write="w" in prot)
    return mm


def iocb_of(mm, nbytes, skew=0, *, write=False, limits=NVME, simple=False):
    return Kiocb(1, mm, "pwrite64" if write else "pread64", VA + skew, nbytes, 0, write, limits, simple=simple)


def glues(currency):
    """Return whether frames that touch are one vector, whatever their folios are (R3 until 6.18)."""
    return currency.name == "phyr" or not currency.rules.folio_bound


def refusal(currency, iocb, start=0):
    with pytest.raises(SyscallError) as caught:
        currency.pin(iocb, start)
    return str(caught.value)


def everything(currency, iocb):
    """Pin step by step until the whole IO is held."""
    holds, start = [], 0
    while start < iocb.nbytes:
        holds.append(currency.pin(iocb, start))
        assert holds[-1].nbytes > 0
        start += holds[-1].nbytes
    return holds


def counts(mm):
    return [(folio.refcount, folio.pincount) for folio in mm.folios.states()]


def test_scattered_frames_are_a_range_each(currency):
    iocb = iocb_of(memory(7, 33), 8192)
    hold = currency.pin(iocb, 0)
    assert hold.ranges == ((0x7000, 4096), (0x21000, 4096))
    assert tuple(hold.payload.vecs) == hold.ranges
    assert (hold.nbytes, hold.payload.nbytes, hold.ptes, hold.atomics) == (8192, 8192, 2, 2)


def test_worked_vector_v1_frames_that_touch_are_one_range_whatever_their_folios_but_in_73(currency):
    hold = currency.pin(iocb_of(memory(100, 101, 300), 8704, skew=512), 0)
    touching = ((0x64200, 7680),) if glues(currency) else ((0x64200, 3584), (0x65000, 4096))
    assert hold.ranges == (*touching, (0x12C000, 1024))


def test_a_hold_is_in_the_ledger_from_the_pin_to_the_release(currency):
    mm = memory(7, 33)
    iocb = iocb_of(mm, 8192)
    hold = currency.pin(iocb, 0)
    assert mm.ledger.holders(33) == (hold.token,)
    assert (
        mm.ledger.released_by(hold.token)
        == {
            "page": "bio_release_pages of its bio (page)",
            "phyr": "GupUnpin at the end of IO 1 (phyr: as a whole)",
            "unified": "GupUnpin at the end of IO 1 (phyr: as a whole)",
        }[currency.name]
    )
    currency.unpin(iocb, hold)
    assert mm.ledger.held == {}
    with pytest.raises(InvariantError):
        currency.unpin(iocb, hold)
    assert counts(mm) == [(1, 0)] * 2


def test_memory_that_was_read_into_is_dirty_afterwards_and_memory_that_was_written_from_is_not(currency):
    for write, dirty in ((True, 0), (False, PG_dirty)):
        mm = memory(7, 33)
        iocb = iocb_of(mm, 8192, write=write, simple=True)
        hold = currency.pin(iocb, 0)
        assert [folio.flags & PG_dirty for folio in mm.folios.states()] == [0, 0]
        currency.unpin(iocb, hold)
        assert [folio.flags & PG_dirty for folio in mm.folios.states()] == [dirty, dirty]


def test_rule_mm25_a_read_that_is_not_simple_marks_pages_before_the_io_and_all_else_after_it(currency):
    mm = memory(*range(1000, 1200))
    iocb = iocb_of(mm, 200 * 4096)
    hold = currency.pin(iocb, 0)
    assert hold.dirty_first == (currency.name == "page")
    currency.unpin(iocb, hold)
    assert {folio.flags & PG_dirty for folio in mm.folios.states()} == {0 if hold.dirty_first else PG_dirty}


@pytest.mark.parametrize(
    ("policy", "count"), [("page", 1025), ("folio", 1025), ("range", 1), ("lease", 1), ("none", 1)]
)
def test_phyr_counts_as_it_is_told_to(policy, count):
    mm = memory(7, 33)
    iocb = iocb_of(mm, 8192)
    phyr = PhyrCurrency(POLICIES[policy])
    hold = phyr.pin(iocb, 0)
    assert (phyr.policy, mm.ledger.held[hold.token].policy) == (policy, policy)
    assert counts(mm) == [(count, 0)] * 2
    phyr.unpin(iocb, hold)
    assert counts(mm) == [(1, 0)] * 2


def test_phyr_takes_a_chunk_of_ranges_at_a_time():
    iocb = iocb_of(memory(*range(1000, 1080, 2)), 40 * 4096)
    assert [len(hold.ranges) for hold in everything(PhyrCurrency(chunk=16), iocb)] == [16, 16, 8]


def test_phyr_cuts_a_chunk_to_whole_logical_blocks():
    limits = QueueLimits(logical_block_size=4096, physical_block_size=4096)
    iocb = iocb_of(memory(*range(1000, 1080, 2)), 32 * 4096, skew=512, limits=limits)
    holds = everything(PhyrCurrency(chunk=16), iocb)
    assert [hold.nbytes >> 12 for hold in holds] == [15, 15, 2]
    assert holds[1].ranges[0] == ((1030 << 12) + 512, 3584)


def test_phyr_in_chunks_has_what_comes_before_a_page_that_cannot_be_had():
    iocb = iocb_of(memory(*range(1000, 1080, 2)), 50 * 4096)
    phyr = PhyrCurrency(chunk=16)
    assert [phyr.pin(iocb, at << 12).nbytes >> 12 for at in (0, 16, 32)] == [16, 16, 8]
    assert "is not mapped" in refusal(phyr, iocb, 40 << 12)


@pytest.mark.parametrize("system", [name for name in EVERY if name != "phyr"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=repr)
def test_an_extraction_that_breaks_at_any_point_leaves_nothing_pinned(system, k, error, monkeypatch):
    mm = memory(*range(1000, 1008, 2))
    calls = []

    def breaks(*args, **named):
        calls.append(args)
        if len(calls) == k:
            raise error
        return gup.pin_user_pages(*args, **named)

    monkeypatch.setattr(peers, "pin_user_pages", breaks)
    iocb = iocb_of(mm, 16384)
    iocb.iov = tuple((VA + at * 4096, 4096) for at in (3, 1, 0, 2))
    with pytest.raises(type(error)):
        EVERY[system]().pin(iocb, 0)
    assert len(calls) == k
    assert mm.ledger.held == {}
    assert counts(mm) == [(1, 0)] * 4


@pytest.mark.parametrize("chunk", [1, 2, 16, 512])
def test_a_chunk_of_any_size_gets_through(chunk):
    iocb = iocb_of(memory(*range(1000, 1100, 2)), 49 * 4096, skew=2052)
    ranges = [part for hold in everything(PhyrCurrency(chunk=chunk), iocb) for part in hold.ranges]
    assert run_length(ranges) == PhyrCurrency().pin(iocb, 0).ranges


def test_a_pin_may_begin_in_the_middle_of_the_io(currency):
    hold = currency.pin(iocb_of(memory(7, 33), 8192), 4608)
    assert (hold.ranges, hold.nbytes) == (((0x21200, 3584),), 3584)


def test_what_was_pinned_can_be_let_go_of_and_leaves_nothing(currency):
    mm = memory(7, 33, 34)
    iocb = iocb_of(mm, 12288)
    hold = currency.pin(iocb, 0)
    currency.unpin(iocb, hold)
    assert counts(mm) == [(1, 0)] * 3


def test_a_read_needs_the_right_to_write_memory_and_a_write_to_read_it(currency):
    sentence = "gup: addr=0x7f0000000000 lies in r-- memory: no right to write to it (-EFAULT)"
    assert refusal(currency, iocb_of(memory(7, prot="r--"), 4096)) == sentence
    assert currency.pin(iocb_of(memory(7, prot="r--"), 4096, write=True), 0).nbytes == 4096


def test_nothing_mapped_is_efault(currency):
    iocb = iocb_of(memory(7), 4096)
    iocb.buf = 0x6000_0000_0000
    assert refusal(currency, iocb) == "gup: addr=0x600000000000 is not mapped (MM-4) (-EFAULT)"


def test_no_memory_left_is_enomem_and_nothing_is_held(currency):
    mm = memory(touch=False)
    for zone in mm.frames.buddy.zones:
        zone.offline_pages()
    assert "(-ENOMEM)" in refusal(currency, iocb_of(mm, 4096))
    assert counts(mm) == []


@pytest.mark.parametrize(("skew", "nbytes"), [(1, 4096), (2, 8192), (4094, 4096)])
def test_memory_that_no_device_can_address_is_einval_at_the_pin_or_elsewhere_in_older_kernels(currency, skew, nbytes):
    mm = memory(7, 33, 35)
    iocb = iocb_of(mm, nbytes, skew)
    if currency.name == "page" and currency.rules.aligned != "extract":  # DIO's entry looks, or the split (R8, R9)
        currency.unpin(iocb, hold := currency.pin(iocb, 0))
        assert hold.nbytes == nbytes
    else:
        who = "gup" if currency.name == "page" else "pread64"
        sentence = f"{who}: buf={VA + skew:#x} is not a multiple of 4 (O_DIRECT, ITER-5) (-EINVAL)"
        assert refusal(currency, iocb) == sentence
    assert counts(mm) == [(1, 0)] * 3


@pytest.mark.parametrize("rules", [R73, R618], ids=["7.3", "6.18"])
def test_unified_pins_everything_at_the_start_or_nothing_whatever_the_number_of_vectors(rules):
    mm = memory(*range(1000, 1600, 2))
    hold = UnifiedCurrency(rules).pin(iocb_of(mm, 300 * 4096), 0)
    assert (len(hold.ranges), hold.nbytes, hold.descriptor_bytes) == (300, 300 * 4096, 4800)
    UnifiedCurrency(rules).unpin(iocb_of(mm, 300 * 4096), hold)
    assert "is not mapped" in refusal(UnifiedCurrency(rules), iocb_of(mm, 301 * 4096))
    assert counts(mm) == [(1, 0)] * 300


def test_a_table_is_needed_for_each_page_where_pages_flow_and_for_none_elsewhere(currency):
    iocb = iocb_of(memory(7, 33, 35), 8192, skew=512)
    assert [currency.slots(iocb, start) for start in (0, 3584, 3585)] == (
        [3, 2, 2] if currency.name == "page" else [0, 0, 0]
    )


def test_zeros_go_to_pinned_memory_by_its_addresses_and_to_pages_by_a_fault(currency):
    mm = memory(7, 33, 35, touch=False)
    wiped = []
    mm.frames.wipe = lambda addr, nbytes: wiped.append((addr, nbytes))
    iocb = iocb_of(mm, 8192, skew=512)
    handle_mm_fault(mm, mm.space.vmas[0], 0, 3)
    pinned = None if currency.per_bio else currency.pin(iocb, 0).payload.slice(0, 4096)
    wiped.clear()
    assert currency.zero(iocb, 0, 4096, pinned) == 4096
    assert wiped == [(0x7200, 3584), (0x21000, 512)]


@pytest.mark.parametrize("rules", KERNELS.values(), ids=lambda rules: rules.name)
def test_zeros_end_where_memory_may_not_be_written(rules):
    iocb = iocb_of(memory(7, 33, prot="r--"), 8192)
    assert PageCurrency(rules).zero(iocb, 0, 8192, None) == 0


def test_phyr_pins_everything_at_the_start_or_nothing():
    mm = memory(*range(1000, 1300))
    hold = PhyrCurrency().pin(iocb_of(mm, 300 * 4096), 0)
    assert (hold.ranges, hold.nbytes) == (((1000 << 12, 300 * 4096),), 300 * 4096)
    assert "is not mapped" in refusal(PhyrCurrency(), iocb_of(mm, 301 * 4096))
    assert counts(mm) == [(1, 0)] * 300


def test_phyr_looks_at_no_struct_page_and_counts_a_range_once():
    iocb = iocb_of(memory(100, 101, 300), 12288)
    hold = PhyrCurrency().pin(iocb, 0)
    assert (hold.atomics, hold.struct_pages, hold.descriptor_bytes) == (2, 0, 32)
    assert PhyrCurrency().unpin(iocb, hold) == (2, 0)
    assert counts(iocb.mm) == [(1, 0)] * 3


def test_page_counts_on_every_page():
    iocb = iocb_of(memory(100, 101, 300), 12288)
    hold = PageCurrency(R618).pin(iocb, 0)
    assert counts(iocb.mm) == [(1025, 0)] * 3
    assert (hold.atomics, hold.struct_pages, hold.descriptor_bytes) == (3, 3, 64)
    assert PageCurrency(R618).unpin(iocb, hold) == (3, 3)


@pytest.mark.parametrize(
    ("vectors", "nbytes"), [(1, 64), (4, 64), (5, 256), (16, 256), (17, 1024), (65, 2048), (129, 4096), (256, 4096)]
)
def test_page_takes_its_vector_table_from_a_slab(vectors, nbytes):
    hold = PageCurrency(R618).pin(iocb_of(memory(*range(1000, 1000 + 2 * vectors, 2)), vectors * 4096), 0)
    assert (len(hold.ranges), hold.descriptor_bytes) == (vectors, nbytes)


def test_page_rule_r4_a_bio_ends_with_its_256th_vector():
    iocb = iocb_of(memory(*range(1000, 1600, 2)), 300 * 4096)
    assert [len(hold.ranges) for hold in everything(PageCurrency(R618), iocb)] == [256, 44]


def test_page_rule_r4_it_is_vectors_that_count_not_pages():
    iocb = iocb_of(memory(*range(1000, 1600)), 600 * 4096)
    assert [(len(hold.ranges), hold.nbytes >> 12) for hold in everything(PageCurrency(R618), iocb)] == [(1, 600)]


def test_page_rule_r4_the_256th_vector_is_one_page_even_if_the_next_would_touch():
    pfns = [*range(1000, 1512, 2), 1511, 1512, 1513]
    iocb = iocb_of(memory(*pfns), len(pfns) * 4096)
    holds = everything(PageCurrency(R618), iocb)
    assert [len(hold.ranges) for hold in holds] == [256, 1]
    assert holds[0].ranges[-1] == (1510 << 12, 4096)
    assert holds[1].ranges == ((1511 << 12, 12288),)


def test_page_rule_r3_a_huge_folio_is_one_vector_and_one_atomic_a_batch():
    iocb = iocb_of(memory(1024, order=9), 1 << 20)
    (hold,) = everything(PageCurrency(R618), iocb)
    assert hold.ranges == ((0x400000, 1 << 20),)
    assert (hold.ptes, hold.struct_pages, hold.atomics) == (256, 256, 1)


def test_page_rule_r5_a_bio_is_trimmed_to_whole_logical_blocks():
    limits = QueueLimits(logical_block_size=4096, physical_block_size=4096)
    mm = memory(*range(1000, 1600, 2))
    iocb = iocb_of(mm, 298 * 4096, skew=512, limits=limits)
    holds = everything(PageCurrency(R618), iocb)
    assert [hold.nbytes for hold in holds] == [255 * 4096, 43 * 4096]
    assert holds[0].ranges[-1] == (1510 << 12, 512)
    assert holds[1].ranges[0] == ((1510 << 12) + 512, 3584)
    assert mm.folios.phys_to_folio(1510 << 12).refcount == 2049
    for hold in holds:
        PageCurrency(R618).unpin(iocb, hold)
    assert counts(mm) == [(1, 0)] * 300


def test_page_rule_r5_pages_that_fall_off_the_end_are_let_go_of():
    limits = QueueLimits(logical_block_size=8192, physical_block_size=8192)
    mm = memory(7, 33, 35)
    iocb = iocb_of(mm, 16384, limits=limits)
    hold = PageCurrency(R618).pin(iocb, 0)
    assert (hold.nbytes, len(hold.ranges)) == (8192, 2)
    assert mm.folios.by_head[35].refcount == 1


def test_page_rule_r6_what_could_be_pinned_is_a_short_bio():
    mm = memory(7, 33)
    iocb = iocb_of(mm, 16384)
    assert PageCurrency(R618).pin(iocb, 0).nbytes == 8192
    assert "addr=0x7f0000002000 is not mapped" in refusal(PageCurrency(R618), iocb, 8192)


def test_page_less_than_one_logical_block_is_efault_and_nothing_stays_pinned():
    mm = memory(7)
    assert "(-EFAULT)" in refusal(PageCurrency(R618), iocb_of(mm, 4096, skew=4092))
    assert counts(mm) == [(1, 0)]


def test_page_whatever_goes_wrong_between_two_batches_lets_go_of_the_first(monkeypatch):
    mm = memory(*range(1000, 1300))
    calls = []

    def fault(*_args, **_named):
        calls.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(follow, "handle_mm_fault", fault)
    mm.space.vmas[0].table.clear(260, 261)
    with pytest.raises(RuntimeError):
        everything(PageCurrency(R618), iocb_of(mm, 300 * 4096))
    assert calls == [1]
    assert counts(mm) == [(1, 0)] * 300


@given(
    pfns=st.lists(st.integers(1, 900), min_size=1, max_size=40, unique=True),
    skew=st.integers(0, 1023).map(lambda n: n * 4),
    data=st.data(),
)
@settings(deadline=None, max_examples=150)
def test_invariant_7_every_currency_names_the_same_bytes_and_phyrs_are_the_fewest(pfns, skew, data):
    """All are, run-length encoded, what the page tables say; phyrs are that already."""
    most = (len(pfns) * 4096 - skew) // 512
    if most < 1:
        return
    sectors = data.draw(st.integers(1, most))
    expected = walked(pfns, skew, sectors * 512)
    for name, kind in EVERY.items():
        iocb = iocb_of(memory(*pfns), sectors * 512, skew)
        holds = everything(kind(), iocb)
        ranges = [part for hold in holds for part in hold.ranges]
        assert [part for hold in holds for part in hold.payload.vecs] == ranges
        assert tuple(run_length(ranges)) == expected
        assert name != "phyr" or tuple(ranges) == expected
        for hold in holds:
            kind().unpin(iocb, hold)
        assert all(count == (1, 0) for count in counts(iocb.mm))


@given(
    prots=st.lists(st.sampled_from(["rw-", "rw-", "rw-", "r--", "---"]), min_size=1, max_size=12),
    write=st.booleans(),
    name=st.sampled_from([*EVERY]),
)
@settings(deadline=None, max_examples=200)
def test_invariant_9_the_first_page_that_cannot_be_had_decides_and_those_before_it_are_let_go_of(prots, write, name):
    mm = memory(*range(1000, 1000 + 2 * len(prots), 2))
    for index, prot in enumerate(prots):
        do_mprotect(mm, VA + index * 4096, 4096, prot)
    reach = next((at for at, prot in enumerate(prots) if ("r" if write else "w") not in prot), len(prots))
    iocb, currency = iocb_of(mm, len(prots) * 4096, write=write), EVERY[name]()
    if reach == len(prots) or (reach and currency.per_bio):
        hold = currency.pin(iocb, 0)
        assert hold.nbytes == reach * 4096
        currency.unpin(iocb, hold)
    else:
        assert f"addr={VA + reach * 4096:#x} lies in {prots[reach]} memory: no right" in refusal(currency, iocb)
    assert mm.ledger.held == {}
    assert set(counts(mm)) == {(1, 0)}


def walked(pfns, skew, nbytes):
    """Translate byte ranges page by page, and join what touches."""
    out = []
    for at in range(skew // 4096, -(-(skew + nbytes) // 4096)):
        lo, hi = max(skew, at * 4096), min(skew + nbytes, at * 4096 + 4096)
        addr = pfns[at] * 4096 + lo % 4096
        if out and sum(out[-1]) == addr:
            out[-1] = (out[-1][0], out[-1][1] + hi - lo)
        else:
            out.append((addr, hi - lo))
    return tuple(out)
