"""What was seen, what is inferred, what is not shown."""

from labkit.trace.events import BlockPlug, Mmap
from labkit.witness.capture import Capture
from labkit.witness.replay.seen import seen
from labkit.witness.replay.tale import Tale


def test_records_are_counted_as_seen_or_named_as_inferred(captured):
    capture = Capture.of(captured("01"))
    tale, row = Tale(capture), seen(capture)[0]
    tale.tell(BlockPlug(1, 1))
    tale.sum_up(BlockPlug(2, 1))
    tale.infer(Mmap(0, 0, 0, 4096, "r--", "x"), "from a map")
    tale.fold(row)
    tale.skip(row)
    assert (len(tale.records), tale.seen, tale.inferred) == (3, 1, {"Mmap": "from a map"})
    assert (tale.folded, tale.unshown) == ({row.name: 1}, {row.name: 1})
