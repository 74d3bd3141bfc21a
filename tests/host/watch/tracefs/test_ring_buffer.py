import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.host.watch.tracefs.formats import Event, Format
from labkit.host.watch.tracefs.ring_buffer import SubBuffer

HEADER = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"
)
PADDING, EXTEND, STAMP = 29, 30, 31
LONGEST = 28 * 4
TOP = (1 << 59) - 1


def word(kind, delta, *more):
    return struct.pack(f"={1 + len(more)}I", delta << 5 | kind, *more)


def record(data, delta=0):
    """Encode `data`, a multiple of 4 bytes, written `delta` ns after what was before."""
    if 0 < len(data) <= LONGEST:
        return word(len(data) // 4, delta) + data
    return word(0, delta, len(data) + 4) + data


def page(body, t=0, flags=0, behind=b""):
    """Return the sub-buffer with the records `body`."""
    return (struct.pack("=QQ", t, len(body) | flags) + body + behind).ljust(4096, b"\0")


def read(raw):
    """Return (ns, bytes of data up to the end of the page) of each record in `raw`."""
    return [(t, raw[at:]) for t, at in SubBuffer(HEADER).records(raw)]


def times(body, t=0):
    return [when for when, _ in read(page(body, t))]


def test_a_real_sub_buffer_has_the_events_that_were_recorded(recorded):
    layout = SubBuffer(recorded["header_page"])
    formats = {each.number: each for each in (Format(*row) for row in recorded["formats"].items())}
    events = [
        formats[int.from_bytes(raw[at : at + 2], "little")].event(t, cpu, raw, at)
        for cpu, raw in recorded["pages"]
        for t, at in layout.records(raw)
    ]
    assert layout.nbytes == 4096
    assert sorted(events) == sorted(Event(*row) for row in recorded["events"])


def test_the_kernel_tells_the_same_of_them(recorded):
    line = re.compile(r" *(.+)-(\d+) +\[(\d+)\] \S+ +(\d+)\.(\d{6}): (?:block_)?\w+(.*)")
    assert len(recorded["trace"]) == len(recorded["events"]) == 38
    for text, row in zip(recorded["trace"], recorded["events"], strict=True):
        event, seen = Event(*row), line.fullmatch(text)
        _, pid, cpu, seconds, micros, said = seen.groups()
        assert (event.pid, event.cpu) == (int(pid), int(cpu))
        assert abs(event.t - int(seconds + micros) * 1000) <= 500
        if event.name.startswith("block:") and "sector" in event.fields:
            assert event.fields["dev"] == 7 << 20
            assert f"{event.fields['rwbs']} " in said
            assert f" {event.fields['sector']} " in said


def test_the_time_of_a_record_is_the_pages_and_all_deltas_before_it():
    body = record(b"aaaa", 0) + record(b"bbbbcccc", 5) + record(b"dddd", (1 << 27) - 1)
    assert times(body, 1000) == [1000, 1005, 1005 + (1 << 27) - 1]


def test_a_long_record_has_its_length_in_the_next_word():
    raw = page(record(b"x" * 200, 7) + record(b"last", 1))
    (first, data), (second, last) = read(raw)
    assert (first, second) == (7, 8)
    assert data.startswith(b"x" * 200)
    assert last.startswith(b"last")


def test_a_time_that_is_too_long_for_27_bits_is_extended():
    assert times(word(EXTEND, 3, 2) + record(b"aaaa", 1), 10) == [10 + 3 + 2 * (1 << 27) + 1]


def test_a_time_stamp_has_59_bits_and_the_others_are_those_of_the_page():
    stamp = word(STAMP, 3, 2) + record(b"aaaa", 1)
    at = 3 + 2 * (1 << 27)
    assert times(stamp, 10) == [at + 1]
    assert times(stamp, (5 << 59) + 10) == [(5 << 59) + at + 1]
    assert times(stamp, (5 << 59) + at + 10) == [(6 << 59) + at + 1]


def test_a_record_that_was_taken_back_is_padding_whose_time_counts():
    taken = word(PADDING, 9, 8) + b"gone"
    assert times(record(b"aaaa", 1) + taken + record(b"bbbb", 1), 100) == [101, 111]


def test_a_delta_of_one_stands_for_none_in_padding():
    taken = word(PADDING, 1, 8) + b"gone"
    assert times(record(b"aaaa", 1) + taken + record(b"bbbb", 1), 100) == [101, 102]


def test_padding_without_time_is_the_rest_of_the_page():
    assert times(record(b"aaaa", 1) + word(PADDING, 0) + record(b"left", 1)) == [1]


def test_what_was_not_committed_is_not_read():
    assert times(b"") == []
    assert [t for t, _ in read(page(record(b"aaaa", 1), behind=record(b"bbbb", 1)))] == [1]


@pytest.mark.parametrize("body", [word(2, 0) + b"aaaa", word(0, 0), word(0, 0, 500), word(EXTEND, 0), b"\4\0"])
def test_a_torn_record_is_an_error(body):
    with pytest.raises(SyscallError, match=r"tracefs: a sub-buffer of \d+ B has a torn record \(-EBADMSG\)"):
        read(page(body))


def test_a_commit_that_is_larger_than_the_page_is_an_error():
    with pytest.raises(SyscallError, match="torn record"):
        read(page(record(b"a" * 4068) + record(b"b" * 4000))[:4096])


def test_lost_events_are_flagged_and_counted_where_there_is_room():
    layout, body = SubBuffer(HEADER), record(b"aaaa", 1)
    assert layout.missed(page(body)) == 0
    assert layout.missed(page(body, flags=1 << 31)) == 1
    assert layout.missed(page(body, flags=3 << 30, behind=struct.pack("=Q", 388))) == 388
    assert times(body) == [t for t, _ in read(page(body, flags=3 << 30, behind=struct.pack("=Q", 388)))]


def test_a_header_of_another_size_is_read_as_it_says():
    small = HEADER.replace("size:8;\tsigned:1", "size:4;\tsigned:1").replace(
        "offset:16;\tsize:4080", "offset:12;\tsize:500"
    )
    layout = SubBuffer(small)
    raw = (struct.pack("=QI", 50, 8) + record(b"aaaa", 1)).ljust(512, b"\0")
    assert layout.nbytes == 512
    assert layout.records(raw) == [(51, 16)]


def test_what_is_no_header_is_refused():
    with pytest.raises(SyscallError, match="tracefs: events/header_page has no timestamp, commit or data"):
        SubBuffer(HEADER.replace("commit", "else"))


def written(rows):
    """Encode `rows` of (kind, ns, words of data), and return the bytes with the (ns, data) that are to be read."""
    body, due, t = b"", [], 10**12
    for kind, ns, words in rows:
        data = struct.pack(f"={words}I", *range(words))
        if kind == "stamp":
            body += word(STAMP, t + ns & (1 << 27) - 1, t + ns >> 27)
            t += ns
        elif kind == "extend":
            body += word(EXTEND, ns & (1 << 27) - 1, ns >> 27)
            t += ns
        elif kind == "padding":
            body += word(PADDING, ns % 1000 + 2, 4 + len(data)) + data
            t += ns % 1000 + 2
        else:
            t += ns % (1 << 27)
            body += record(data, ns % (1 << 27))
            due.append((t, data))
    return page(body, 10**12), due


ROWS = st.tuples(
    st.sampled_from(["record", "record", "stamp", "extend", "padding"]),
    st.integers(0, (1 << 40) - 1),
    st.integers(0, 60),
)


@given(st.lists(ROWS, max_size=15))
def test_whatever_is_written_is_read(rows):
    raw, due = written(rows)
    found = read(raw)
    assert [t for t, _ in found] == [t for t, _ in due]
    assert all(seen.startswith(data) for (_, seen), (_, data) in zip(found, due, strict=True))


@given(st.binary(max_size=300))
def test_rubbish_is_records_or_an_error_and_never_anything_else(body):
    raw = page(body)
    try:
        found = SubBuffer(HEADER).records(raw)
    except SyscallError:
        return
    assert all(16 < at <= 16 + len(body) for _, at in found)
