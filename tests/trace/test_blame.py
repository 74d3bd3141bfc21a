from labkit.trace.blame import who_holds
from labkit.trace.events import GupPin, GupUnpin, SysEnter
from labkit.trace.trace import Trace

VA = 0x7F00_0000_0000
STORY = Trace((
    SysEnter(5, 1, "pread64", 3, VA, 4096, 0),
    GupPin(10, 1, 1, "range", VA, ((0x7000, 4096),), 1, 1, 0, 16),
    GupPin(15, 2, 2, "page", VA, ((0x7800, 512),), 1, 1, 1, 16),
    GupUnpin(30, 1, 1, 1, 0),
))  # fmt: skip


def test_every_holder_is_told_with_the_time_that_ends_it():
    assert [str(holder) for holder in who_holds(STORY, 7, 20)] == [
        "IO 1 (pread64) since 10 ns, policy range, until GupUnpin at 30 ns",
        "nobody's IO since 15 ns, policy page, and no event lets go of it",
    ]


def test_before_and_after_somebody_else_or_nobody_holds_it():
    assert who_holds(STORY, 7, 9) == ()
    assert [holder.pin.io for holder in who_holds(STORY, 7, 30)] == [2]
    assert who_holds(STORY, 8, 20) == ()
