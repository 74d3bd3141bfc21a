"""Many captures counted, and what other kernels' rules would say of them."""

import pytest

from labkit.errors import BadInput
from labkit.witness.capture import Capture
from labkit.witness.outcome import Outcome, Rates, fits, unproven
from labkit.witness.source import Asked, AskedIo

ASKED = Asked("a", "4KiB", "pread", (AskedIo("r", 0, ((0, 4096),)),))


def outcome(row, **changed):
    return Outcome.of(ASKED, Capture.of(row | changed))


def test_an_exact_capture_is_exact_in_every_part(captured):
    found = outcome(captured("05"))
    assert found.exact
    assert found.parts == dict.fromkeys(("result", "bios", "splits", "requests", "events"), True)
    assert (found.first, found.foreign, found.size) == ("", 0, 4096)


def test_what_differs_is_told_with_its_first_line(captured):
    found = outcome(captured("05"), result=[1])
    assert not found.exact
    assert [name for name, exact in found.parts.items() if not exact] == ["result"]
    assert found.first.endswith("predicted 1048576, recorded 1")


def test_rates_count_each_part_where_it_was_compared(captured):
    starved = outcome(captured("37"))
    assert not starved.ordered
    rates = Rates.of([outcome(captured("05")), outcome(captured("05"), result=[1]), starved])
    assert (rates.ios, rates.exact, rates.starved) == (3, 2, 1)
    assert rates.parts == {
        "result": (2, 3), "bytes": (0, 0), "bios": (3, 3), "splits": (3, 3), "requests": (3, 3), "events": (2, 2)
    }  # fmt: skip


def test_bytes_that_did_not_come_are_a_difference_like_any_other(captured):
    assert outcome(captured("05"), verified=True).parts["bytes"]
    found = outcome(captured("05"), verified=False)
    assert not found.exact
    assert found.first.endswith("bytes: memory is not what lies on the disk")


def test_foreign_events_are_counted_and_change_nothing(captured):
    row = captured("01")
    row["events"].append(row["events"][1] | {"by": "foreign", "sector": 80})
    assert (outcome(row).exact, outcome(row).foreign) == (True, 1)


def test_the_kernel_that_made_the_captures_fits_best(captured):
    every = [Capture.of(captured(name)) for name in ("01", "05", "07", "15", "42")]
    found = fits(every)
    assert (found[0].kernel, found[0].exact, found[0].ios) == ("6.18", 5, 5)
    assert min(fit.exact for fit in found) < 5
    assert [fit.exact for fit in found] == sorted((fit.exact for fit in found), reverse=True)


def test_what_nobody_measured_on_a_kernel_is_named_with_what_the_others_say():
    assert unproven("6.18.44-x") == {}
    found = unproven("6.19.1")
    assert found["folio_bound"] == {"6.1": False, "6.12": False, "6.18": False, "7.3": True}
    assert all(len(set(map(repr, values.values()))) > 1 for values in found.values())
    with pytest.raises(BadInput, match="is not one of"):
        unproven("plan9")
