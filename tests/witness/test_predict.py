"""What a kernel makes of an IO, from its buffer, limits and extents alone."""

import pytest

from labkit.errors import BadInput
from labkit.witness.capture import Capture
from labkit.witness.check import residual
from labkit.witness.predict import Predictor, predict

KNOWN = ("format", "id", "kernel", "config", "device", "limits", "io", "registered", "batch", "extents", "layout")


def test_a_real_capture_is_predicted_exactly(real):
    capture = Capture.of(real)
    assert residual(capture, predict(capture)) == []


def test_a_capture_made_by_hand_is_predicted_as_the_rules_say(by_hand):
    capture = Capture.of(by_hand)
    assert residual(capture, predict(capture)) == []


def test_what_was_recorded_plays_no_part_in_the_prediction(real):
    assert predict(Capture.of({name: real[name] for name in KNOWN if name in real})) == predict(Capture.of(real))


def test_one_predictor_predicts_any_number_of_ios_alike(real):
    capture = Capture.of(real)
    predictor = Predictor(capture)
    first = predictor.predict(capture.io)
    assert predictor.predict(capture.io) == first == predict(capture)


def test_a_page_of_a_loop_device_is_five_events(captured):
    found = predict(Capture.of(captured("01")))
    assert found.result == [4096]
    assert found.events == [
        ["block_bio_queue", 0, 8], ["block_getrq", 0, 8], ["block_plug"], ["block_unplug", 1], ["block_rq_issue", 0, 8],
    ]  # fmt: skip


def test_a_split_tells_the_limit_that_it_met(captured):
    found = predict(Capture.of(captured("runs-of-17-pages")))
    assert found.splits == [[0, 1088]]
    assert found.whys == [("SPLIT-3d", "16 segments are all that max_segments=16 allows")]


@pytest.mark.parametrize(
    ("kernel", "rules", "proven"),
    [
        ("6.18.44-v657", "6.18", True),
        ("7.3.4+deb13-amd64", "7.3", True),
        ("6.5.0-14", "6.1", False),
        ("8.0", "7.3", False),
    ],
)
def test_a_kernel_is_predicted_by_the_rules_of_the_newest_that_is_not_newer(kernel, rules, proven, captured):
    found = predict(Capture.of(captured("01") | {"kernel": kernel}))
    assert (found.kernel, found.proven) == (rules, proven)


@pytest.mark.parametrize("kernel", ["", "linux", "5.15.0", "6"])
def test_a_kernel_without_rules_is_refused(kernel, captured):
    with pytest.raises(BadInput, match="capture: 01-one-page-read has no rules: kernel "):
        predict(Capture.of(captured("01") | {"kernel": kernel}))


def test_the_order_is_not_certain_where_tags_run_out(captured):
    assert not predict(Capture.of(captured("37"))).ordered
    assert predict(Capture.of(captured("33"))).ordered


def test_the_order_is_not_certain_where_a_scheduler_sorts(captured):
    assert not predict(Capture.of(captured("sorted"))).ordered


def test_the_order_is_not_certain_where_two_workers_send(captured):
    row = captured("fixed-of-512-pages")
    assert predict(Capture.of(row)).ordered
    assert not predict(Capture.of(row | {"io": row["io"] * 2})).ordered


def test_pages_of_the_page_cache_have_no_address(captured):
    row = captured("28")
    io = row["io"][0] | {"op": "r", "api": "pread"}
    found = predict(Capture.of(row | {"io": [io]}))
    assert found.result == [32768]
    assert [addr for addr, _ in found.bios[0][1]] != [None] * 3
    assert {addr for _, vecs in found.bios[1:] for addr, _ in vecs} == {None}


def test_several_calls_are_done_one_after_the_other(captured):
    row = captured("01")
    found = predict(Capture.of(row | {"io": row["io"] * 2}))
    assert found.result == [4096, 4096]
    assert found.requests == [[0, 8], [0, 8]]


@pytest.mark.parametrize(("rwf", "result"), [("RWF_NOWAIT", 4096), ("RWF_HIPRI", 4096), ("RWF_WHAT", -95)])
def test_flags_of_the_call_are_the_kernels(rwf, result, captured):
    row = captured("01")
    io = row["io"][0] | {"api": "preadv2", "rwf": rwf}
    assert predict(Capture.of(row | {"io": [io]})).result == [result]


def test_a_position_below_zero_is_einval(captured):
    row = captured("01")
    assert predict(Capture.of(row | {"io": [row["io"][0] | {"pos": -4096}]})).result == [-22]


def test_no_pieces_are_no_bytes(captured):
    row = captured("01")
    assert predict(Capture.of(row | {"io": [row["io"][0] | {"api": "preadv", "iov": []}]})).result == [0]


def test_registered_memory_that_nobody_told_of_is_refused(captured):
    row = captured("fixed-in-a-part-that-is-known")
    io = row["io"][0] | {"iov": [[0x20000, 4096]]}
    with pytest.raises(BadInput, match="the layout does not tell where it lies"):
        predict(Capture.of(row | {"io": [io]}))


def test_a_predictor_goes_on_after_an_io_that_was_refused(captured):
    row = captured("fixed-in-a-part-that-is-known")
    capture = Capture.of(row)
    unknown = Capture.of(row | {"io": [row["io"][0] | {"iov": [[0x20000, 4096]]}]})
    predictor = Predictor(capture)
    with pytest.raises(BadInput):
        predictor.predict(unknown.io)
    assert predictor.predict(capture.io) == predict(capture)


def test_who_unplugs_runs_the_queue_so_that_nothing_waits_for_the_next_entry_under_a_scheduler(captured):
    row = captured("46-uring-batch-32")
    row |= {"io": row["io"][:2], "batch": 2}
    row["limits"] |= {"scheduler": "none [mq-deadline]"}
    assert predict(Capture.of(row)).requests == [[0, 8], [8, 8]]
