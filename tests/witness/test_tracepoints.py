"""Tracepoints and records in the same words."""

from labkit.trace.events import BlockBioQueue, GupPin, IomapIterDstmap, Mmap, SysEnter
from labkit.witness.capture import Capture
from labkit.witness.tracepoints import kernel_events, model_events


def test_time_begins_with_the_call_on_both_sides(captured):
    values = captured("01-one-page")
    assert [seen.ns for seen in kernel_events(Capture.of(values))][:2] == [0, 11500]
    records = (
        Mmap(5, 0, 0, 4096, "rw-", "anon"),
        SysEnter(7, 1, "pread64", 3, 0, 8, 0),
        BlockBioQueue(9, 1, 1, 0, 8, 1, 0),
    )
    assert [(seen.ns, seen.text, seen.at) for seen in model_events(records)] == [
        (0, "sys_enter_pread64", 1), (2, "block_bio_queue 0+8", 2),
    ]  # fmt: skip


def test_the_same_thing_has_the_same_key(captured):
    values = captured("01-one-page")
    (queued,) = [seen for seen in kernel_events(Capture.of(values)) if seen.name == "block_bio_queue"]
    (mine,) = model_events((BlockBioQueue(9, 1, 1, 0, 8, 1, 0),))
    assert queued.key == mine.key == ("block_bio_queue", 0, 8)


def test_the_address_of_a_hole_is_minus_one(captured):
    values = captured("55-ext4-holes")
    holes = [seen for seen in kernel_events(Capture.of(values)) if seen.text.endswith("addr=-1")]
    (mine,) = model_events((IomapIterDstmap(0, 1, 12, -1, 4096, 4096, "hole"),))
    assert holes[0].key == mine.key == ("iomap_iter_dstmap", 4096, 4096, -1)


def test_completions_come_in_no_order_and_calls_do(captured):
    order = {seen.name: seen.ordered for seen in kernel_events(Capture.of(captured("38-uring")))}
    assert (order["io_uring_submit_req"], order["io_uring_complete"], order["block_rq_complete"]) == (
        True,
        False,
        False,
    )
    assert not order["sys_enter_io_uring_enter"]  # nothing in the model is the same


def test_what_has_no_tracepoint_is_told_by_its_own_name():
    (seen,) = model_events((GupPin(0, 1, 1, "page", 0, ((4096, 4096),), 1, 1, 1, 16),))
    assert (seen.name, seen.text, seen.ordered) == ("GupPin", "GupPin ranges=1", False)


def test_memory_alone_is_passed_over():
    assert model_events((Mmap(5, 0, 0, 4096, "rw-", "anon"),)) == []
