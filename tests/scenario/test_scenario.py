import json
import math

import pytest

from labkit.errors import BadInput, ScenarioError
from labkit.scenario import FOLIO_ORDER, KINDS, Scenario, parse_bytes

DEFAULTS = {
    "version": 1, "system": "phyr", "kernel": "7.3", "device": "nvme", "op": "read", "size": 1048576, "offset": 0,
    "folio": "4KiB", "fragmentation": 0.6, "iommu": "lazy", "ram": 4294967296, "seed": 1, "buffer": "mapped",
    "skew": 0, "count": 1, "fs": "raw", "extents": "mapped", "scatter": 0, "direct": True, "api": "pread",
    "pieces": 1, "flags": "", "sched": "none", "limits": {}, "completion": "phys_to_folio", "pin": None,
    "chunk": 0, "hazard": None, "at": "DeviceStart", "check": False, "stack": "none", "dma": None, "device_mask": 64,
    "route": "bridge", "acs": False, "sgl_threshold": 32768, "profile": {}, "faults": (),
}  # fmt: skip


def refusal(values):
    with pytest.raises(ScenarioError) as caught:
        Scenario.of(values)
    return str(caught.value)


def test_a_scenario_of_nothing_is_the_default_one():
    assert Scenario.of({}).model_dump() == DEFAULTS


def test_a_scenario_survives_json():
    scenario = Scenario.of({"size": "3 MiB", "folio": "64 KiB", "seed": 9})
    assert Scenario.of(json.loads(scenario.model_dump_json())) == scenario


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("4096", 4096),
        (4096, 4096),
        ("1 MiB", 1048576),
        ("1MiB", 1048576),
        ("8 KiB", 8192),
        ("1.5 KiB", 1536),
        ("1 kB", 1000),
        ("1 TiB", 1 << 40),
    ],
)
def test_a_size_is_a_number_or_text(text, nbytes):
    assert Scenario.of({"size": text, "ram": "16 TiB"}).size == nbytes


def test_a_folio_may_be_written_with_a_space():
    assert Scenario.of({"folio": "2 MiB"}).folio == "2MiB"
    assert (FOLIO_ORDER["4KiB"], FOLIO_ORDER["64KiB"], FOLIO_ORDER["2MiB"]) == (0, 4, 9)
    assert "8KiB" not in FOLIO_ORDER  # no anonymous folio is of order 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"system": "iov"},
            "scenario: system='iov': input should be 'phyr', 'page', 'unified' or 'premapped' (-EINVAL)",
        ),
        (
            {"device": "floppy"},
            (
                "scenario: device='floppy': input should be 'nvme', 'optane', 'virtio', 'ahci', 'disk', 'pmem', "
                "'null', 'delay' or 'loop' (-EINVAL)"
            ),
        ),
        ({"dma": "magic"}, "scenario: dma='magic': input should be 'direct', 'iommu', 'swiotlb' or 'xen' (-EINVAL)"),
        (
            {"dma": "direct", "iommu": "strict"},
            "scenario: it cannot be: dma=direct has no IOMMU, and iommu=strict (-EINVAL)",
        ),
        (
            {"dma": "iommu", "iommu": "off"},
            "scenario: it cannot be: dma=iommu needs iommu=lazy or iommu=strict, and it is off (-EINVAL)",
        ),
        ({"device_mask": 8}, "scenario: device_mask='8': input should be greater than or equal to 16 (-EINVAL)"),
        ({"op": "trim"}, "scenario: op='trim': input should be 'read' or 'write' (-EINVAL)"),
        ({"folio": "8KiB"}, f"scenario: folio='8KiB': is none of {', '.join(KINDS)} (-EINVAL)"),
        ({"iommu": "on"}, "scenario: iommu='on': input should be 'off', 'lazy' or 'strict' (-EINVAL)"),
        ({"buffer": "lost"}, "scenario: buffer='lost': input should be 'mapped', 'readonly' or 'unmapped' (-EINVAL)"),
        ({"version": 2}, "scenario: version='2': input should be 1 (-EINVAL)"),
        ({"size": 0}, "scenario: size='0': input should be greater than or equal to 1 (-EINVAL)"),
        ({"size": "1 parsec"}, "scenario: size='1parsec': could not interpret byte unit: parsec (-EINVAL)"),
        ({"size": "big"}, "scenario: size='big': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": "-1"}, "scenario: size='-1': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": None}, "scenario: size='None': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": math.inf}, "scenario: size='inf': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": math.nan}, "scenario: size='nan': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": [1]}, "scenario: size='[1]': could not parse value and unit from byte string (-EINVAL)"),
        ({"size": "2 TiB"}, "scenario: size='2 TiB': input should be less than or equal to 1099511627776 (-EINVAL)"),
        ({"offset": -512}, "scenario: offset='-512': could not parse value and unit from byte string (-EINVAL)"),
        ({"ram": "1 MiB"}, "scenario: ram='1 MiB': input should be greater than or equal to 67108864 (-EINVAL)"),
        ({"fragmentation": 1.1}, "scenario: fragmentation='1.1': input should be less than or equal to 1 (-EINVAL)"),
        (
            {"fragmentation": -0.1},
            "scenario: fragmentation='-0.1': input should be greater than or equal to 0 (-EINVAL)",
        ),
        (
            {"fragmentation": math.nan},
            "scenario: fragmentation='nan': input should be less than or equal to 1 (-EINVAL)",
        ),
        ({"seed": -1}, "scenario: seed='-1': input should be greater than or equal to 0 (-EINVAL)"),
        ({"seed": math.inf}, "scenario: seed='inf': input should be a finite number (-EINVAL)"),
        ({"skew": 4096}, "scenario: skew='4096': input should be less than 4096 (-EINVAL)"),
        ({"count": 0}, "scenario: count='0': input should be greater than or equal to 1 (-EINVAL)"),
        ({"colour": "red"}, "scenario: colour='red': extra inputs are not permitted (-EINVAL)"),
        (
            {"size": "2 GiB", "ram": "1 GiB"},
            "scenario: it cannot be: size=2 GiB does not fit into ram=1 GiB (-EINVAL)",
        ),
    ],
)
def test_nonsense_is_refused_in_one_sentence(values, sentence):
    assert refusal(values) == sentence


def test_a_sentence_does_not_repeat_a_novel():
    sentence = refusal({"seed": "9" * 10_000})
    assert sentence.startswith(f"scenario: seed='{'9' * 80}': ")
    assert len(sentence) < 250


def test_a_scenario_is_read_from_toml_and_from_json(tmp_path):
    toml, js = tmp_path / "run.toml", tmp_path / "run.json"
    toml.write_text('size = "64 KiB"\nsystem = "page"\n')
    js.write_text('{"size": "64 KiB", "system": "page"}')
    assert Scenario.load(toml) == Scenario.load(js) == Scenario(size=65536, system="page")


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("broken.json", b'{"size": ', "is broken: Expecting value: line 1 column 10 (char 9) (-EINVAL)"),
        ("broken.toml", b"size = ", "is broken: Invalid value (at end of document) (-EINVAL)"),
        ("list.json", b"[1, 2]", "is not a table of names and values (-EINVAL)"),
        ("text.json", b'"phyr"', "is not a table of names and values (-EINVAL)"),
        ("bytes.toml", b"\xff\xfe", "is broken: 'utf-8' codec can't decode byte 0xff in position 0: "),
        ("bytes.json", b"\xff\xfe", "is broken: 'utf-8' codec can't decode byte 0xff in position 0: "),
        ("deep.json", b"[" * 100_000, "is broken: "),
        ("deep.toml", b"a = " + b"[" * 100_000, "is broken: "),
        ("empty.json", b"", "is broken: Expecting value: line 1 column 1 (char 0) (-EINVAL)"),
        ("digits.json", b'{"seed": ' + b"9" * 5000 + b"}", "is broken: Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_in_one_sentence(tmp_path, name, content, rule):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"scenario: {path} {rule}")
    assert sentence.endswith("(-EINVAL)")
    assert "\n" not in sentence


def test_a_file_that_cannot_be_read_keeps_the_errno_of_the_system(tmp_path):
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(tmp_path / "none.toml")
    assert str(caught.value) == f"scenario: {tmp_path}/none.toml cannot be read: No such file or directory (-ENOENT)"
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(tmp_path)
    assert caught.value.errno_name == "-EISDIR"


def test_values_of_a_file_are_checked_like_any_others(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("size = inf\n")
    with pytest.raises(ScenarioError, match=r"size='inf': could not parse"):
        Scenario.load(path)


@pytest.mark.parametrize(("op", "errno_name"), [("write", "-ENOSPC"), ("read", "-EINVAL")])
def test_a_file_that_no_device_can_hold_is_refused(op, errno_name):
    scenario = Scenario.of({"op": op, "size": 4096, "offset": 8192, "fs": "ext4"})
    scenario.check_device(12288)
    Scenario.of({"op": op, "size": 4096, "offset": 8192}).check_device(8192)
    with pytest.raises(ScenarioError) as caught:
        scenario.check_device(12287)
    assert str(caught.value) == (
        f"scenario: offset=8192 + size=4096 ends beyond the device of 12.0 KiB (DIO-1) ({errno_name})"
    )


def test_bytes_are_parsed_in_the_name_of_whoever_asks():
    assert parse_bytes("mmap", "length", "1 MiB") == 1048576
    assert parse_bytes("mmap", "length", -5) == -5
    with pytest.raises(BadInput) as caught:
        parse_bytes("pread64", "count", "much")
    assert str(caught.value) == "pread64: count='much' is not a number of bytes such as 4096 or '1 MiB' (-EINVAL)"
