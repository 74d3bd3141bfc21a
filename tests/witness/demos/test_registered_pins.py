from itertools import cycle
from types import SimpleNamespace

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory.vmstat import Pins
from labkit.witness.demos import registered_pins
from labkit.witness.demos.registered_pins import DEMO, kernel, model

COUNTS = {
    "a read of 64 KiB by address": (16, 16), "registering the 64 KiB": (16, 0), "5 reads by READ_FIXED": (0, 0),
    "unregistering": (0, 16),
}  # fmt: skip


@pytest.fixture
def counters(monkeypatch, able):  # noqa: ARG001 - it skips
    """Count what `rounds` say, (acquired, released) for each step of a round, and again from the first one."""

    def count(*rounds, exact=True):
        state = [0, 0]
        steps = cycle([step for steps in rounds for step in ((0, 0), *steps)])

        def pins():
            state[:] = [a + b for a, b in zip(state, next(steps), strict=True)]
            return Pins(*state, exact)

        monkeypatch.setattr(registered_pins.vmstat, "pins", pins)

    return count


def test_io_of_a_registered_buffer_takes_no_pins():
    assert {step: (taken, gone) for step, taken, gone in DEMO.replay().seen.rows} == COUNTS


def test_the_model_counts_as_the_kernel_does():
    answers = {f"pages pinned, let go of by {step}": f"{a}, {b}" for step, (a, b) in COUNTS.items()}
    assert model() == answers


def test_what_others_pin_meanwhile_is_not_counted(counters):
    quiet = list(COUNTS.values())
    busy = [(taken + 300, gone + 7) for taken, gone in quiet]
    counters(busy, quiet, busy)
    assert [tuple(row[1:]) for row in kernel().rows] == quiet


def test_counters_that_never_stand_still_tell_nothing(counters):
    counters(*([(at, 100 - at)] * 4 for at in range(100)))
    with pytest.raises(NotAllowed, match="do not stand still: other processes pin memory, too; let them end"):
        kernel()


def test_counters_in_batches_tell_nothing_either(counters):
    counters(list(COUNTS.values()), exact=False)
    with pytest.raises(NotAllowed, match="counts in batches of about 30 pages, unless root asks"):
        kernel()


def test_a_read_that_fails_pins_nothing_and_is_no_answer(monkeypatch, able):  # noqa: ARG001 - it skips
    monkeypatch.setattr(registered_pins, "direct", SimpleNamespace(call=lambda *_: lambda: -14))
    monkeypatch.setattr(registered_pins.vmstat, "pins", lambda: Pins(0, 0, exact=True))
    with pytest.raises(SyscallError, match=r"read: 65536 B come as -14 \(-EFAULT\)"):
        kernel()
