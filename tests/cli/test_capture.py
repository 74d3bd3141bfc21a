"""`labkit capture` as a user calls it."""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from labkit.cli import capture
from labkit.host.calls import loop_ioctl, mounts
from labkit.host.probe import probe
from labkit.witness import host_source, outcome

LABKIT = shutil.which("labkit", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(LABKIT is None, reason="the labkit command is not installed beside this Python")
QUEUE = ("scheduler", "max_sectors_kb", "nomerges")
KILLS = 10
SHM = "/dev/shm"  # noqa: S108 - where --tmpfs has its files


def labkit(*args, command="capture"):
    return subprocess.run([LABKIT, command, *args], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def real():
    """Skip where nobody may trace."""
    for name in ("loop", "tracefs", "pagemap"):
        if not (finding := probe()[name]).ok:
            pytest.skip(f"{finding.reason}; {finding.remedy}")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--op", "trim"), "op='trim' is none of read, write"),
        (("--buffer", "gold"), "buffer='gold' is none of 4KiB, "),
        (("--api", "aio"), "api='aio' is none of pread, preadv, io_uring, io_uring-fixed"),
        (("--fs", "btrfs"), "fs='btrfs' is none of raw, ext4, xfs"),
        (("--count", "0"), "count=0 is no number from 1 to 100000"),
        (("--sector-size", "513"), "sector-size=513 is none of 0, 512, 1024, 2048, 4096"),
        (("--nomerges", "3"), "nomerges=3 is none of 0, 1, 2"),
        (("--max-sectors-kb", "-1"), "max-sectors-kb=-1 is no number of KiB"),
        (("-o", "capture.txt"), "ends neither in .json nor in .json.gz"),
        (("-o", "no/such/place/x.json"), "lies in a directory that is not there"),
        (("--count", "5", "--size", "1MiB"), "size=1MiB is for one IO, and count=5 asks for random ones"),
        (("--count", "5", "--nomerges", "2"), "nomerges=2 is for one IO"),
        (("--size", "much"), "size='much' is not a number of bytes"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(args, sentence):
    done = labkit(*args)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("real")
def test_one_io_is_kept_as_a_capture_that_predict_and_export_and_run_take(tmp_path):
    out = tmp_path / "one.json.gz"
    done = labkit("--size", "256KiB", "--max-sectors-kb", "64", "--bios", "--check", "-o", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 IOs exact" in done.stdout
    assert "block_split sector=0 new_sector=128" in done.stdout
    assert labkit("--check", str(out), command="predict").stdout.splitlines()[-1].startswith("1 capture: 1 exact")
    assert labkit("--like", str(out), command="run").returncode == 0
    page = tmp_path / "one.html"
    assert labkit("-o", str(page), "--trace", str(out), command="export").returncode == 0
    assert "measured" in page.read_text()


@pytest.mark.usefixtures("real")
def test_many_are_held_against_their_predictions_and_kept_in_a_directory(tmp_path):
    out = tmp_path / "many"
    done = labkit("--count", "110", "--seed", "5", "--check", "--json", "-o", str(out))
    told = json.loads(done.stdout)
    assert (done.returncode, told["exact"], told["count"]) == (0, 110, 110)
    assert told["rates"]["requests"] == [110, 110]
    assert {row["limits"]["logical_block_size"] for row in told["outcomes"]} == {512, 4096}
    assert len(list(out.iterdir())) == 110
    assert labkit("--check", str(out), command="predict").stdout.strip().endswith("110 captures: 110 exact, 0 differ")


@pytest.mark.usefixtures("real")
def test_a_kernel_that_is_not_known_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(host_source, "kernel_version", lambda: "6.19.0")
    assert capture.capture_io(capture.Wish(count=30, api="pread"), out=None, check=True, json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["proven"]
    assert "folio_bound" in told["unproven"]
    assert told["fits"][0]["kernel"] in {"6.12", "6.18"}
    assert capture.capture_io(capture.Wish(count=5), out=None, check=True, json=False) == 0
    assert "none of the kernels that the rules were proven on" in capsys.readouterr().out


@pytest.mark.usefixtures("real")
def test_a_prediction_that_fails_is_exit_code_1_and_told_in_full(monkeypatch, capsys):
    monkeypatch.setattr(outcome, "predict", lambda capture, real=outcome.predict: real(capture)._replace(requests=[]))
    assert capture.capture_io(capture.Wish(count=1), out=None, check=True, json=False) == 1
    said = capsys.readouterr().out
    assert "the first that differs: pread of 65536 B, 4KiB-shuffled buffer" in said
    assert "requests[0]: predicted nothing, recorded 0+128" in said


def state():
    """What a capture changes in this machine: settings, devices, mounts, instances, files."""
    files = [path for place in (tempfile.gettempdir(), "/run", SHM) for path in Path(place).glob("labkit-*/*")]
    return (
        {str(path): path.read_text() for name in QUEUE for path in Path("/sys/block").glob(f"loop*/queue/{name}")},
        {str(path): path.read_text() for path in Path("/sys/kernel/mm/transparent_hugepage").rglob("*enabled")},
        [path for _, path in loop_ioctl.attached() if "labkit" in path],
        [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/dev/loop" in line],
        sorted(path.name for path in (mounts.tracefs() / "instances").iterdir()),
        sorted(files),
    )


@pytest.mark.usefixtures("real")
def test_captures_that_are_killed_at_any_moment_leave_nothing_after_the_next_doctor():
    chance, before = random.Random(11), state()
    for at in range(KILLS):
        more = chance.choice((["--fs", "ext4"], ["--api", "io_uring-fixed"], ["--tmpfs"], ["--bios"], []))
        child = subprocess.Popen(
            [LABKIT, "capture", "--count", "4000", "--seed", str(at + 1), *more],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(chance.uniform(0.5, 3.0))
        child.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        assert "Traceback" not in child.communicate(timeout=60)[1]
    assert labkit(command="doctor").returncode == 0
    assert state() == before
