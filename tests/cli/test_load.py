"""`labkit load` as a user calls it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LABKIT = shutil.which("labkit", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(LABKIT is None, reason="the labkit command is not installed beside this Python")


def labkit(*args):
    return subprocess.run([LABKIT, "load", *args], capture_output=True, text=True, timeout=60, check=False)


def test_json_tells_what_was_offered_and_what_came_of_it():
    done = labkit("--device", "virtio", "--jobs", "2", "--depth", "4", "--count", "300", "--read", "0.5", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["ios"], told["errors"], told["verified"]) == (300, {}, True)
    assert (told["load"]["depth"], told["load"]["count"], told["scenario"]["device"]) == (4, 300, "virtio")
    assert told["depth"]["max"] == 8
    assert sum(times for _, _, times in told["histogram"]) == 300


def test_the_seed_is_that_of_the_machine():
    one, other = (
        json.loads(labkit("--count", "50", "--depth", "8", "--seed", seed, "--json").stdout) for seed in ("7", "8")
    )
    assert (one["load"]["seed"], one["scenario"]["seed"]) == (7, 7)
    assert one["histogram"] != other["histogram"]


def test_a_terminal_sees_a_table_and_a_line_of_bars():
    done = labkit("--count", "200", "--depth", "16", "--size", "512,4KiB", "--sequential")
    assert done.returncode == 0
    assert "every one compared" in done.stdout
    assert "█" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--depth", "0"), "load: depth=0 is not from 1 to 65536 (-EINVAL)\n"),
        (("--arrivals", "poisson"), "load: arrivals=poisson needs a rate of IOs a second (-EINVAL)\n"),
        (("--size", "big"), "load: size='big' is not a number of bytes such as 4096 or '1 MiB' (-EINVAL)\n"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(args, sentence):
    done = labkit(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == sentence
