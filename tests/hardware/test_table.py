import pytest

from labkit.errors import BadInput
from labkit.hardware.nvme_ssd import Profile
from labkit.hardware.table import numbers
from labkit.machine import DATA


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


@pytest.mark.parametrize("line", ["value = 32", "value = 7.2"])
def test_a_profile_without_one_of_its_values_is_refused(tmp_path, line):
    text = (DATA / "nvme.toml").read_text()
    (tmp_path / "p.toml").write_text(text.replace(line, "value = -1"))
    with pytest.raises(BadInput, match=r"hardware: p\.toml: (dies needs value as int|link_bytes_per_ns needs)"):
        Profile.load(tmp_path / "p.toml")
