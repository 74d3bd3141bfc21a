import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvariantError
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.scatter.range_array import RangeArray
from labkit.trace.snapshot import PinState

BOTH = ((0x7000, 4096), (0x21000, 4096))
MANY = RangeArray(np.arange(100) * 0x2000 + 0x100000, np.full(100, 4096))


def test_a_pin_is_held_as_a_whole_until_its_token_comes_back():
    ledger = PinLedger()
    token = ledger.pin(3, 50, "range", BOTH, 2)
    assert ledger.held == {1: PinState(1, 3, 50, "range", BOTH)}
    assert ledger.task_of(token) == 2
    assert ledger.unpin(token) == PinState(1, 3, 50, "range", BOTH)
    assert ledger.held == {}


def test_tokens_are_never_used_twice():
    ledger = PinLedger()
    first = ledger.pin(1, 0, "range", BOTH)
    ledger.unpin(first)
    assert ledger.pin(1, 0, "range", BOTH) == 2


def test_a_double_unpin_breaks_an_invariant():
    ledger = PinLedger()
    token = ledger.pin(1, 0, "page", BOTH)
    ledger.unpin(token)
    with pytest.raises(InvariantError) as caught:
        ledger.unpin(token)
    assert str(caught.value) == "mm: pin token 1 is not held, and is let go of (PHYR-17) (-EINVAL)"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("addr", "nbytes", "covered"),
    [
        (0x7000, 4096, True),
        (0x7FFF, 1, True),
        (0x6FFF, 2, True),
        (0x21800, 65536, True),
        (0x6000, 4096, False),
        (0x8000, 4096, False),
        (0x22000, 1, False),
        (0x0, 0x7000, False),
        (0x0, 0x1000000, True),
    ],
)
def test_a_byte_is_covered_by_any_range_that_touches_it(addr, nbytes, covered, many):
    ledger = PinLedger()
    ledger.pin(1, 0, "range", BOTH)
    if many:
        ledger.pin(1, 0, "range", MANY)
    assert ledger.covers(addr, nbytes) is covered


@pytest.mark.parametrize("policy", ["page", "folio", "none"])
def test_only_ranges_and_leases_keep_memory_by_being_in_the_ledger(policy):
    ledger = PinLedger()
    ledger.pin(1, 0, policy, BOTH)
    assert not ledger.covers(0x7000, 4096)
    assert not ledger.held_mask(np.array([7]), 4096).any()
    assert ledger.holders(7) == (1,)


def test_what_is_let_go_of_covers_nothing_any_more():
    ledger = PinLedger()
    tokens = [ledger.pin(1, 0, "range", ranges) for ranges in (BOTH, MANY)]
    assert ledger.covers(0x102000, 1)
    ledger.unpin(tokens[1])
    assert not ledger.covers(0x102000, 1)
    assert ledger.covers(0x7000, 1)


def test_a_mask_tells_which_folios_are_held():
    ledger = PinLedger()
    ledger.pin(1, 0, "range", ((0x7800, 512), (0x21000, 65536)))
    assert ledger.held_mask(np.array([6, 7, 8, 33, 48, 49]), 4096).tolist() == [False, True, False, True, True, False]
    assert ledger.held_mask(np.array([0, 16, 32, 48, 64]), 65536).tolist() == [True, False, True, True, False]


def test_every_policy_names_its_holders():
    ledger = PinLedger()
    for policy in ("page", "lease", "none"):
        ledger.pin(1, 0, policy, BOTH)
    ledger.pin(2, 0, "lease", MANY)
    assert ledger.holders(33) == (1, 2, 3)
    assert ledger.holders(0x100) == (4,)
    assert ledger.leases(((0x7000, 1), (0x102000, 1))) == (2, 4)
    assert ledger.holding(((0x9000, 4096),)) == ()


def test_who_waits_is_told_once():
    ledger, told = PinLedger(), []
    token = ledger.pin(9, 0, "lease", BOTH)
    ledger.on_release(token, told.append)
    assert list(ledger.waiters) == [token]
    ledger.unpin(token)
    assert (told, ledger.waiters) == ([PinState(1, 9, 0, "lease", BOTH)], {})


def test_nobody_waits_for_what_is_not_held():
    with pytest.raises(InvariantError, match="is not held, and is waited for"):
        PinLedger().on_release(1, print)


def test_each_pin_says_which_event_ends_it():
    ledger = PinLedger()
    assert ledger.released_by(ledger.pin(3, 0, "range", BOTH)) == "GupUnpin at the end of IO 3 (phyr: as a whole)"
    assert ledger.released_by(ledger.pin(3, 0, "page", BOTH, per_bio=True)) == "bio_release_pages of its bio (page)"


@given(
    pins=st.lists(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 900)), min_size=1, max_size=40), max_size=4),
    heads=st.lists(st.integers(0, 40), min_size=1, max_size=20, unique=True).map(sorted),
    order=st.integers(0, 3),
)
def test_the_index_says_what_a_look_at_every_range_says(pins, heads, order):
    ledger, size, unit = PinLedger(), 4096 << order, 64
    for pin in pins:
        ledger.pin(1, 0, "range", tuple((addr * unit, nbytes) for addr, nbytes in pin))
    starts = [head << 12 for head in heads]
    flat = [(addr * unit, nbytes) for pin in pins for addr, nbytes in pin]
    want = [any(addr < start + size and addr + nbytes > start for addr, nbytes in flat) for start in starts]
    assert [ledger.covers(start, size) for start in starts] == want
    assert ledger.held_mask(np.array(heads), size).tolist() == want
    assert [ledger.covers(start, size) for start in starts] == want


def test_no_io_lets_go_of_a_registration_and_it_says_so():
    ledger = PinLedger()
    sentence = "put_user_phyrs by whoever took it: no IO lets go of it (io_uring: unregister)"
    assert ledger.released_by(ledger.pin(0, 0, "range", BOTH)) == sentence


@pytest.mark.parametrize("ask", ["released_by", "task_of"])
def test_who_asks_about_a_token_that_is_not_held_is_told_in_a_sentence(ask):
    with pytest.raises(InvariantError) as caught:
        getattr(PinLedger(), ask)(7)
    assert str(caught.value) == "mm: pin token 7 is not held, and is asked about (-EINVAL)"


@pytest.mark.parametrize(
    ("policy", "ranges", "words"),
    [
        ("range", (), "a pin on nothing"),
        ("hope", BOTH, "by no policy"),
        ("page", ((0x7000, 0),), "less than a byte"),
        ("page", ((0x7000, 4096), (-1, 4096)), "before address 0"),
        ("range", RangeArray([0x7000], [-4096]), "less than a byte"),
    ],
)
def test_the_ledger_takes_no_pin_that_makes_no_sense(policy, ranges, words):
    ledger = PinLedger()
    with pytest.raises(InvariantError, match=f"^mm: .*{words}.*EINVAL"):
        ledger.pin(1, 0, policy, ranges)
    assert ledger.held == {}
    assert ledger.pin(1, 0, "range", BOTH) == 1
