import math
from dataclasses import dataclass

import pytest

from labkit.errors import BadInput
from labkit.hardware.table import numbers, profile


@dataclass
class Part:
    nbytes: int
    rate: float
    servers: int


WHOLE = """
[nbytes]
value = 1024
origin = "ours"
[rate]
value = 2.5
origin = "ours"
[servers]
value = 3
origin = "ours"
[depth]
value = 64
origin = "ours: of another part"
"""


def load(folder, **overrides):
    (folder / "a.toml").write_text(WHOLE)
    return profile(Part, folder / "a.toml", overrides, {"servers": (1, 8), "rate": (0.001, 100)})


def refusal(path):
    with pytest.raises(BadInput) as caught:
        numbers(path, "ns", {"pin": int})
    return str(caught.value)


def test_a_file_that_is_missing_or_broken_is_one_sentence(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[pin\n")
    assert "bad.toml cannot be read: " in refusal(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refusal(tmp_path / "bytes.toml")


def test_what_is_asked_for_is_returned_and_the_rest_ignored(tmp_path):
    (tmp_path / "a.toml").write_text('[pin]\nns = 15\norigin = "x"\n[other]\n')
    assert numbers(tmp_path / "a.toml", "ns", {"pin": int}) == {"pin": 15}


def test_a_profile_is_filled_from_its_file_and_what_is_given_goes_before(tmp_path):
    assert load(tmp_path) == Part(1024, 2.5, 3)
    assert load(tmp_path, servers=5, rate=4, nbytes=2048.0) == Part(2048, 4.0, 5)
    assert [type(n) for n in vars(load(tmp_path, rate=4, nbytes=2048.0)).values()] == [int, float, int]


def test_a_number_of_another_part_of_the_device_is_none_of_this_one_s_business(tmp_path):
    assert load(tmp_path, depth=-5) == Part(1024, 2.5, 3)


def test_an_unknown_number_is_told_with_those_that_are_known(tmp_path):
    rule = r"^profile: 'wings' is not one of depth, nbytes, rate, servers in a\.toml \(-EINVAL\)$"
    with pytest.raises(BadInput, match=rule):
        load(tmp_path, wings=2)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("servers", 0, "is not a whole number from 1 to 8"),
        ("servers", 2.5, "is not a whole number from 1 to 8"),
        ("servers", True, "is not a whole number from 1 to 8"),
        ("rate", 0, "is not a number from 0.001 to 100"),
        ("rate", -1.5, "is not a number from 0.001 to 100"),
        ("rate", math.nan, "is not a number from 0.001 to 100"),
        ("rate", math.inf, "is not a number from 0.001 to 100"),
        ("rate", 1 << 2000, "is not a number from 0.001 to 100"),
        ("nbytes", 1000, "is not a multiple of 512"),
        ("nbytes", 0, "is not a whole number from 512 to 4398046511104"),
        ("nbytes", 1 << 62, "is not a whole number from 512 to 4398046511104"),
    ],
)
def test_nonsense_is_one_sentence(tmp_path, name, value, rule):
    with pytest.raises(BadInput) as caught:
        load(tmp_path, **{name: value})
    assert str(caught.value) == f"profile: {f'a.toml: {name}={value}'[:80]} {rule} (-EINVAL)"


@pytest.mark.parametrize("line", ["value = 3", "value = 2.5"])
def test_a_file_without_one_of_its_numbers_is_refused(tmp_path, line):
    (tmp_path / "p.toml").write_text(WHOLE.replace(line, "value = -1"))
    with pytest.raises(BadInput, match=r"hardware: p\.toml: (servers needs value as int|rate needs)"):
        profile(Part, tmp_path / "p.toml")
