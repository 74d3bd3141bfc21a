import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.media.null import Null, NullProfile


@pytest.mark.parametrize(("irqmode", "busy"), [(0, 0), (1, 0), (2, 10_000)])
def test_only_the_timer_takes_time_and_nobody_waits_for_another(irqmode, busy):
    medium = Null(Clock(), memoryview(bytearray(1 << 20)), NullProfile(1 << 20, irqmode, completion_nsec=10_000))
    assert [medium.reserve(0, 1 << 20, write=True) for _ in range(3)] == [(0, busy, 0)] * 3
    assert medium.flush() == 0
