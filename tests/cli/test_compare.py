"""`labkit compare` as a user calls it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LABKIT = shutil.which("labkit", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(LABKIT is None, reason="the labkit command is not installed beside this Python")


def labkit(*args):
    return subprocess.run([LABKIT, *args], capture_output=True, text=True, timeout=120, check=False)


def test_sixteen_mebibytes_of_fragmented_memory_are_one_json_object():
    done = labkit("compare", "--size", "16MiB", "--fragmentation", "0.8", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (told["equal"], told["differences"]) == (True, [])
    assert {name: row["result"] for name, row in told["systems"].items()} == dict.fromkeys(
        ("page", "phyr", "unified"), 16 << 20
    )
    assert all(row["verified"] for row in told["systems"].values())
    assert told["systems"]["phyr"]["struct_pages_below_dio"] == 0
    assert told["systems"]["page"]["struct_pages_below_dio"] > 0
    assert told["systems"]["phyr"]["ratios"]["gup"]["struct_pages"] == 0
    assert (told["scenario"]["size"], told["scenario"]["fragmentation"]) == (16 << 20, 0.8)


def test_the_terminal_gets_a_table_and_a_verdict():
    done = labkit("compare", "--size", "64KiB", "--systems", "page, phyr")
    assert (done.returncode, done.stderr) == (0, "")
    assert "struct pages" in done.stdout
    assert "✓ results: page 65536, phyr 65536" in done.stdout
    assert "unified" not in done.stdout


def test_what_stays_mapped_is_told_below_the_verdict():
    done = labkit("compare", "--size", "64KiB", "--systems", "phyr,premapped")
    assert (done.returncode, done.stderr) == (0, "")
    assert "– premapped: 64 KiB stays in place, 64 KiB of it mapped for one device" in done.stdout


def test_a_known_difference_is_told_and_is_no_failure():
    done = labkit("compare", "--size", "16KiB", "--folio", "gpu")
    assert done.returncode == 0
    assert "✓ results: page -EFAULT, phyr 16384, unified -EFAULT" in done.stdout
    assert done.stdout.count("gpu memory is nothing that pages can do IO with (data/kinds.toml)") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            "--systems nonsense",
            "compare: systems=nonsense are not some of page, phyr, unified, premapped, each once (-EINVAL)",
        ),
        (
            "--systems page,page",
            "compare: systems=page,page are not some of page, phyr, unified, premapped, each once (-EINVAL)",
        ),
        (
            "--systems [bold]",
            "compare: systems=[bold] are not some of page, phyr, unified, premapped, each once (-EINVAL)",
        ),
        ("--size 0", "scenario: size='0': input should be greater than or equal to 1 (-EINVAL)"),
        ("--system page", "labkit: No such option: --system"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_exit_code_2(args, sentence):
    done = labkit("compare", *args.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
