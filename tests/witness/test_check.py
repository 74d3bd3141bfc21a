"""Predicted against recorded, line by line."""

import errno

import pytest

from labkit.errors import BadInput
from labkit.witness.capture import Capture
from labkit.witness.check import parts, residual, result_of
from labkit.witness.predict import predict

PAGE = "one-page-sixteen-times"


def lines(row, **changed):
    capture = Capture.of(row | changed)
    return residual(capture, predict(capture))


def test_another_result_is_a_line(captured):
    assert lines(captured("01"), result=[512]) == ["01-one-page-read: result[0]: predicted 4096, recorded 512"]


def test_another_request_is_a_line_with_sectors_and_length(captured):
    row = captured("one-page-at-an-odd-byte")
    row["events"][-1]["nr_sector"] = 2
    assert lines(row) == [
        "one-page-at-an-odd-byte: requests[0]: predicted 0+1, recorded 0+2",
        "one-page-at-an-odd-byte: events[4]: predicted block_rq_issue+0+1, recorded block_rq_issue+0+2",
    ]


def test_another_vector_is_a_line_with_the_first_vectors(captured):
    row = captured(PAGE)
    row["bios"][0]["bvecs"].pop()
    three = ", ".join(["0x55000+4096"] * 3)
    assert lines(row) == [
        f"{PAGE}: bios[0]: predicted sector 0: 4 vectors {three}, 0x55000+4096, recorded sector 0: 3 vectors {three}"
    ]


def test_a_bio_that_nobody_predicted_is_a_line(captured):
    row = captured("01")
    row["bios"] *= 2
    (line,) = lines(row)
    assert line.startswith("01-one-page-read: bios[1]: predicted nothing, recorded sector 0: 1 vectors 0x")


def test_a_bio_that_was_not_recorded_is_a_line(captured):
    (line,) = lines(captured("01"), bios=[], events=None)
    assert line.endswith("recorded nothing")


def test_without_vectors_bios_are_compared_by_what_their_tracepoint_told(captured):
    row = captured("05")
    assert lines(row, bios=[]) == lines(row, bios=None) == []
    first = next(event for event in row["events"] if event["event"] == "block:block_bio_queue")
    first["nr_sector"] -= 1
    found = lines(row, bios=[])
    assert [line.partition(":")[2][:8] for line in found] == [" bios[0]", " events["]


def test_what_is_somebody_elses_is_not_compared(captured):
    row = captured("01")
    row["events"] += [event | {"by": "foreign", "sector": 99} for event in row["events"] if "sector" in event]
    assert lines(row) == []
    assert lines(row | {"events": [event | {"by": "other"} for event in row["events"]]})


def test_every_part_that_was_recorded_has_its_lines(captured):
    row = captured("05")
    capture = Capture.of(row | {"result": [1]})
    found = parts(capture, predict(capture))
    assert list(found) == ["result", "bios", "splits", "requests", "events"]
    assert [name for name, each in found.items() if each] == ["result"]
    starved = Capture.of(captured("37"))
    assert "events" not in parts(starved, predict(starved))


def test_of_many_lines_the_first_are_told(captured):
    row = captured("33")
    for event in row["events"]:
        event["sector"] = 1 if "sector" in event else None
    found = lines(row)
    assert sum("requests[" in line for line in found) == 8
    assert [line for line in found if line.endswith(" more differ")]


def test_where_order_is_not_certain_any_order_is_right(captured):
    row = captured("37")
    row["events"].reverse()
    assert lines(row) == []
    row["events"] = [event for event in row["events"] if not event["event"].endswith("rq_issue")]
    assert lines(row)


def test_only_the_vectors_that_were_recorded_are_compared(captured):
    row = captured(PAGE)
    row["bios"][0] |= {"bvecs": row["bios"][0]["bvecs"][:2], "bvecs_truncated": True}
    assert lines(row) == []


def test_pages_of_the_page_cache_are_compared_by_length(captured):
    row = captured("603")
    cached = next(bio for bio in row["bios"][1:] if bio["kind"] == "queue")
    cached["bvecs"][0][0] += 4096
    assert lines(row) == []
    cached["bvecs"][0][1] -= 512
    assert lines(row)


@pytest.mark.parametrize("part", ["result", "bios", "events"])
def test_what_was_not_recorded_is_not_compared(part, captured):
    assert lines(captured("05"), **{part: None}) == []


def test_nothing_recorded_is_nothing_to_compare_with(captured):
    with pytest.raises(BadInput, match="01-one-page-read has nothing recorded to compare with") as raised:
        lines(captured("01"), result=None, bios=None, events=None)
    assert raised.value.errno == errno.ENODATA


@pytest.mark.parametrize("broken", [{"events": [{}]}, {"bios": [{"event": "queue", "sector": "x"}]}])
def test_a_broken_record_is_refused(broken, captured):
    with pytest.raises(BadInput, match="has a broken record"):
        lines(captured("01"), **broken)


def test_an_errno_is_spelled_as_its_format_does(captured):
    text, number = (Capture.of(captured(name)) for name in ("03", "022"))
    assert result_of(text, predict(text)) == ["-EINVAL"]
    assert result_of(number, predict(number)) == [-22]


def test_on_a_file_a_ring_may_merge_otherwise_and_send_again(captured):
    row = captured("46")
    row |= {"device": row["device"] | {"path": "iomap"}, "extents": [[0, 0, 1 << 28, ["LAST"]]], "bios": []}
    capture = Capture.of(row)
    found = predict(capture)
    assert (found.ordered, found.merges) == (False, False)
    issue = next(event for event in row["events"] if event["event"].endswith("rq_issue"))
    parted = [issue | {"nr_sector": 200}, issue | {"sector": issue["sector"] + 200, "nr_sector": 56}]
    again = [event for event in row["events"] if event["event"].endswith("bio_queue")][:3]
    events = [event for event in row["events"] if event is not issue] + parted + again
    assert lines(row, events=events) == []
    (line,) = lines(row, events=[event for event in events if event is not parted[1]])
    assert ": requests[0]: predicted 0+256, recorded 0+200" in line


def test_a_bio_that_was_recorded_in_part_is_known_by_its_sector_where_bios_have_no_order(captured):
    row = captured("46-uring-batch-32")
    row["limits"] |= {"scheduler": "none [mq-deadline]"}
    row["bios"].reverse()
    row["bios"][0] |= {"bvecs": [], "bvecs_truncated": True}
    assert not predict(Capture.of(row)).ordered
    assert lines(row) == []
