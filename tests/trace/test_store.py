import gzip
import json
from pathlib import Path

import pytest

from labkit.errors import TraceError
from labkit.scatter.range_array import RangeArray
from labkit.trace import store
from labkit.trace.events import RECORDS, GupPin, Mmap, MmPageAlloc, SysExit
from labkit.trace.snapshot import MemoryMap
from labkit.trace.store import dumps, load, loads, save
from labkit.trace.trace import Trace

VA = 0x7F00_0000_0000
TRACE = Trace(
    (
        Mmap(0, 0, VA, 8192, "rw-", "anon 4 KiB"),
        MmPageAlloc(10, 0, VA, 0, 1, ((0x7000, 4096), (0x21000, 4096))),
        GupPin(20, 1, 1, "page", VA, ((0x7000, 4096), (0x21000, 4096)), 2, 2, 2, 64),
        SysExit(30, 1, "pread64", 8192),
    ),
    MemoryMap((("DMA32", 4096, 16384),), ((4096, 16, "slab"),)),
    {"kernel": "6.18", "scenario": {"size": 8192}},
)
PLAIN = json.loads(dumps(TRACE))


def text(**changes):
    return json.dumps(PLAIN | changes)


def refusal(data):
    with pytest.raises(TraceError) as caught:
        loads(data, "the file")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


def test_a_trace_survives_a_text():
    assert loads(dumps(TRACE)) == TRACE


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_trace_survives_a_file(tmp_path, name):
    save(TRACE, tmp_path / name)
    assert load(tmp_path / name) == TRACE


def test_a_name_in_gz_is_compressed_and_the_same_every_time(tmp_path):
    save(TRACE, tmp_path / "a.gz")
    save(TRACE, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()).decode() == dumps(TRACE)


def test_records_come_back_as_their_types():
    assert [type(rec).__name__ for rec in loads(dumps(TRACE)).records] == ["Mmap", "MmPageAlloc", "GupPin", "SysExit"]


def test_the_text_is_plain_json_with_a_version():
    assert PLAIN["format"] == "labkit-trace-1"
    assert PLAIN["records"][3] == ["SysExit", 30, 1, "pread64", 8192]
    assert PLAIN["zones"] == [["DMA32", 4096, 16384]]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("", "the file: Expecting value: line 1 column 1 (char 0) does not fit labkit-trace-1 (-EPROTO)"),
        ("[]", "the file: format 'list' does not fit labkit-trace-1 (-EPROTO)"),
        ("{}", "the file: format None does not fit labkit-trace-1 (-EPROTO)"),
        (text(format="labkit-trace-2"), "the file: format 'labkit-trace-2' does not fit labkit-trace-1 (-EPROTO)"),
        (text(records=[["Teleport", 1, 2]]), "the file: record 'Teleport' does not fit labkit-trace-1 (-EPROTO)"),
        (text(surprise=1), "the file: surprise: Unexpected keyword argument does not fit labkit-trace-1 (-EPROTO)"),
        (text(meta=[]), "the file: meta: Input should be a valid dictionary does not fit labkit-trace-1 (-EPROTO)"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(data, sentence):
    assert refusal(data) == sentence


@pytest.mark.parametrize(
    "row",
    [
        [],
        [5],
        [["SysExit"], 30, 1, "pread64", 8192],
        ["SysExit"],
        ["SysExit", 30, 1, "pread64"],
        ["SysExit", 30, 1, "pread64", 8192, 7],
        ["SysExit", "soon", 1, "pread64", 8192],
        ["SysExit", 30.5, 1, "pread64", 8192],
        ["SysExit", None, 1, "pread64", 8192],
        ["SysExit", 30, 1, 5, 8192],
        ["GupPin", 20, 1, 1, "page", VA, [[0x7000]], 2, 2, 2, 64],
        ["GupPin", 20, 1, 1, "page", VA, "7000", 2, 2, 2, 64],
    ],
)
def test_a_record_whose_fields_do_not_fit_is_refused(row):
    assert refusal(text(records=[row])).endswith("does not fit labkit-trace-1 (-EPROTO)")


@pytest.mark.parametrize(
    "rows",
    [
        [["GupUnpin", 20, 1, 77, 2, 0]],
        [["DmaUnmap", 20, 1, 77, 1, False]],
        [["BlockRqComplete", 20, 1, 77, 5, 0, 8, 0]],
        [["Munmap", 20, 0, VA, 4096]],
        [["MmPageFree", 20, 0, 0, [[0x7000, 4096]]]],
    ],
    ids=lambda rows: rows[0][0],
)
def test_a_story_that_lets_go_of_what_it_never_held_is_refused(rows):
    assert refusal(text(records=rows)).endswith("does not fit labkit-trace-1 (-EPROTO)")


@pytest.mark.parametrize(
    "row",
    [
        ["MmPageAlloc", 10, 0, VA, 0, 1, [[0, 1 << 62]]],
        ["MmPageAlloc", 10, 0, VA, 1 << 40, 1, [[0, 4096]]],
        ["GupPin", 20, 1, 1, "page", VA, [[0, 1 << 62]], 1, 1, 1, 64],
        ["Munmap", 40, 0, VA, 1 << 62],
    ],
    ids=lambda row: row[0],
)
@pytest.mark.timeout(10)
def test_a_range_of_exabytes_is_refused_at_once(row):
    assert refusal(text(records=[*PLAIN["records"], row])).endswith("does not fit labkit-trace-1 (-EPROTO)")


def test_time_does_not_run_backwards():
    rows = [["SysExit", 30, 1, "pread64", 0], ["SysExit", 20, 2, "pread64", 0]]
    assert refusal(text(records=rows)).endswith("does not fit labkit-trace-1 (-EPROTO)")


@pytest.mark.parametrize(
    "data", ["[" * 100_000, '{"format":' * 100_000, '{"format": "labkit-trace-1", "meta": ' * 50_000]
)
def test_deep_nesting_is_refused(data):
    assert refusal(data).endswith("does not fit labkit-trace-1 (-EPROTO)")


def test_bytes_that_are_no_text_are_refused():
    assert refusal(b"\xff\xfe\x00{").endswith("does not fit labkit-trace-1 (-EPROTO)")


@pytest.mark.parametrize("cut", [1, 10, 100, -1])
@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_cut_file_is_refused(tmp_path, name, cut):
    path = tmp_path / name
    save(TRACE, path)
    data = path.read_bytes()[:cut]
    if name.endswith("gz") and cut == -1:
        data = path.read_bytes()[:-60]
    path.write_bytes(data)
    with pytest.raises(TraceError, match=r"does not fit labkit-trace-1|cannot be read") as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_broken_gzip_is_refused(tmp_path):
    path = tmp_path / "run.json.gz"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(TraceError, match="cannot be read"):
        load(path)


def test_a_missing_file_keeps_the_errno_of_the_system(tmp_path):
    with pytest.raises(TraceError) as caught:
        load(tmp_path / "none.json")
    assert caught.value.errno_name == "-ENOENT"


def test_a_gzip_bomb_is_not_blown_up(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b"[" * (64 << 20)))
    asked = []
    monkeypatch.setattr(store, "loads", lambda data, source: asked.append(len(data)) or loads(data, source))
    with pytest.raises(TraceError):
        load(path)
    assert asked in ([], [1 << 20])


def test_a_plain_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_BYTES", 1 << 20)
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    with pytest.raises(TraceError):
        load(path)


def test_every_record_type_survives_the_store():
    sample = {"int": 3, "str": "x", "bool": True, "Ranges": ((4096, 8192),)}
    for name, cls in RECORDS.items():
        fields = [getattr(kind, "__name__", "Ranges") for kind in cls.__annotations__.values()]
        rec = cls(*(sample.get(field, ((4096, 8192),)) for field in fields))
        assert store._record(json.loads(json.dumps([name, *rec]))) == rec


LONG = tuple((pfn << 13, 4096) for pfn in range(100))


def long_pin(ranges):
    return Trace((GupPin(20, 1, 1, "range", VA, ranges, 100, 100, 0, 1600),))


def test_a_list_in_columns_is_written_as_pairs():
    assert dumps(long_pin(RangeArray.join([LONG]))) == dumps(long_pin(LONG))
    assert json.loads(dumps(long_pin(RangeArray.join([LONG]))))["records"][0][6][:2] == [[0, 4096], [8192, 4096]]


def test_a_long_list_comes_back_in_columns_and_a_short_one_in_a_tuple():
    (long,) = loads(dumps(long_pin(LONG))).records
    assert isinstance(long.ranges, RangeArray)
    assert long == long_pin(LONG).records[0]
    assert loads(dumps(long_pin(LONG[:4]))).records[0].ranges == LONG[:4]
    assert type(loads(dumps(long_pin(LONG[:4]))).records[0].ranges) is tuple


def test_a_long_list_with_an_address_that_no_machine_has_is_refused():
    assert "an address of more than 63 bits" in refusal(dumps(long_pin((*LONG, (1 << 63, 4096)))))
    assert "no machine has" in refusal(dumps(long_pin((*LONG, (0, 1 << 40)))))


def test_what_json_does_not_know_is_not_written():
    with pytest.raises(TypeError, match="Path"):
        dumps(Trace((), meta={"file": Path("x")}))
