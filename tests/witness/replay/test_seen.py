"""Events become plain rows."""

import pytest

from labkit.witness.capture import Capture
from labkit.witness.replay.seen import own, seen


@pytest.fixture
def rows(captured):
    """Return the rows of a capture with one event, changed."""

    def of(**changed):
        row = captured("01")
        event = next(event for event in row["events"] if "bio_queue" in event["event"])
        return seen(Capture.of(row | {"events": [event | changed]}))

    return of


def test_a_name_has_no_group(rows):
    assert [row.name for row in (*rows(), *rows(event="block_bio_queue"))] == ["block_bio_queue"] * 2


def test_minus_one_of_64_bits_is_minus_one(rows):
    (row,) = rows(sector=(1 << 64) - 1)
    assert row.number("sector") == -1


def test_numbers_may_be_text_and_device_addresses_are_hex(rows):
    (row,) = rows(dma_addr="7fe78200", size="3584")
    assert (row.number("dma_addr"), row.number("size")) == (0x7FE78200, 3584)


@pytest.mark.parametrize(
    ("by", "comm", "ours", "foreign", "worker"),
    [
        ("submitter", "python", True, False, False),
        ("other", "iou-wrk-42", True, False, True),
        ("other", "kworker/1:0", False, False, False),
        ("foreign", "iou-wrk-42", False, True, False),
    ],
)
def test_workers_of_the_ring_are_ours(rows, by, comm, ours, foreign, worker):
    (row,) = rows(by=by, comm=comm)
    assert (row.ours, row.foreign, row.worker) == (ours, foreign, worker)


def test_a_worker_is_one_in_events_that_do_not_say_its_name(captured):
    row = captured("01")
    queue = next(event for event in row["events"] if "bio_queue" in event["event"])
    named = queue | {"by": "other", "common_pid": 9, "comm": "iou-wrk-4238"}
    silent = {"t_ns": 1, "event": "iomap:iomap_dio_rw_begin", "by": "other", "common_pid": 9}
    assert [one.worker for one in seen(Capture.of(row | {"events": [silent, named, queue]}))] == [True, True, False]


def test_what_came_a_moment_before_the_call_began_with_it(rows):
    (row,) = rows(t_ns=-12)
    assert row.t == 0


def test_events_are_in_the_order_of_time(captured):
    row = captured("05")
    row["events"].reverse()
    times = [one.t for one in seen(Capture.of(row))]
    assert times == sorted(times)


def test_the_device_is_the_one_that_the_submitter_used(captured, rows):
    capture = Capture.of(captured("01"))
    assert own(capture, seen(capture)) == "7340032"
    assert own(capture, rows(by="other", comm="jbd2")) == ""
