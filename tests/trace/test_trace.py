from labkit.trace.events import Mmap, SysEnter, SysExit
from labkit.trace.meters import Meters
from labkit.trace.snapshot import MemoryMap, Snapshot
from labkit.trace.trace import Trace

RECORDS = (
    Mmap(0, 0, 0x7F00_0000_0000, 4096, "rw-", "anon"),
    SysEnter(10, 1, "pread64", 3, 0x7F00_0000_0000, 4096, 0),
    SysExit(20, 1, "pread64", 0),
)


def test_a_trace_is_its_records():
    trace = Trace(RECORDS)
    assert len(trace) == 3
    assert tuple(trace) == RECORDS
    assert trace.of(SysExit) == (SysExit(20, 1, "pread64", 0),)
    assert trace.end == 20


def test_an_empty_trace_ends_at_the_start():
    assert Trace(()).end == 0
    assert Trace(()).state_at(0) == Snapshot()
    assert Trace(()).meters() == Meters()
    assert Trace(()).memory == MemoryMap()


def test_a_trace_can_be_asked_for_any_instant():
    assert Trace(RECORDS).state_at(5).vmas == ((0x7F00_0000_0000, 4096, "rw-", "anon", 0),)
    assert Trace(RECORDS).state_at(-1) == Snapshot(t=-1)
