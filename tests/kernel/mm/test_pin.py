import pytest

from labkit.errors import InvariantError
from labkit.kernel.mm.pin import PinLedger
from labkit.trace.snapshot import PinState

BOTH = ((0x7000, 4096), (0x21000, 4096))


def test_a_pin_is_held_as_a_whole_until_its_token_comes_back():
    ledger = PinLedger()
    token = ledger.pin(3, 50, "range", BOTH)
    assert ledger.held == {1: PinState(1, 3, 50, "range", BOTH)}
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
    ],
)
def test_a_byte_is_covered_by_any_pin_that_touches_it(addr, nbytes, covered):
    ledger = PinLedger()
    ledger.pin(1, 0, "range", BOTH)
    assert ledger.covers(addr, nbytes) is covered
