"""Captures: what makes sense is read, and what does not is one sentence."""

import contextlib
import copy
import gzip
import json
import math
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import BadInput, LabkitError
from labkit.witness.capture import Capture
from labkit.witness.check import residual
from labkit.witness.predict import predict


def test_a_capture_is_read_with_gzip_and_without(captured, tmp_path):
    text = json.dumps(captured("01"))
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    assert Capture.load(tmp_path / "a.json") == Capture.load(tmp_path / "a.json.gz") == Capture.of(captured("01"))


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("a.json", b"", "is broken: Expecting value"),
        ("a.json", b"{", "is broken: Expecting property name"),
        ("a.json", b"\xff\xfe\x00", "is broken: 'utf-16-le' codec"),
        ("a.json", b"[" * 100_000, "is broken: "),
        ("a.json", b"[]", "is of format 'list', not labkit-capture-1 or"),
        ("a.json", b"{}", "is of format 'nothing', not"),
        ("a.json", b'{"format": "labkit-capture-2"}', "is of format 'labkit-capture-2', not"),
        ("a.json", b'{"format": "labkit-capture-1"}', "is broken at id: field required"),
        ("a.json", b'{"x": ' + b"9" * 5000 + b"}", "is broken: Exceeds the limit"),
        ("a.json.gz", b"not packed", "cannot be read: Not a gzipped file"),
        ("a.json.gz", gzip.compress(b"x" * 99)[:-9], "is broken: Compressed file ended"),
        ("a.json.gz", gzip.compress(bytes(65 << 20)), "is larger than 64 MiB"),
    ],
)
def test_a_file_that_is_no_capture_is_refused(name, data, rule, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as raised:
        Capture.load(tmp_path / name)
    assert str(raised.value).startswith(f"capture: {tmp_path / name} {rule}")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", type(tmp_path)("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(BadInput, match=r"capture: \S+ (is not a regular file|cannot be read: No such file)"):
            Capture.load(path)


def changed(row, path, value):
    """Return a copy of `row` with `value` in place of what is at `path`."""
    row = copy.deepcopy(row)
    at = row
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        (("id",), "a\nb", "is broken at id: string should match pattern"),
        (("io",), [], "is broken at io: list should have at least 1 item"),
        (("io", 0, "op"), "x", "is broken at io.0.op: input should be 'r' or 'w'"),
        (("io", 0, "op"), "w", "is broken: io 0 is pread with op='w'"),
        (("io", 0, "api"), "sendfile", "is broken at io.0.api: string should match"),
        (("io", 0, "pos"), 1 << 63, "is broken at io.0.pos: input should be less than"),
        (("io", 0, "pos"), math.nan, "is broken at io.0.pos: input should be a finite number"),
        (("io", 0, "iov"), [[4096, -1]], "is broken at io.0.iov.0.1: input should be greater than or equal to 0"),
        (("io", 0, "iov"), [[0, 512]] * 1025, "is broken at io.0.iov: list should have at most 1024 items"),
        (("io", 0, "iov"), [[0, 512]] * 2, "is broken: io 0 is pread of 2 pieces"),
        (("io", 0, "buf_index"), 0, "is broken: io 0 is pread with buf_index=0"),
        (("io", 0, "api"), "io_uring_read_fixed", "is broken: io 0 is io_uring_read_fixed with buf_index=None"),
        (("io", 0), {"api": "io_uring_read_fixed", "op": "r", "pos": 0, "iov": [[0, 512]], "buf_index": 3},
         "is broken: io 0 has buf_index=3, and 0 buffers are registered"),
        (("registered",), [[0, 1 << 31]], "is broken at registered.0.1: input should be less than or equal to"),
        (("device", "path"), "pipe", "is broken at device.path: input should be 'blkdev' or 'iomap'"),
        (("device", "path"), "iomap", "is broken: a file has no extents"),
        (("layout", "page_size"), 16384, "is broken at layout.page_size: input should be 4096"),
        (("layout", "before"), [[100, 1, 1]], "is broken at layout.before.0.0: input should be a multiple of 4096"),
        (("layout", "before"), [[4096, 1 << 60, 1]], "is broken at layout.before.0.1: input should be less than"),
        (("layout", "before"), [[4096, 1, -1]], "is broken at layout.before.0.2: input should be greater than"),
        (("layout", "before"), [[4096, 1, 2], [8192, 1, 1]], "layout at 0x2000 has two pages at one address"),
        (("limits", "max_segments"), -1, "has impossible limits: max_segments=-1 is negative"),
        (("limits", "max_segments"), math.inf, "has impossible limits: max_segments=inf is not a number"),
        (("limits", "max_sectors"), math.nan, "has impossible limits: max_sectors=nan is not a number"),
        (("limits", "max_segments"), 1.5, "has impossible limits: max_segments=1.5 is not a number"),
        (("limits", "nr_requests"), 1 << 17, "has impossible limits: nr_requests=131072 is more than 65536"),
        (("limits", "chunk_sectors"), 10**20, f"has impossible limits: chunk_sectors={10**20} is more than 32 bits"),
        (("limits", "virt_boundary_mask"), 10**30, f"has impossible limits: virt_boundary_mask={10**30} is more than"),
        (("limits", "virt_boundary_mask"), 4096, "has impossible limits: virt_boundary_mask=4096 is not a mask"),
        (("limits", "scheduler"), "[foo]", "has scheduler='[foo]', which marks none of none, mq-deadline"),
        (("limits", "scheduler"), "none kyber", "has scheduler='none kyber', which marks none of none, mq-deadline"),
        (("batch",), 2, "is broken: batch=2, and 1 are in io"),
        (("batch",), 10**99, "is broken: batch=1000000000"),
        (("limits", "logical_block_size"), 513, "has impossible limits: logical_block_size=513 is not a power of two"),
        (("limits",), {}, "has impossible limits: max_sectors_kb is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(path, value, rule, captured):
    with pytest.raises(BadInput) as raised:
        predict(Capture.of(changed(captured("01"), path, value)))
    assert re.fullmatch(rf"capture: (it |01-one-page-read )?{re.escape(rule)}.* \(-EINVAL\)", str(raised.value))


@pytest.mark.parametrize("text", ["mq-deadline", "none [mq-deadline] kyber"])
def test_a_scheduler_alone_is_the_one_that_sorts_as_the_marked_one_does(text, captured):
    assert predict(Capture.of(changed(captured("01"), ("limits", "scheduler"), text))).ordered is False


def test_entries_of_a_ring_and_calls_do_not_mix(captured):
    row = captured("two-entries")
    row["io"][1]["api"] = "pwrite"
    with pytest.raises(BadInput, match="io 1 is pwrite, io 0 is io_uring_write"):
        Capture.of(row)


def test_extents_that_overlap_are_refused(captured):
    row = changed(captured("extents-that-touch"), ("extents",), [[0, 0, 8192, []], [4096, 8192, 4096, []]])
    with pytest.raises(BadInput, match="capture: extents at 0 and 4096 overlap"):
        predict(Capture.of(row))


SMALL = ["01", "03", "28", "30", "38", "022", "603", "622", "two-entries", "fixed-of-512-pages",
         "extents-that-touch", "a-hole-of-4-kib", "one-page-sixteen-times",
         "half-a-block-in-each-iovec-of-7-3", "a-write-of-6-1"]  # fmt: skip
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.integers(-2, 9000), st.floats(),
    st.text(max_size=5),
    st.sampled_from([[], {}, [[]], [[0, 512]], "w", "r", "iomap", "io_uring_read", "6.1", 511, 512, 513, 1 << 62, -1]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_capture_with_anything_in_it_is_predicted_or_refused(data, captured):
    row = copy.deepcopy(captured(data.draw(st.sampled_from(SMALL))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = row
        while isinstance(at, (dict, list)) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not (isinstance(at[key], (dict, list)) and at[key]) or data.draw(st.integers(0, 5)) == 0:
                if data.draw(st.booleans()) or isinstance(at, list):
                    at[key] = copy.deepcopy(data.draw(ODD))
                else:
                    del at[key]
                break
            at = at[key]
    with contextlib.suppress(LabkitError):
        capture = Capture.of(row)
        residual(capture, predict(capture))


def test_what_cannot_be_saved_leaves_nothing_and_what_was_there(captured, tmp_path):
    place = tmp_path / "x.json"
    place.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        Capture.of(captured("01")).save(place)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
