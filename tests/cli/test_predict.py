"""`labkit predict` as a user calls it: text, JSON, what differs, what cannot be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LABKIT = shutil.which("labkit", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(LABKIT is None, reason="the labkit command is not installed beside this Python")
CAPTURES = Path(__file__).parents[2] / "data" / "captures"
PAGE, EINVAL, PEER = (CAPTURES / name for name in ("01-one-page-read.json", "03-8k-at-256-einval.json",
                                                   "nvme/022-7.3-strict-badalign.json"))  # fmt: skip


def labkit(*args):
    return subprocess.run([LABKIT, "predict", *map(str, args)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def changed(tmp_path):
    """Write a capture of one page with some things changed; return where."""

    def write(**values):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(json.loads(PAGE.read_text()) | values))
        return path

    return write


def test_a_capture_is_told_as_text():
    done = labkit(PAGE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "01-one-page-read: pread of 4 KiB at 0 on loop0, by kernel 6.18 rules",
        "  result    4096",
        "  bios      1",
        "    sector 0, 4 KiB in 1 vector: 0x279f53000+4096",
        "  splits    0",
        "  requests  1",
        "    sector 0, 8 sectors",
        "  events    5",
        "    block_bio_queue 0 8",
        "    block_getrq 0 8",
        "    block_plug",
        "    block_unplug 1",
        "    block_rq_issue 0 8",
    ]


def test_a_split_is_told_with_its_rule():
    told = labkit(CAPTURES / "05-1m-random-4k.json").stdout
    assert "    sector 2048 ends at 3072: 128 segments are all that max_segments=128 allows (SPLIT-3d)\n" in told


def test_of_a_long_list_the_middle_is_left_out():
    told = labkit(CAPTURES / "37-tag-starvation.json").stdout
    assert "  requests  " in told
    assert " more\n" in told
    assert "the order of requests and events is not certain (R15, R16)" in told
    assert len(told.splitlines()) < 60


def test_json_is_one_object_by_id():
    done = labkit("--json", PAGE, EINVAL, PEER)
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert told["01-one-page-read"] == {
        "result": [4096], "bios": [[0, [[0x279F53000, 4096]]]], "splits": [], "requests": [[0, 8]],
        "events": [["block_bio_queue", 0, 8], ["block_getrq", 0, 8], ["block_plug"], ["block_unplug", 1],
                   ["block_rq_issue", 0, 8]],
        "ordered": True, "merges": True, "kernel": "6.18", "proven": True,
    }  # fmt: skip
    assert [row["result"] for row in told.values()] == [[4096], ["-EINVAL"], [-22]]


def test_the_commands_of_a_drive_are_told_too():
    path = CAPTURES / "nvme" / "105-7.3-none-8kthp2048.json"
    assert json.loads(labkit("--json", path).stdout)["105-7.3-none-8kthp2048"]["nvme"] == [
        {"slba": 0, "bytes": 8192, "encoding": "sgl1", "addrs": [[0x6E00800, 8192]]}
    ]
    assert "  commands  1\n    block 0, 8 KiB, sgl1: 0x6e00800+8192\n" in labkit(path).stdout


def test_every_capture_of_the_lab_checks_exactly():
    done = labkit("--check", *sorted(CAPTURES.rglob("*.json")))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "59 captures: 59 exact, 0 differ"


def test_a_directory_stands_for_all_captures_below_it(changed):
    done = labkit("--check", changed().parent, CAPTURES / "nvme")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "01-one-page-read: exact"
    assert done.stdout.splitlines()[-1] == "37 captures: 37 exact, 0 differ"


def test_what_differs_is_a_line_and_exit_code_1(changed):
    done = labkit("--check", EINVAL, changed(result=[512]))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "03-8k-at-256-einval: exact",
        "01-one-page-read: result[0]: predicted 4096, recorded 512",
        "2 captures: 1 exact, 1 differ",
    ]


def test_what_differs_is_in_the_json_too(changed):
    done = labkit("--check", "--json", changed(result=[512]))
    assert done.returncode == 1
    told = json.loads(done.stdout)["01-one-page-read"]
    assert told["residual"] == ["01-one-page-read: result[0]: predicted 4096, recorded 512"]


def test_an_unknown_kernel_is_said_to_be_unproven(changed):
    path = changed(kernel="6.99.1")
    assert "by kernel 6.18 rules (unproven: 6.99.1 was never measured)" in labkit(path).stdout
    assert json.loads(labkit("--json", path).stdout)["01-one-page-read"]["proven"] is False


def test_nothing_recorded_is_said_and_exit_code_2(changed):
    path = changed(result=None, bios=None, events=None)
    assert labkit(path).returncode == 0
    done = labkit("--check", path)
    sentence = "capture: 01-one-page-read has nothing recorded to compare with (-ENODATA)"
    assert (done.returncode, done.stderr) == (2, sentence + "\n")


def test_what_cannot_be_is_a_sentence_and_the_others_go_on(changed, tmp_path):
    broken, empty = changed(io=[]), tmp_path / "empty"
    empty.mkdir()
    done = labkit("--json", broken, EINVAL, empty, "/dev/zero")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert [list(row) == ["error"] for row in told.values()] == [True, False, True, True]
    assert done.stderr.splitlines() == [
        f"capture: {broken} is broken at io: list should have at least 1 item after validation, not 0 (-EINVAL)",
        f"capture: {empty} is not a regular file (-EISDIR)",
        "capture: /dev/zero is not a regular file (-EINVAL)",
    ]


def test_two_captures_of_one_id_are_refused(changed):
    done = labkit("--check", PAGE, changed())
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "2 captures: 1 exact, 0 differ, 1 refused"
    assert done.stderr.endswith("changed.json has the id 01-one-page-read, as another one before it (-EINVAL)\n")


def test_no_capture_at_all_is_refused():
    done = labkit()
    assert done.returncode == 2
    assert done.stderr.startswith("labkit: Missing parameter: captures;")
